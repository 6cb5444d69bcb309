//! Subjects and their versions.

use std::sync::Arc;

use axum::extract::State;
use schemas::{Reference, Registered, State as VersionState};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    Admin, Desk, Reader,
    answer::{MEDIA_TYPE_NAME, Refused, RegistryResult, Said},
    document::{Always, Unread},
    ids::{no_references, raw},
    query::{self, Query},
    request::{At, AtSubject, AtVersion, Json, Sent, draft, subject, version as named},
};

/// A version of a type's schema.
#[derive(Serialize, ToSchema)]
#[schema(as = SchemaVersion)]
pub(super) struct Shown {
    /// The type.
    #[schema(value_type = String)]
    subject: Arc<str>,
    version: u32,
    id: u32,
    /// Its JSON, as a text.
    #[schema(value_type = String)]
    schema: Arc<str>,
    /// What it uses of other types; absent where that is nothing.
    #[schema(value_type = Vec<Reference>, required = false)]
    #[serde(skip_serializing_if = "no_references")]
    references: Arc<[Reference]>,
    /// Absent where it was not.
    #[schema(required = false)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
}

/// What a schema was registered as.
#[derive(Serialize, ToSchema)]
#[schema(as = RegisteredSchema)]
pub(super) struct Numbers {
    id: u32,
    version: u32,
}

impl From<Arc<Registered>> for Shown {
    fn from(of: Arc<Registered>) -> Self {
        Self {
            subject: of.subject.clone(),
            version: of.version,
            id: of.id,
            schema: of.text.clone(),
            references: of.references.clone(),
            deleted: of.state != VersionState::Live,
        }
    }
}

/// The types that have schemas
#[utoipa::path(
    get, path = "/registry/subjects", tag = "schemas", operation_id = "subjects",
    params(query::Prefix, query::Deleted, query::Paged),
    responses(
        (status = 200, description = "Their names", body = Vec<String>, content_type = MEDIA_TYPE_NAME),
        Always,
    )
)]
pub(super) async fn list(
    State(desk): State<Arc<Desk>>,
    reader: Reader,
    query: Query,
) -> RegistryResult<Vec<Arc<str>>> {
    let subjects = desk.look(&reader).await?.subjects(&query.subject_prefix, query.show());
    Ok(Said(query.page(subjects)))
}

/// The versions of a type's schema
#[utoipa::path(
    get, path = "/registry/subjects/{subject}/versions", tag = "schemas", operation_id = "versions",
    params(AtSubject, query::Deleted, query::Paged),
    responses(
        (status = 200, description = "Their numbers", body = Vec<u32>, content_type = MEDIA_TYPE_NAME),
        (status = 404, description = "`40401`: no such type", body = Refused,
            content_type = MEDIA_TYPE_NAME),
        (status = 422, description = "`42208`: the type's name cannot be one", body = Refused,
            content_type = MEDIA_TYPE_NAME),
        Always,
    )
)]
pub(super) async fn versions(
    State(desk): State<Arc<Desk>>,
    reader: Reader,
    At(name): At<String>,
    query: Query,
) -> RegistryResult<Vec<u32>> {
    let versions = desk.look(&reader).await?.versions(subject(&name)?, query.show())?;
    Ok(Said(query.page(versions.iter().map(|v| v.version))))
}

/// A version of a type's schema
#[utoipa::path(
    get, path = "/registry/subjects/{subject}/versions/{version}", tag = "schemas", operation_id = "version",
    params(AtSubject, AtVersion, query::Deleted),
    responses(
        (status = 200, description = "The version", body = Shown, content_type = MEDIA_TYPE_NAME),
        (status = 404, description = "`40401`, `40402`: no such type or version", body = Refused,
            content_type = MEDIA_TYPE_NAME),
        (status = 422, description = "`42202`, `42208`: the version or the type cannot be one", body = Refused,
            content_type = MEDIA_TYPE_NAME),
        Always,
    )
)]
pub(super) async fn version(
    State(desk): State<Arc<Desk>>,
    reader: Reader,
    At((name, number)): At<(String, String)>,
    query: Query,
) -> RegistryResult<Shown> {
    let (name, number) = (subject(&name)?, named(&number)?);
    let found = desk.look(&reader).await?.version(name, number, query.show())?;
    Ok(Said(found.into()))
}

/// A version of a type's schema, as the JSON that it is
#[utoipa::path(
    get, path = "/registry/subjects/{subject}/versions/{version}/schema", tag = "schemas", operation_id = "version_text",
    params(AtSubject, AtVersion, query::Deleted),
    responses(
        (status = 200, description = "The schema", body = serde_json::Value, content_type = MEDIA_TYPE_NAME),
        (status = 404, description = "`40401`, `40402`: no such type or version", body = Refused,
            content_type = MEDIA_TYPE_NAME),
        (status = 422, description = "`42202`, `42208`: the version or the type cannot be one", body = Refused,
            content_type = MEDIA_TYPE_NAME),
        Always,
    )
)]
pub(super) async fn text(
    State(desk): State<Arc<Desk>>,
    reader: Reader,
    At((name, number)): At<(String, String)>,
    query: Query,
) -> RegistryResult<Box<RawValue>> {
    let (name, number) = (subject(&name)?, named(&number)?);
    let found = desk.look(&reader).await?.version(name, number, query.show())?;
    raw(&found)
}

/// The schemas that refer to a version
#[utoipa::path(
    get, path = "/registry/subjects/{subject}/versions/{version}/referencedby", tag = "schemas", operation_id = "referenced_by",
    params(AtSubject, AtVersion, query::Deleted, query::Paged),
    responses(
        (status = 200, description = "Ids of schemas", body = Vec<u32>, content_type = MEDIA_TYPE_NAME),
        (status = 404, description = "`40401`, `40402`: no such type or version", body = Refused,
            content_type = MEDIA_TYPE_NAME),
        (status = 422, description = "`42202`, `42208`: the version or the type cannot be one", body = Refused,
            content_type = MEDIA_TYPE_NAME),
        Always,
    )
)]
pub(super) async fn referenced_by(
    State(desk): State<Arc<Desk>>,
    reader: Reader,
    At((name, number)): At<(String, String)>,
    query: Query,
) -> RegistryResult<Vec<u32>> {
    let view = desk.look(&reader).await?;
    let found = view.version(subject(&name)?, named(&number)?, query.show())?;
    Ok(Said(query.page(view.referenced_by(&found))))
}

/// Register a schema as the next version of a type's
///
/// The same schema again changes nothing, and answers with the same numbers.
#[utoipa::path(
    post, path = "/registry/subjects/{subject}/versions", tag = "schemas", operation_id = "register_schema",
    params(AtSubject, query::Normalize),
    request_body(content(
        (Sent = MEDIA_TYPE_NAME),
        (Sent = "application/json")
    )),
    responses(
        (status = 200, description = "What it is registered as", body = Numbers, content_type = MEDIA_TYPE_NAME),
        (status = 409, description = "`409`: not compatible; the message says with what, and where", body = Refused,
            content_type = MEDIA_TYPE_NAME),
        (status = 422, description = "`42201`, `42208`: the schema or the type cannot be used; `42205`: an id or version of one's own; `422`: JSON of another shape; or the mode is READONLY", body = Refused,
            content_type = MEDIA_TYPE_NAME),
        Always, Unread,
    )
)]
pub(super) async fn register(
    State(desk): State<Arc<Desk>>,
    Admin(caller): Admin,
    At(name): At<String>,
    query: Query,
    Json(sent): Json<Sent>,
) -> RegistryResult<Numbers> {
    let name = subject(&name)?.to_owned();
    let (sent, registry) = (sent.accept()?, desk.registry.clone());
    let change = async move {
        let draft = draft(&sent, query.normalize);
        registry.register_draft(&caller.namespace, &name, &draft).await
    };
    let registered = desk.change(change).await?;
    Ok(Said(Numbers { id: registered.id, version: registered.version }))
}

/// The version of a type that is this schema
#[utoipa::path(
    post, path = "/registry/subjects/{subject}", tag = "schemas", operation_id = "look_up_schema",
    params(AtSubject, query::Normalize, query::LookedUp),
    request_body(content(
        (Sent = MEDIA_TYPE_NAME),
        (Sent = "application/json")
    )),
    responses(
        (status = 200, description = "The version", body = Shown, content_type = MEDIA_TYPE_NAME),
        (status = 404, description = "`40401`, `40403`: no such type, or the schema is none of its versions", body = Refused,
            content_type = MEDIA_TYPE_NAME),
        (status = 422, description = "`42201`, `42208`: the schema or the type cannot be used; `42205`: an id or version of one's own; `422`: JSON of another shape", body = Refused,
            content_type = MEDIA_TYPE_NAME),
        Always, Unread,
    )
)]
pub(super) async fn look_up(
    State(desk): State<Arc<Desk>>,
    reader: Reader,
    At(name): At<String>,
    query: Query,
    Json(sent): Json<Sent>,
) -> RegistryResult<Shown> {
    let (name, sent) = (subject(&name)?, sent.accept()?);
    let view = desk.look(&reader).await?;
    let found = view.find(name, &draft(&sent, query.normalize), query.show())?;
    Ok(Said(found.into()))
}

/// Hide all versions of a type, or delete them for good
#[utoipa::path(
    delete, path = "/registry/subjects/{subject}", tag = "schemas", operation_id = "delete_subject",
    params(AtSubject, query::Permanent),
    responses(
        (status = 200, description = "Their numbers", body = Vec<u32>, content_type = MEDIA_TYPE_NAME),
        (status = 404, description = "`40401`: no such type; `40404`: deleted already; `40405`: must be deleted without `permanent` first", body = Refused,
            content_type = MEDIA_TYPE_NAME),
        (status = 422, description = "`42208`: the type's name cannot be one; `42205`: the mode is READONLY; `42206`: other schemas refer to it", body = Refused,
            content_type = MEDIA_TYPE_NAME),
        Always,
    )
)]
pub(super) async fn delete(
    State(desk): State<Arc<Desk>>,
    Admin(caller): Admin,
    At(name): At<String>,
    query: Query,
) -> RegistryResult<Vec<u32>> {
    let (name, registry) = (subject(&name)?.to_owned(), desk.registry.clone());
    let change =
        async move { registry.delete_subject(&caller.namespace, &name, query.permanent).await };
    Ok(Said(desk.change(change).await?))
}

/// Hide a version, or delete it for good
#[utoipa::path(
    delete, path = "/registry/subjects/{subject}/versions/{version}", tag = "schemas", operation_id = "delete_version",
    params(AtSubject, AtVersion, query::Permanent),
    responses(
        (status = 200, description = "Its number", body = u32, content_type = MEDIA_TYPE_NAME),
        (status = 404, description = "`40401`, `40402`: no such type or version; `40406`: deleted already; `40407`: must be deleted without `permanent` first", body = Refused,
            content_type = MEDIA_TYPE_NAME),
        (status = 422, description = "`42202`, `42208`: the version or the type cannot be one; `42205`: the mode is READONLY; `42206`: other schemas refer to it", body = Refused,
            content_type = MEDIA_TYPE_NAME),
        Always,
    )
)]
pub(super) async fn delete_version(
    State(desk): State<Arc<Desk>>,
    Admin(caller): Admin,
    At((name, number)): At<(String, String)>,
    query: Query,
) -> RegistryResult<u32> {
    let (name, number) = (subject(&name)?.to_owned(), named(&number)?);
    let registry = desk.registry.clone();
    let change = async move {
        registry.delete_version(&caller.namespace, &name, number, query.permanent).await
    };
    Ok(Said(desk.change(change).await?))
}
