//! Schemas by id, and what the registry says of itself.

use std::sync::Arc;

use axum::extract::{Path, State};
use schemas::{Denied, Reference, Registered};
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};

use super::{
    Desk, Reader,
    answer::{Failure, RegistryResult, Said},
    query::Query,
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ById {
    schema: Arc<str>,
    #[serde(skip_serializing_if = "no_references")]
    references: Arc<[Reference]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_id: Option<u32>,
}

pub(super) fn no_references(references: &Arc<[Reference]>) -> bool {
    references.is_empty()
}

fn parse(id: &str) -> Result<u32, Failure> {
    id.parse().map_err(|_| Denied::SchemaNotFound.into())
}

/// `GET /schemas/ids/{id}`
pub(super) async fn schema(
    State(desk): State<Arc<Desk>>,
    reader: Reader,
    Path(id): Path<String>,
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

/// `GET /schemas/ids/{id}/schema`
pub(super) async fn text(
    State(desk): State<Arc<Desk>>,
    reader: Reader,
    Path(id): Path<String>,
) -> RegistryResult<Box<RawValue>> {
    let id = parse(&id)?;
    let found = desk.look_for(&reader, |view| view.by_id(id)).await?;
    raw(&found)
}

/// A schema as the JSON that it is.
pub(super) fn raw(found: &Registered) -> RegistryResult<Box<RawValue>> {
    RawValue::from_string(found.text.to_string()).map(Said).map_err(|_| Failure::Internal)
}

/// `GET /schemas/ids/{id}/versions`
pub(super) async fn versions(
    State(desk): State<Arc<Desk>>,
    reader: Reader,
    Path(id): Path<String>,
    query: Query,
) -> RegistryResult<Vec<Value>> {
    let uses = desk.look(&reader).await?.uses(parse(&id)?, query.show())?;
    let uses = uses.iter().filter(|v| query.subject.as_deref().is_none_or(|s| s == &*v.subject));
    let pairs = uses.map(|v| json!({ "subject": v.subject, "version": v.version }));
    Ok(Said(query.page(pairs)))
}

/// `GET /schemas/ids/{id}/subjects`
pub(super) async fn subjects(
    State(desk): State<Arc<Desk>>,
    reader: Reader,
    Path(id): Path<String>,
    query: Query,
) -> RegistryResult<Vec<Arc<str>>> {
    let uses = desk.look(&reader).await?.uses(parse(&id)?, query.show())?;
    let mut subjects: Vec<_> = uses.iter().map(|version| version.subject.clone()).collect();
    subjects.dedup();
    Ok(Said(query.page(subjects)))
}

/// `GET /schemas/types`
pub(super) async fn types(_: Reader) -> Said<[&'static str; 1]> {
    Said(["AVRO"])
}

/// `GET /v1/metadata/id`: the namespace is what a registry of another kind calls a cluster.
pub(super) async fn cluster(reader: Reader) -> Said<Value> {
    let scope = json!({ "path": [], "clusters": { "schema-registry-cluster": "penstock" } });
    Said(json!({ "id": reader.0.namespace, "scope": scope }))
}

/// `GET /v1/metadata/version`
pub(super) async fn version(_: Reader) -> Said<Value> {
    Said(json!({ "version": env!("CARGO_PKG_VERSION"), "commitId": "" }))
}
