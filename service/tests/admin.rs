//! The operators' listener over real HTTP.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use prometheus_client::{metrics::counter::Counter, registry::Registry};
use serde_json::{Value, json};
use service::health::Health;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

async fn start(health: &Health) -> String {
    let mut registry = Registry::default();
    let counter: Counter = Counter::default();
    counter.inc_by(7);
    registry.register("penstock_things", "Things", counter);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let token = CancellationToken::new();
    tokio::spawn(service::admin::serve(listener, Arc::new(registry), health.clone(), token));
    url
}

async fn get(url: &str) -> (u16, String) {
    let response = reqwest::get(url).await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test]
async fn readiness_names_the_part_that_fails_and_liveness_does_not_care() {
    let health = Health::default();
    let part = health.part("log");
    part.failing("the disk is full");
    let url = start(&health).await;

    let (status, body) = get(&format!("{url}/readyz")).await;
    assert_eq!(status, 503);
    let body: Value = serde_json::from_str(&body).unwrap();
    let failing = json!([{ "part": "log", "reason": "the disk is full" }]);
    assert_eq!(body, json!({ "ready": false, "failing": failing, "notes": [] }));
    assert_eq!(get(&format!("{url}/livez")).await.0, 200);
}

#[tokio::test]
async fn notes_do_not_make_a_process_unready() {
    let health = Health::default();
    let part = health.part("sink");
    part.ready();
    part.note("a gap");
    let (status, body) = get(&format!("{}/readyz", start(&health).await)).await;
    assert_eq!(status, 200);
    assert!(body.contains("a gap") && body.contains("\"ready\":true"), "{body}");
}

#[tokio::test]
async fn metrics_are_openmetrics_text() {
    let (status, body) = get(&format!("{}/metrics", start(&Health::default()).await)).await;
    assert_eq!(status, 200);
    assert!(body.contains("penstock_things_total 7") && body.ends_with("# EOF\n"), "{body}");
}
