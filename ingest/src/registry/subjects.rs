//! Subjects and their versions.

use std::sync::Arc;

use axum::extract::{Path, State};
use schemas::{Reference, Registered, State as VersionState};
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};

use super::{
    Admin, Desk, Json, Reader, Sent,
    answer::{RegistryResult, Said},
    draft,
    ids::{no_references, raw},
    query::Query,
    subject, version as named,
};

/// A version as clients read it.
#[derive(Serialize)]
pub(super) struct Shown {
    subject: Arc<str>,
    version: u32,
    id: u32,
    schema: Arc<str>,
    #[serde(skip_serializing_if = "no_references")]
    references: Arc<[Reference]>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
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

/// `GET /subjects`
pub(super) async fn list(
    State(desk): State<Arc<Desk>>,
    reader: Reader,
    query: Query,
) -> RegistryResult<Vec<Arc<str>>> {
    let subjects = desk.look(&reader).await?.subjects(&query.subject_prefix, query.show());
    Ok(Said(query.page(subjects)))
}

/// `GET /subjects/{subject}/versions`
pub(super) async fn versions(
    State(desk): State<Arc<Desk>>,
    reader: Reader,
    Path(name): Path<String>,
    query: Query,
) -> RegistryResult<Vec<u32>> {
    let versions = desk.look(&reader).await?.versions(subject(&name)?, query.show())?;
    Ok(Said(query.page(versions.iter().map(|v| v.version))))
}

/// `GET /subjects/{subject}/versions/{version}`
pub(super) async fn version(
    State(desk): State<Arc<Desk>>,
    reader: Reader,
    Path((name, number)): Path<(String, String)>,
    query: Query,
) -> RegistryResult<Shown> {
    let (name, number) = (subject(&name)?, named(&number)?);
    let found = desk.look(&reader).await?.version(name, number, query.show())?;
    Ok(Said(found.into()))
}

/// `GET /subjects/{subject}/versions/{version}/schema`
pub(super) async fn text(
    State(desk): State<Arc<Desk>>,
    reader: Reader,
    Path((name, number)): Path<(String, String)>,
    query: Query,
) -> RegistryResult<Box<RawValue>> {
    let (name, number) = (subject(&name)?, named(&number)?);
    let found = desk.look(&reader).await?.version(name, number, query.show())?;
    raw(&found)
}

/// `GET /subjects/{subject}/versions/{version}/referencedby`
pub(super) async fn referenced_by(
    State(desk): State<Arc<Desk>>,
    reader: Reader,
    Path((name, number)): Path<(String, String)>,
    query: Query,
) -> RegistryResult<Vec<u32>> {
    let view = desk.look(&reader).await?;
    let found = view.version(subject(&name)?, named(&number)?, query.show())?;
    Ok(Said(query.page(view.referenced_by(&found))))
}

/// `POST /subjects/{subject}/versions`
pub(super) async fn register(
    State(desk): State<Arc<Desk>>,
    Admin(caller): Admin,
    Path(name): Path<String>,
    query: Query,
    Json(sent): Json<Sent>,
) -> RegistryResult<Value> {
    let name = subject(&name)?.to_owned();
    let (sent, registry) = (sent.accept()?, desk.registry.clone());
    let change = async move {
        let draft = draft(&sent, query.normalize);
        registry.register_draft(&caller.namespace, &name, &draft).await
    };
    let registered = desk.change(change).await?;
    Ok(Said(json!({ "id": registered.id, "version": registered.version })))
}

/// `POST /subjects/{subject}`: whether a schema is one of the subject's.
pub(super) async fn look_up(
    State(desk): State<Arc<Desk>>,
    reader: Reader,
    Path(name): Path<String>,
    query: Query,
    Json(sent): Json<Sent>,
) -> RegistryResult<Shown> {
    let (name, sent) = (subject(&name)?, sent.accept()?);
    let view = desk.look(&reader).await?;
    let found = view.find(name, &draft(&sent, query.normalize), query.show())?;
    Ok(Said(found.into()))
}

/// `DELETE /subjects/{subject}`
pub(super) async fn delete(
    State(desk): State<Arc<Desk>>,
    Admin(caller): Admin,
    Path(name): Path<String>,
    query: Query,
) -> RegistryResult<Vec<u32>> {
    let (name, registry) = (subject(&name)?.to_owned(), desk.registry.clone());
    let change =
        async move { registry.delete_subject(&caller.namespace, &name, query.permanent).await };
    Ok(Said(desk.change(change).await?))
}

/// `DELETE /subjects/{subject}/versions/{version}`
pub(super) async fn delete_version(
    State(desk): State<Arc<Desk>>,
    Admin(caller): Admin,
    Path((name, number)): Path<(String, String)>,
    query: Query,
) -> RegistryResult<u32> {
    let (name, number) = (subject(&name)?.to_owned(), named(&number)?);
    let registry = desk.registry.clone();
    let change = async move {
        registry.delete_version(&caller.namespace, &name, number, query.permanent).await
    };
    Ok(Said(desk.change(change).await?))
}
