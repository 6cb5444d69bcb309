//! A whole node, started and stopped as a library.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use penstock::node::{Bundle, Node};
use serde_json::{Value, json};
use service::config::Loaded;

mod support;

use support::config;

async fn start(dir: &Path) -> Node {
    Node::start(config(dir), Bundle::default()).await.unwrap()
}

async fn start_error(loaded: Loaded) -> String {
    match Node::start(loaded, Bundle::default()).await {
        Ok(_) => "it started".into(),
        Err(error) => format!("{error:#}"),
    }
}

async fn get(addr: SocketAddr, path: &str) -> Value {
    let text = reqwest::get(format!("http://{addr}{path}")).await.unwrap().text().await.unwrap();
    serde_json::from_str(&text).unwrap()
}

async fn greet(node: &Node, id: &str) {
    let event = json!({ "specversion": "1.0", "id": id, "source": "/me", "type": "greeting" });
    let response = reqwest::Client::new()
        .post(format!("http://{}/v1/events", node.http_addr))
        .header("content-type", "application/cloudevents+json")
        .body(event.to_string())
        .send();
    assert_eq!(response.await.unwrap().status(), 202);
}

/// Waits until so many greetings are counted.
async fn counted(node: &Node, greetings: u64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let types = get(node.http_addr, "/v1/types").await;
        if types["types"][0]["count"] == greetings {
            return;
        }
        assert!(Instant::now() < deadline, "{types}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_posted_can_be_read_and_outlives_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    greet(&node, "1").await;
    greet(&node, "1").await;
    greet(&node, "2").await;
    counted(&node, 2).await;
    node.stop().await.unwrap();

    let node = start(dir.path()).await;
    greet(&node, "3").await;
    counted(&node, 3).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_ready_once_started_and_tells_its_metrics() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let readiness = get(node.admin_addr, "/readyz").await;
        if readiness["ready"] == true {
            break;
        }
        assert!(Instant::now() < deadline, "{readiness}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let url = format!("http://{}/metrics", node.admin_addr);
    let metrics = reqwest::get(url).await.unwrap().text().await.unwrap();
    for part in ["penstock_log_", "penstock_http_", "penstock_sink_", "process_"] {
        assert!(metrics.contains(part), "{part}");
    }
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_another_node_holds_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    let error = start_error(config(dir.path())).await;
    assert!(error.contains(dir.path().join("log").to_str().unwrap()), "{error}");
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("log"), "a file is in the way").unwrap();
    let error = start_error(config(dir.path())).await;
    assert!(error.contains(dir.path().join("log").to_str().unwrap()), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_taken_is_named_with_its_setting() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut second = config(tempfile::tempdir().unwrap().path());
    second.config.http.listen = node.http_addr;
    let error = start_error(second).await;
    assert!(error.contains(&format!("http.listen: {} is in use", node.http_addr)), "{error}");
    node.stop().await.unwrap();
}
