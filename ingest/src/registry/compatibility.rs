//! Whether a schema could be registered, asked beforehand.

use std::sync::Arc;

use axum::extract::{Path, State};
use schemas::Against;
use serde_json::{Value, json};

use super::{
    Desk, Json, Reader, Sent,
    answer::{RegistryResult, Said},
    draft,
    query::Query,
    subject, version as named,
};

/// `POST /compatibility/subjects/{subject}/versions`
pub(super) async fn with_level(
    State(desk): State<Arc<Desk>>,
    reader: Reader,
    Path(name): Path<String>,
    query: Query,
    Json(sent): Json<Sent>,
) -> RegistryResult<Value> {
    check(&desk, &reader, &name, &query, sent, Against::Level).await
}

/// `POST /compatibility/subjects/{subject}/versions/{version}`
pub(super) async fn with_version(
    State(desk): State<Arc<Desk>>,
    reader: Reader,
    Path((name, number)): Path<(String, String)>,
    query: Query,
    Json(sent): Json<Sent>,
) -> RegistryResult<Value> {
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
) -> RegistryResult<Value> {
    let (name, sent) = (subject(name)?, sent.accept()?);
    let view = desk.look(reader).await?;
    let clashes = view.check(name, &draft(&sent, query.normalize), against)?;
    let mut answer = json!({ "is_compatible": clashes.is_empty() });
    if query.verbose {
        let level = view.level(name).name();
        let told = clashes.iter().flat_map(|clash| {
            clash.details.iter().map(|what| format!("version {} ({level}): {what}", clash.version))
        });
        answer["messages"] = told.collect();
    }
    Ok(Said(answer))
}
