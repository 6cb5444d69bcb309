//! Who may post, and into which namespace.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::{sync::Arc, time::Duration};

use serde_json::json;
use service::{
    auth::{Caller, Gate, Limits, Scope},
    config::RateConfig,
};
use support::*;

fn writer(namespace: &str) -> Gate {
    Gate::open_to(Caller::new("checkout", namespace, [Scope::Write]))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_belongs_to_the_namespace_of_its_caller() {
    let server = Server::behind(writer("shop")).await;
    assert_eq!(server.post(STRUCTURED, event("1")).await.status, 202);
    let stored = server.stored().await;
    assert_eq!(stored[0].headers.get_str("penstock_namespace"), Some("shop"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ids_of_an_idempotency_key_are_the_caller_s_own() {
    let mut ids = Vec::new();
    for namespace in ["shop", "bank", "shop"] {
        let server = Server::behind(writer(namespace)).await;
        let headers = [("content-type", JSON), ("idempotency-key", "k")];
        let answer = server.post_with(&headers, r#"{"source":"/s","type":"t"}"#).await;
        assert_eq!(answer.status, 202);
        ids.push(answer.json["ids"][0].clone());
    }
    assert_eq!(ids[0], ids[2]);
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn posting_needs_the_scope_for_it_and_nothing_is_stored_without() {
    let reader = Caller::new("reports", "shop", [Scope::Read, Scope::Admin]);
    let server = Server::behind(Gate::open_to(reader)).await;
    let answer = server.post(STRUCTURED, event("1")).await;
    assert_eq!((answer.status, answer.code()), (403, "forbidden"));
    assert_eq!(answer.json["scope"], "write");
    assert!(server.stored().await.is_empty());
}

/// A caller who may post so many events and bytes a second.
fn limited(events: Option<u64>, bytes: Option<u64>) -> Gate {
    let rate = RateConfig { events, bytes, burst: Duration::from_secs(2) };
    let caller = Caller::new("checkout", "shop", [Scope::Write]);
    Gate::open_to(caller.within(Arc::new(Limits::new(&rate))))
}

fn events(count: usize) -> String {
    batch(&(0..count).map(|n| event(&n.to_string())).collect::<Vec<_>>())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_the_rate_is_429_with_its_time_and_nothing_of_it_is_stored() {
    let server = Server::behind(limited(Some(5), None)).await;
    let first = server.post(BATCH, events(8)).await;
    assert_eq!(first.status, 202);
    assert_eq!(first.header("ratelimit-policy"), r#""events";q=10;w=2;qu="events""#);
    assert!(first.header("ratelimit").starts_with(r#""events";r=2;t="#), "{first:?}");
    let second = server.post(BATCH, events(8)).await;
    assert_eq!((second.status, second.code()), (429, "rate_limited"));
    assert_eq!((&second.json["limit"], &second.json["limit_value"]), (&json!("events"), &json!(5)));
    assert_eq!(second.json["accepted"], 0);
    let wait: u64 = second.header("retry-after").parse().unwrap();
    assert!((1..=2).contains(&wait), "{wait}");
    assert_eq!(server.stored().await.len(), 8);
    tokio::time::sleep(Duration::from_secs(wait)).await;
    assert_eq!(server.post(BATCH, events(8)).await.status, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_could_never_pass_is_413_and_names_the_burst() {
    let server = Server::behind(limited(Some(5), None)).await;
    let answer = server.post(BATCH, events(11)).await;
    assert_eq!((answer.status, answer.code()), (413, "larger_than_burst"));
    assert_eq!(answer.json["limit_value"], 10);
    assert!(answer.json["detail"].as_str().unwrap().contains("11 events"), "{answer:?}");
    assert_eq!(server.post(BATCH, events(10)).await.status, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_counted_as_decompressed() {
    let server = Server::behind(limited(None, Some(1000))).await;
    let padded = event("1").replace("\"data\":1", &format!("\"data\":\"{}\"", "x".repeat(3000)));
    let packed = gzip(padded.as_bytes());
    assert!(packed.len() < 1000);
    let headers = [("content-type", STRUCTURED), ("content-encoding", "gzip")];
    let answer = server.post_with(&headers, packed).await;
    assert_eq!((answer.status, answer.code()), (413, "larger_than_burst"));
    assert_eq!(answer.json["limit"], "bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_without_limits_is_told_of_none() {
    let server = Server::behind(writer("shop")).await;
    let answer = server.post(BATCH, events(100)).await;
    assert_eq!(answer.status, 202);
    assert!(!answer.headers.contains_key("ratelimit"));
    assert!(!answer.headers.contains_key("ratelimit-policy"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_became_of_events_is_counted_by_key_and_type() {
    let server = Server::behind(writer("shop")).await.with_flights_of("shop").await;
    let body = batch(&[event("1"), flight("2", "1"), event("3"), flight("4", "\"late\"")]);
    assert_eq!(server.post(BATCH, body).await.status, 207);
    for (kind, outcome, count) in
        [("plain", "accepted", 2.0), ("flight", "accepted", 1.0), ("flight", "rejected", 1.0)]
    {
        let sample = format!(
            "penstock_ingest_key_events_total{{key=\"checkout\",type=\"{kind}\",outcome=\"{outcome}\"}}"
        );
        assert_eq!(server.metric(&sample), count, "{sample}");
    }
}
