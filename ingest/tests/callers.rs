//! Who may post, and into which namespace.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use service::auth::{Caller, Gate, Scope};
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
