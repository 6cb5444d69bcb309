//! Compatibility levels and modes, of the namespace and of single subjects.

use std::sync::Arc;

use axum::extract::{Path, State};
use schemas::{Denied, Level, Mode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    Admin, Desk, Json, Reader,
    answer::{Failure, RegistryResult, Said},
    query::Query,
    subject,
};

/// `PUT /config` as clients send it.
#[derive(Debug, Deserialize)]
pub(super) struct SentLevel {
    #[serde(alias = "compatibilityLevel")]
    compatibility: Option<String>,
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

/// `PUT /mode` as clients send it.
#[derive(Debug, Deserialize)]
pub(super) struct SentMode {
    mode: String,
}

impl SentMode {
    fn accept(&self) -> Result<Mode, Failure> {
        Mode::parse(&self.mode).ok_or_else(|| {
            let why = "`mode` is READWRITE or READONLY; IMPORT, which would give ids to schemas that \
                       others may have, does not exist here";
            Failure::InvalidMode(why.into())
        })
    }
}

/// `GET /config`
pub(super) async fn level(State(desk): State<Arc<Desk>>, reader: Reader) -> RegistryResult<Value> {
    let level = desk.look(&reader).await?.own_level().unwrap_or_default();
    Ok(Said(json!({ "compatibilityLevel": level.name() })))
}

/// `GET /config/{subject}`
pub(super) async fn subject_level(
    State(desk): State<Arc<Desk>>,
    reader: Reader,
    Path(name): Path<String>,
    query: Query,
) -> RegistryResult<Value> {
    let (name, view) = (subject(&name)?, desk.look(&reader).await?);
    let own = view.subject_level(name);
    let level = own.or_else(|| query.default_to_global.then(|| view.level(name)));
    let level = level.ok_or_else(|| Denied::NoLevel(name.to_owned()))?;
    Ok(Said(json!({ "compatibilityLevel": level.name() })))
}

/// `PUT /config`
pub(super) async fn set_level(
    State(desk): State<Arc<Desk>>,
    admin: Admin,
    Json(sent): Json<SentLevel>,
) -> RegistryResult<Value> {
    let level = sent.accept()?;
    change_level(&desk, admin, None, Some(level)).await?;
    Ok(Said(json!({ "compatibility": level.name() })))
}

/// `PUT /config/{subject}`
pub(super) async fn set_subject_level(
    State(desk): State<Arc<Desk>>,
    admin: Admin,
    Path(name): Path<String>,
    Json(sent): Json<SentLevel>,
) -> RegistryResult<Value> {
    let level = sent.accept()?;
    change_level(&desk, admin, Some(subject(&name)?.to_owned()), Some(level)).await?;
    Ok(Said(json!({ "compatibility": level.name() })))
}

/// `DELETE /config`
pub(super) async fn reset_level(
    State(desk): State<Arc<Desk>>,
    admin: Admin,
) -> RegistryResult<Value> {
    let before = change_level(&desk, admin, None, None).await?;
    Ok(Said(json!({ "compatibilityLevel": before.name() })))
}

/// `DELETE /config/{subject}`
pub(super) async fn reset_subject_level(
    State(desk): State<Arc<Desk>>,
    admin: Admin,
    Path(name): Path<String>,
) -> RegistryResult<Value> {
    let before = change_level(&desk, admin, Some(subject(&name)?.to_owned()), None).await?;
    Ok(Said(json!({ "compatibilityLevel": before.name() })))
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

/// `GET /mode`
pub(super) async fn mode(State(desk): State<Arc<Desk>>, reader: Reader) -> RegistryResult<Value> {
    let mode = desk.look(&reader).await?.own_mode().unwrap_or_default();
    Ok(Said(json!({ "mode": mode.name() })))
}

/// `GET /mode/{subject}`
pub(super) async fn subject_mode(
    State(desk): State<Arc<Desk>>,
    reader: Reader,
    Path(name): Path<String>,
    query: Query,
) -> RegistryResult<Value> {
    let (name, view) = (subject(&name)?, desk.look(&reader).await?);
    let own = view.subject_mode(name);
    let mode = own.or_else(|| query.default_to_global.then(|| view.mode(name)));
    let mode = mode.ok_or_else(|| Denied::NoMode(name.to_owned()))?;
    Ok(Said(json!({ "mode": mode.name() })))
}

/// `PUT /mode`
pub(super) async fn set_mode(
    State(desk): State<Arc<Desk>>,
    admin: Admin,
    Json(sent): Json<SentMode>,
) -> RegistryResult<Value> {
    let mode = sent.accept()?;
    change_mode(&desk, admin, None, Some(mode)).await?;
    Ok(Said(json!({ "mode": mode.name() })))
}

/// `PUT /mode/{subject}`
pub(super) async fn set_subject_mode(
    State(desk): State<Arc<Desk>>,
    admin: Admin,
    Path(name): Path<String>,
    Json(sent): Json<SentMode>,
) -> RegistryResult<Value> {
    let mode = sent.accept()?;
    change_mode(&desk, admin, Some(subject(&name)?.to_owned()), Some(mode)).await?;
    Ok(Said(json!({ "mode": mode.name() })))
}

/// `DELETE /mode/{subject}`
pub(super) async fn reset_subject_mode(
    State(desk): State<Arc<Desk>>,
    admin: Admin,
    Path(name): Path<String>,
) -> RegistryResult<Value> {
    let before = change_mode(&desk, admin, Some(subject(&name)?.to_owned()), None).await?;
    Ok(Said(json!({ "mode": before.name() })))
}

async fn change_mode(
    desk: &Desk,
    Admin(caller): Admin,
    subject: Option<String>,
    mode: Option<Mode>,
) -> Result<Mode, Failure> {
    let registry = desk.registry.clone();
    let change =
        async move { registry.set_mode(&caller.namespace, subject.as_deref(), mode).await };
    Ok(desk.change(change).await?.unwrap_or_default())
}
