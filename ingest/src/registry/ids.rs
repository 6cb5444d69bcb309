//! Schemas by id, and what the registry says of itself.

use std::sync::Arc;

use axum::extract::State;
use schemas::{Denied, Reference, Registered};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    Desk, Reader,
    answer::{Failure, MEDIA_TYPE_NAME, Refused, RegistryResult, Said},
    document::Always,
    query::{self, Query},
    request::At,
};

/// A schema by its id.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SchemaById)]
pub(super) struct ById {
    /// Its JSON, as a text.
    #[schema(value_type = String)]
    schema: Arc<str>,
    /// What it uses of other types; absent where that is nothing.
    #[schema(value_type = Vec<Reference>, required = false)]
    #[serde(skip_serializing_if = "no_references")]
    references: Arc<[Reference]>,
    /// The highest id, where `fetchMaxId` asks for it.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_id: Option<u32>,
}

/// A version that has an id.
#[derive(Serialize, ToSchema)]
#[schema(as = SchemaUse)]
pub(super) struct Use {
    #[schema(value_type = String)]
    subject: Arc<str>,
    version: u32,
}

/// What the registry calls itself.
#[derive(Serialize, ToSchema)]
#[schema(as = RegistryId)]
pub(super) struct Cluster {
    /// The caller's namespace.
    #[schema(value_type = String)]
    id: Arc<str>,
    scope: Scope,
}

/// What the id is one of.
#[derive(Serialize, ToSchema)]
#[schema(as = RegistryScope)]
pub(super) struct Scope {
    #[schema(value_type = Vec<String>)]
    path: [&'static str; 0],
    clusters: Clusters,
}

/// Names by kind.
#[derive(Serialize, ToSchema)]
#[schema(as = RegistryClusters)]
pub(super) struct Clusters {
    #[schema(value_type = String)]
    #[serde(rename = "schema-registry-cluster")]
    registry: &'static str,
}

/// The version of Penstock.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RegistryVersion)]
pub(super) struct Version {
    #[schema(value_type = String)]
    version: &'static str,
    /// Empty.
    #[schema(value_type = String)]
    commit_id: &'static str,
}

pub(super) fn no_references(references: &Arc<[Reference]>) -> bool {
    references.is_empty()
}

fn parse(id: &str) -> Result<u32, Failure> {
    id.parse().map_err(|_| Denied::SchemaNotFound.into())
}

/// A schema by the id in records
///
/// It answers also for what was deleted for good, since records may hold its id.
#[utoipa::path(
    get, path = "/registry/schemas/ids/{id}", tag = "schemas", operation_id = "schema_by_id",
    params(("id" = u32, Path, description = "An id", example = 1), query::MaxId),
    responses(
        (status = 200, description = "The schema", body = ById, content_type = MEDIA_TYPE_NAME),
        (status = 404, description = "`40403`: the namespace has no such schema", body = Refused,
            content_type = MEDIA_TYPE_NAME),
        Always,
    )
)]
pub(super) async fn schema(
    State(desk): State<Arc<Desk>>,
    reader: Reader,
    At(id): At<String>,
    query: Query,
) -> RegistryResult<ById> {
    let id = parse(&id)?;
    let answer = desk.look_for(&reader, |view| {
        let found = view.by_id(id)?;
        Ok::<_, Denied>(ById {
            schema: found.text.clone(),
            references: found.references.clone(),
            max_id: query.fetch_max_id.then(|| view.highest_id()).flatten(),
        })
    });
    Ok(Said(answer.await?))
}

/// A schema by its id, as the JSON that it is
#[utoipa::path(
    get, path = "/registry/schemas/ids/{id}/schema", tag = "schemas", operation_id = "schema_text_by_id",
    params(("id" = u32, Path, description = "An id", example = 1)),
    responses(
        (status = 200, description = "The schema", body = serde_json::Value, content_type = MEDIA_TYPE_NAME),
        (status = 404, description = "`40403`: the namespace has no such schema", body = Refused,
            content_type = MEDIA_TYPE_NAME),
        Always,
    )
)]
pub(super) async fn text(
    State(desk): State<Arc<Desk>>,
    reader: Reader,
    At(id): At<String>,
) -> RegistryResult<Box<RawValue>> {
    let id = parse(&id)?;
    let found = desk.look_for(&reader, |view| view.by_id(id)).await?;
    raw(&found)
}

/// A schema as the JSON that it is.
pub(super) fn raw(found: &Registered) -> RegistryResult<Box<RawValue>> {
    RawValue::from_string(found.text.to_string()).map(Said).map_err(|_| Failure::Internal)
}

/// The versions that have an id
#[utoipa::path(
    get, path = "/registry/schemas/ids/{id}/versions", tag = "schemas", operation_id = "versions_by_id",
    params(("id" = u32, Path, description = "An id", example = 1), query::OfSubject, query::Deleted, query::Paged),
    responses(
        (status = 200, description = "The versions", body = Vec<Use>, content_type = MEDIA_TYPE_NAME),
        (status = 404, description = "`40403`: the namespace has no such schema", body = Refused,
            content_type = MEDIA_TYPE_NAME),
        Always,
    )
)]
pub(super) async fn versions(
    State(desk): State<Arc<Desk>>,
    reader: Reader,
    At(id): At<String>,
    query: Query,
) -> RegistryResult<Vec<Use>> {
    let uses = desk.look(&reader).await?.uses(parse(&id)?, query.show())?;
    let uses = uses.iter().filter(|v| query.subject.as_deref().is_none_or(|s| s == &*v.subject));
    let pairs = uses.map(|v| Use { subject: v.subject.clone(), version: v.version });
    Ok(Said(query.page(pairs)))
}

/// The types that use an id
#[utoipa::path(
    get, path = "/registry/schemas/ids/{id}/subjects", tag = "schemas", operation_id = "subjects_by_id",
    params(("id" = u32, Path, description = "An id", example = 1), query::Deleted, query::Paged),
    responses(
        (status = 200, description = "The types", body = Vec<String>, content_type = MEDIA_TYPE_NAME),
        (status = 404, description = "`40403`: the namespace has no such schema", body = Refused,
            content_type = MEDIA_TYPE_NAME),
        Always,
    )
)]
pub(super) async fn subjects(
    State(desk): State<Arc<Desk>>,
    reader: Reader,
    At(id): At<String>,
    query: Query,
) -> RegistryResult<Vec<Arc<str>>> {
    let uses = desk.look(&reader).await?.uses(parse(&id)?, query.show())?;
    let mut subjects: Vec<_> = uses.iter().map(|version| version.subject.clone()).collect();
    subjects.dedup();
    Ok(Said(query.page(subjects)))
}

/// The kinds of schemas that can be registered
#[utoipa::path(
    get, path = "/registry/schemas/types", tag = "schemas", operation_id = "schema_types",
    responses((status = 200, description = "`AVRO`", body = [String], content_type = MEDIA_TYPE_NAME))
)]
pub(super) async fn types(_: Reader) -> Said<[&'static str; 1]> {
    Said(["AVRO"])
}

/// Which registry it is
///
/// The namespace is what a registry of another kind calls a cluster.
#[utoipa::path(
    get, path = "/registry/v1/metadata/id", tag = "schemas", operation_id = "registry_id",
    responses((status = 200, description = "The namespace", body = Cluster, content_type = MEDIA_TYPE_NAME))
)]
pub(super) async fn cluster(reader: Reader) -> Said<Cluster> {
    let scope = Scope { path: [], clusters: Clusters { registry: "penstock" } };
    Said(Cluster { id: reader.0.namespace, scope })
}

/// The version of the registry
#[utoipa::path(
    get, path = "/registry/v1/metadata/version", tag = "schemas", operation_id = "registry_version",
    responses((status = 200, description = "The version", body = Version, content_type = MEDIA_TYPE_NAME))
)]
pub(super) async fn version(_: Reader) -> Said<Version> {
    Said(Version { version: env!("CARGO_PKG_VERSION"), commit_id: "" })
}
