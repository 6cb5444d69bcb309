//! Modes, of the namespace and of single subjects.

use std::sync::Arc;

use axum::extract::State;
use schemas::{Denied, Mode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Admin, Desk, Reader,
    answer::{Failure, MEDIA_TYPE_NAME, Refused, RegistryResult, Said},
    document::{Always, Unread},
    query::{self, Query},
    request::{At, AtSubject, Json, subject},
};

/// A mode to set.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ModeToSet, example = json!({ "mode": "READONLY" }))]
pub(super) struct SentMode {
    #[schema(value_type = Mode)]
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

/// A mode that counts, or did before it was taken back.
#[derive(Serialize, ToSchema)]
pub(super) struct ShownMode {
    mode: Mode,
}

/// The mode of the namespace
#[utoipa::path(
    get, path = "/registry/mode", tag = "schemas", operation_id = "mode",
    responses(
        (status = 200, description = "The mode", body = ShownMode, content_type = MEDIA_TYPE_NAME),
        Always,
    )
)]
pub(super) async fn mode(
    State(desk): State<Arc<Desk>>,
    reader: Reader,
) -> RegistryResult<ShownMode> {
    let mode = desk.look(&reader).await?.own_mode().unwrap_or_default();
    Ok(Said(ShownMode { mode }))
}

/// The mode of a type
#[utoipa::path(
    get, path = "/registry/mode/{subject}", tag = "schemas", operation_id = "subject_mode",
    params(AtSubject, query::DefaultToGlobal),
    responses(
        (status = 200, description = "The mode", body = ShownMode, content_type = MEDIA_TYPE_NAME),
        (status = 404, description = "`40409`: the type has no mode of its own", body = Refused,
            content_type = MEDIA_TYPE_NAME),
        (status = 422, description = "`42208`: the type's name cannot be one", body = Refused,
            content_type = MEDIA_TYPE_NAME),
        Always,
    )
)]
pub(super) async fn subject_mode(
    State(desk): State<Arc<Desk>>,
    reader: Reader,
    At(name): At<String>,
    query: Query,
) -> RegistryResult<ShownMode> {
    let (name, view) = (subject(&name)?, desk.look(&reader).await?);
    let own = view.subject_mode(name);
    let mode = own.or_else(|| query.default_to_global.then(|| view.mode(name)));
    let mode = mode.ok_or_else(|| Denied::NoMode(name.to_owned()))?;
    Ok(Said(ShownMode { mode }))
}

/// Set the mode of the namespace
#[utoipa::path(
    put, path = "/registry/mode", tag = "schemas", operation_id = "set_mode",
    request_body(content(
        (SentMode = MEDIA_TYPE_NAME),
        (SentMode = "application/json")
    )),
    responses(
        (status = 200, description = "The mode", body = ShownMode, content_type = MEDIA_TYPE_NAME),
        (status = 422, description = "`42204`: no such mode, or one that does not exist here; `422`: JSON of another shape", body = Refused,
            content_type = MEDIA_TYPE_NAME),
        Always, Unread,
    )
)]
pub(super) async fn set_mode(
    State(desk): State<Arc<Desk>>,
    admin: Admin,
    Json(sent): Json<SentMode>,
) -> RegistryResult<ShownMode> {
    let mode = sent.accept()?;
    change_mode(&desk, admin, None, Some(mode)).await?;
    Ok(Said(ShownMode { mode }))
}

/// Set the mode of a type
#[utoipa::path(
    put, path = "/registry/mode/{subject}", tag = "schemas", operation_id = "set_subject_mode",
    params(AtSubject),
    request_body(content(
        (SentMode = MEDIA_TYPE_NAME),
        (SentMode = "application/json")
    )),
    responses(
        (status = 200, description = "The mode", body = ShownMode, content_type = MEDIA_TYPE_NAME),
        (status = 422, description = "`42204`: no such mode, or one that does not exist here; `422`: JSON of another shape; `42208`: the type's name cannot be one", body = Refused,
            content_type = MEDIA_TYPE_NAME),
        Always, Unread,
    )
)]
pub(super) async fn set_subject_mode(
    State(desk): State<Arc<Desk>>,
    admin: Admin,
    At(name): At<String>,
    Json(sent): Json<SentMode>,
) -> RegistryResult<ShownMode> {
    let mode = sent.accept()?;
    change_mode(&desk, admin, Some(subject(&name)?.to_owned()), Some(mode)).await?;
    Ok(Said(ShownMode { mode }))
}

/// Take back the mode of a type
#[utoipa::path(
    delete, path = "/registry/mode/{subject}", tag = "schemas", operation_id = "reset_subject_mode",
    params(AtSubject),
    responses(
        (status = 200, description = "What it was", body = ShownMode, content_type = MEDIA_TYPE_NAME),
        (status = 404, description = "`40409`: the type has no mode of its own", body = Refused,
            content_type = MEDIA_TYPE_NAME),
        (status = 422, description = "`42208`: the type's name cannot be one", body = Refused,
            content_type = MEDIA_TYPE_NAME),
        Always,
    )
)]
pub(super) async fn reset_subject_mode(
    State(desk): State<Arc<Desk>>,
    admin: Admin,
    At(name): At<String>,
) -> RegistryResult<ShownMode> {
    let before = change_mode(&desk, admin, Some(subject(&name)?.to_owned()), None).await?;
    Ok(Said(ShownMode { mode: before }))
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
