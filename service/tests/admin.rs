//! The operators' listener over real HTTP.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use prometheus_client::{metrics::counter::Counter, registry::Registry};
use serde_json::{Value, json};
use service::{
    admin::metrics_gate,
    auth::key::{hash, write_hash},
    config::AdminConfig,
    health::Health,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

async fn start(health: &Health) -> String {
    start_with(health, &AdminConfig::default()).await
}

async fn start_with(health: &Health, config: &AdminConfig) -> String {
    let mut registry = Registry::default();
    let counter: Counter = Counter::default();
    counter.inc_by(7);
    registry.register("penstock_things", "Things", counter);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let token = CancellationToken::new();
    let gate = metrics_gate(config);
    tokio::spawn(service::admin::serve(listener, Arc::new(registry), gate, health.clone(), token));
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

#[tokio::test]
async fn metrics_ask_for_their_key_where_they_have_one_and_probes_do_not() {
    let metrics_hash = Some(write_hash(&hash("pk_scraper")));
    let config = AdminConfig { metrics_hash, ..AdminConfig::default() };
    let health = Health::default();
    let url = start_with(&health, &config).await;
    let ask = async |path: &str, key: &str| {
        let request = reqwest::Client::new().get(format!("{url}{path}")).bearer_auth(key);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(get(&format!("{url}/metrics")).await.0, 401);
    assert_eq!(ask("/metrics", "pk_other").await, 401);
    assert_eq!(ask("/metrics", "pk_scraper").await, 200);
    for open in ["/", "/livez", "/readyz"] {
        assert_eq!(get(&format!("{url}{open}")).await.0, 200, "{open}");
    }
}
