//! The operators' listener: `/livez`, `/readyz` and `/metrics`, which `/` lists.
//!
//! It answers from what the parts of the process last said of themselves and asks nobody, so it
//! works while the log or the store hangs. It is the last listener to close, so that a drain can
//! be watched.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use prometheus_client::{encoding::text::encode, registry::Registry};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    auth::{Caller, Gate},
    config::{AdminConfig, KeyConfig},
    health::Health,
    http::{HttpOptions, serve as serve_http},
    problem::Problem,
};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Who may read the metrics that a configuration asks a key for: whoever shows it. They tell the names of
/// keys and types.
pub fn metrics_gate(config: &AdminConfig) -> Gate {
    let gate = Gate::open_to(Caller::anyone());
    if let Some(hash) = &config.metrics_hash {
        let (name, namespace) = ("metrics".to_owned(), "default".to_owned());
        let hash = hash.clone();
        gate.set_keys(&[KeyConfig { name, hash, namespace, scopes: Vec::new(), rate: None }]);
    }
    gate
}

/// Serves until `shutdown`; metrics to those whom their gate lets in.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Registry>,
    gate: Gate,
    health: Health,
    shutdown: CancellationToken,
) {
    let router = Router::new()
        .route("/", get(|| async { "/livez\n/readyz\n/metrics\n" }))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz).with_state(health))
        .route("/metrics", get(metrics_text).with_state((metrics, gate)));
    let options = HttpOptions {
        check_host: listener.local_addr().is_ok_and(|a| a.ip().is_loopback()),
        drain: Duration::from_secs(1),
        grace: Duration::ZERO,
        max_connections: 64,
        ..HttpOptions::default()
    };
    serve_http(listener, router, options, shutdown).await;
}

/// Names the parts that fail and why; reasons carry no secrets (see [`crate::health::Part`]).
async fn readyz(State(health): State<Health>) -> impl IntoResponse {
    let entries = |entries: Vec<(String, String)>, key: &str| -> Vec<_> {
        entries.into_iter().map(|(part, text)| json!({ "part": part, key: text })).collect()
    };
    let failing = entries(health.failing(), "reason");
    let notes = entries(health.notes(), "note");
    let ready = failing.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({ "ready": ready, "failing": failing, "notes": notes }).to_string();
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body)
}

async fn metrics_text(
    State((metrics, gate)): State<(Arc<Registry>, Gate)>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Response> {
    gate.caller(&headers).await.map_err(IntoResponse::into_response)?;
    let mut text = String::new();
    encode(&mut text, &metrics).map_err(|_| {
        let unreadable = Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "metrics_unreadable",
            "Metrics unreadable",
            "the metrics could not be written as text",
        );
        unreadable.into_response()
    })?;
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(OPEN_METRICS))], text))
}
