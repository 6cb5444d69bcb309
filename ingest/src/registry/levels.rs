//! Compatibility levels, of the namespace and of single subjects.

use std::sync::Arc;

use axum::extract::State;
use schemas::{Denied, Level};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    Admin, Desk, Reader,
    answer::{Failure, MEDIA_TYPE_NAME, Refused, RegistryResult, Said},
    document::{Always, Unread},
    query::{self, Query},
    request::{At, AtSubject, Json, subject},
};

/// A level to set.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = LevelToSet, example = json!({ "compatibility": "FULL_TRANSITIVE" }))]
pub(super) struct SentLevel {
    #[schema(value_type = Level)]
    #[serde(alias = "compatibilityLevel")]
    compatibility: Option<String>,
    #[schema(ignore)]
    #[serde(flatten)]
    more: Map<String, Value>,
}

impl SentLevel {
    fn accept(self) -> Result<Level, Failure> {
        // What would change nothing is what clients send for "not set".
        let set = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
        if let Some((name, _)) = self.more.iter().find(|(_, value)| set(value)) {
            let name: String = name.chars().take(64).collect();
            return Err(Failure::InvalidLevel(format!(
                "`{name}` cannot be configured here: `compatibility` can"
            )));
        }
        let level = self.compatibility.as_deref().and_then(Level::parse);
        level.ok_or_else(|| {
            let known = Level::ALL.map(Level::name).join(", ");
            Failure::InvalidLevel(format!("`compatibility` is one of {known}"))
        })
    }
}

/// A level that counts, or did before it was taken back.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ShownLevel)]
pub(super) struct ShownLevel {
    compatibility_level: Level,
}

/// A level that was set.
#[derive(Serialize, ToSchema)]
pub(super) struct SetLevel {
    compatibility: Level,
}

/// The compatibility level of the namespace
#[utoipa::path(
    get, path = "/registry/config", tag = "schemas", operation_id = "level",
    responses(
        (status = 200, description = "The level", body = ShownLevel, content_type = MEDIA_TYPE_NAME),
        Always,
    )
)]
pub(super) async fn level(
    State(desk): State<Arc<Desk>>,
    reader: Reader,
) -> RegistryResult<ShownLevel> {
    let level = desk.look(&reader).await?.own_level().unwrap_or_default();
    Ok(Said(ShownLevel { compatibility_level: level }))
}

/// The compatibility level of a type
#[utoipa::path(
    get, path = "/registry/config/{subject}", tag = "schemas", operation_id = "subject_level",
    params(AtSubject, query::DefaultToGlobal),
    responses(
        (status = 200, description = "The level", body = ShownLevel, content_type = MEDIA_TYPE_NAME),
        (status = 404, description = "`40408`: the type has no level of its own", body = Refused,
            content_type = MEDIA_TYPE_NAME),
        (status = 422, description = "`42208`: the type's name cannot be one", body = Refused,
            content_type = MEDIA_TYPE_NAME),
        Always,
    )
)]
pub(super) async fn subject_level(
    State(desk): State<Arc<Desk>>,
    reader: Reader,
    At(name): At<String>,
    query: Query,
) -> RegistryResult<ShownLevel> {
    let (name, view) = (subject(&name)?, desk.look(&reader).await?);
    let own = view.subject_level(name);
    let level = own.or_else(|| query.default_to_global.then(|| view.level(name)));
    let level = level.ok_or_else(|| Denied::NoLevel(name.to_owned()))?;
    Ok(Said(ShownLevel { compatibility_level: level }))
}

/// Set the compatibility level of the namespace
#[utoipa::path(
    put, path = "/registry/config", tag = "schemas", operation_id = "set_level",
    request_body(content(
        (SentLevel = MEDIA_TYPE_NAME),
        (SentLevel = "application/json")
    )),
    responses(
        (status = 200, description = "The level", body = SetLevel, content_type = MEDIA_TYPE_NAME),
        (status = 422, description = "`42203`: no such level, or a setting that does not exist here; `42205`: the mode is READONLY; `422`: JSON of another shape", body = Refused,
            content_type = MEDIA_TYPE_NAME),
        Always, Unread,
    )
)]
pub(super) async fn set_level(
    State(desk): State<Arc<Desk>>,
    admin: Admin,
    Json(sent): Json<SentLevel>,
) -> RegistryResult<SetLevel> {
    let level = sent.accept()?;
    change_level(&desk, admin, None, Some(level)).await?;
    Ok(Said(SetLevel { compatibility: level }))
}

/// Set the compatibility level of a type
#[utoipa::path(
    put, path = "/registry/config/{subject}", tag = "schemas", operation_id = "set_subject_level",
    params(AtSubject),
    request_body(content(
        (SentLevel = MEDIA_TYPE_NAME),
        (SentLevel = "application/json")
    )),
    responses(
        (status = 200, description = "The level", body = SetLevel, content_type = MEDIA_TYPE_NAME),
        (status = 422, description = "`42203`: no such level, or a setting that does not exist here; `42205`: the mode is READONLY; `422`: JSON of another shape; `42208`: the type's name cannot be one", body = Refused,
            content_type = MEDIA_TYPE_NAME),
        Always, Unread,
    )
)]
pub(super) async fn set_subject_level(
    State(desk): State<Arc<Desk>>,
    admin: Admin,
    At(name): At<String>,
    Json(sent): Json<SentLevel>,
) -> RegistryResult<SetLevel> {
    let level = sent.accept()?;
    change_level(&desk, admin, Some(subject(&name)?.to_owned()), Some(level)).await?;
    Ok(Said(SetLevel { compatibility: level }))
}

/// Take back the compatibility level of the namespace
#[utoipa::path(
    delete, path = "/registry/config", tag = "schemas", operation_id = "reset_level",
    responses(
        (status = 200, description = "What it was", body = ShownLevel, content_type = MEDIA_TYPE_NAME),
        (status = 422, description = "`42205`: the mode is READONLY", body = Refused,
            content_type = MEDIA_TYPE_NAME),
        Always,
    )
)]
pub(super) async fn reset_level(
    State(desk): State<Arc<Desk>>,
    admin: Admin,
) -> RegistryResult<ShownLevel> {
    let before = change_level(&desk, admin, None, None).await?;
    Ok(Said(ShownLevel { compatibility_level: before }))
}

/// Take back the compatibility level of a type
#[utoipa::path(
    delete, path = "/registry/config/{subject}", tag = "schemas", operation_id = "reset_subject_level",
    params(AtSubject),
    responses(
        (status = 200, description = "What it was", body = ShownLevel, content_type = MEDIA_TYPE_NAME),
        (status = 404, description = "`40408`: the type has no level of its own", body = Refused,
            content_type = MEDIA_TYPE_NAME),
        (status = 422, description = "`42205`: the mode is READONLY; `42208`: the type's name cannot be one", body = Refused,
            content_type = MEDIA_TYPE_NAME),
        Always,
    )
)]
pub(super) async fn reset_subject_level(
    State(desk): State<Arc<Desk>>,
    admin: Admin,
    At(name): At<String>,
) -> RegistryResult<ShownLevel> {
    let before = change_level(&desk, admin, Some(subject(&name)?.to_owned()), None).await?;
    Ok(Said(ShownLevel { compatibility_level: before }))
}

async fn change_level(
    desk: &Desk,
    Admin(caller): Admin,
    subject: Option<String>,
    level: Option<Level>,
) -> Result<Level, Failure> {
    let registry = desk.registry.clone();
    let change =
        async move { registry.set_level(&caller.namespace, subject.as_deref(), level).await };
    Ok(desk.change(change).await?.unwrap_or_default())
}
