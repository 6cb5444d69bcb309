//! Whether a schema could be registered, asked beforehand.

use std::sync::Arc;

use axum::extract::State;
use schemas::Against;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Desk, Reader,
    answer::{MEDIA_TYPE_NAME, Refused, RegistryResult, Said},
    document::{Always, Unread},
    query::{self, Query},
    request::{At, AtSubject, AtVersion, Json, Sent, draft, subject, version as named},
};

/// Whether a schema could become a version.
#[derive(Serialize, ToSchema)]
#[schema(as = Compatibility)]
pub(super) struct Compatible {
    is_compatible: bool,
    /// What is in its way, where `verbose` asks for it.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<Vec<String>>,
}

/// Whether a schema could be registered
#[utoipa::path(
    post, path = "/registry/compatibility/subjects/{subject}/versions", tag = "schemas", operation_id = "compatible",
    params(AtSubject, query::Normalize, query::Verbose),
    request_body(content(
        (Sent = MEDIA_TYPE_NAME),
        (Sent = "application/json")
    )),
    responses(
        (status = 200, description = "Whether it could", body = Compatible, content_type = MEDIA_TYPE_NAME),
        (status = 422, description = "`42201`, `42208`: the schema or the type cannot be used; `42205`: an id or version of one's own; `422`: JSON of another shape", body = Refused,
            content_type = MEDIA_TYPE_NAME),
        Always, Unread,
    )
)]
pub(super) async fn with_level(
    State(desk): State<Arc<Desk>>,
    reader: Reader,
    At(name): At<String>,
    query: Query,
    Json(sent): Json<Sent>,
) -> RegistryResult<Compatible> {
    check(&desk, &reader, &name, &query, sent, Against::Level).await
}

/// Whether a schema is compatible with one version
#[utoipa::path(
    post, path = "/registry/compatibility/subjects/{subject}/versions/{version}", tag = "schemas", operation_id = "compatible_with",
    params(AtSubject, AtVersion, query::Normalize, query::Verbose),
    request_body(content(
        (Sent = MEDIA_TYPE_NAME),
        (Sent = "application/json")
    )),
    responses(
        (status = 200, description = "Whether it is", body = Compatible, content_type = MEDIA_TYPE_NAME),
        (status = 404, description = "`40401`, `40402`: no such type or version", body = Refused,
            content_type = MEDIA_TYPE_NAME),
        (status = 422, description = "`42201`, `42208`: the schema or the type cannot be used; `42205`: an id or version of one's own; `422`: JSON of another shape; `42202`: the version cannot be one", body = Refused,
            content_type = MEDIA_TYPE_NAME),
        Always, Unread,
    )
)]
pub(super) async fn with_version(
    State(desk): State<Arc<Desk>>,
    reader: Reader,
    At((name, number)): At<(String, String)>,
    query: Query,
    Json(sent): Json<Sent>,
) -> RegistryResult<Compatible> {
    let against = Against::Version(named(&number)?);
    check(&desk, &reader, &name, &query, sent, against).await
}

async fn check(
    desk: &Desk,
    reader: &Reader,
    name: &str,
    query: &Query,
    sent: Sent,
    against: Against,
) -> RegistryResult<Compatible> {
    let (name, sent) = (subject(name)?, sent.accept()?);
    let view = desk.look(reader).await?;
    let clashes = view.check(name, &draft(&sent, query.normalize), against)?;
    let level = view.level(name).name();
    let told = clashes.iter().flat_map(|clash| {
        clash.details.iter().map(|what| format!("version {} ({level}): {what}", clash.version))
    });
    Ok(Said(Compatible {
        is_compatible: clashes.is_empty(),
        messages: query.verbose.then(|| told.collect()),
    }))
}
