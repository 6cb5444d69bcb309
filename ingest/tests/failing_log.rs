//! What a client is told when the log fails, wholly or in part, or hangs.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::Duration;

use serde_json::json;
use support::*;

fn three() -> String {
    batch(&[event("a"), event("b"), event("c")])
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_could_not_be_stored_makes_a_503_with_what_was_accepted() {
    let server = Server::on(ScriptedLog::new(vec![stored(), retry(), unknown()]), |_| {}).await;
    let answer = server.post(BATCH, three()).await;
    assert_eq!((answer.status, answer.code()), (503, "unavailable"));
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert!(!answer.header("retry-after").is_empty());
    assert_eq!(answer.json["accepted"], 1);
    assert_eq!(answer.json["rejected"], 0);
    let errors: Vec<_> = answer.json["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| (error["index"].clone(), error["id"].clone(), error["code"].clone()))
        .collect();
    assert_eq!(
        errors,
        [
            (json!(1), json!("b"), json!("unavailable")),
            (json!(2), json!("c"), json!("outcome_unknown")),
        ]
    );
    assert!(!answer.json.to_string().contains("for operators"), "the log's reasons stay inside");
}

#[tokio::test(flavor = "multi_thread")]
async fn unavailable_goes_before_partly_refused() {
    let server = Server::on(ScriptedLog::new(vec![stored(), retry()]), |_| {}).await;
    let answer = server.post(NDJSON, format!("{}\n{{\n{}", event("a"), event("b"))).await;
    assert_eq!(answer.status, 503);
    assert_eq!((&answer.json["accepted"], &answer.json["rejected"]), (&json!(1), &json!(1)));
    let errors = answer.json["errors"].as_array().unwrap();
    let lines: Vec<_> = errors.iter().map(|error| error["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, [2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_the_log_refuses_is_that_events_error() {
    let server = Server::on(ScriptedLog::new(vec![stored(), refused(), stored()]), |_| {}).await;
    let answer = server.post(BATCH, three()).await;
    assert_eq!((answer.status, answer.header("penstock-rejected")), (207, "1"));
    let error = &answer.json["errors"][0];
    assert_eq!((&error["index"], &error["code"]), (&json!(1), &json!("refused_by_log")));
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_log_refuses_every_record_the_answer_is_422() {
    let server = Server::on(ScriptedLog::new(vec![refused()]), |_| {}).await;
    assert_eq!(server.post(STRUCTURED, event("a")).await.status, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_request_that_the_log_fails_is_503_too() {
    let server = Server::on(ScriptedLog::new(vec![stored(), retry(), stored()]), |_| {}).await;
    let headers = [("content-type", BATCH), ("prefer", "handling=strict")];
    let answer = server.post_with(&headers, three()).await;
    assert_eq!((answer.status, answer.header("preference-applied")), (503, "handling=strict"));
    assert_eq!(answer.json["accepted"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_hangs_is_503_at_the_deadline_and_keeps_its_bytes_charged() {
    let (log, open) = ScriptedLog::hanging(vec![stored(); 3]);
    let server = Server::on(log, |config| config.timeout = Duration::from_millis(200)).await;
    let answer = server.post(BATCH, three()).await;
    assert_eq!((answer.status, &answer.json["accepted"]), (503, &json!(0)));
    assert_eq!(answer.json["errors"].as_array().unwrap().len(), 3);
    assert_eq!(answer.json["errors"][0]["code"], "outcome_unknown");
    assert!(server.metric("penstock_ingest_in_flight_bytes") > 0.0);
    open.add_permits(1);
    until(|| server.metric("penstock_ingest_in_flight_bytes") == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_neither_ends_the_append_nor_hides_its_outcome() {
    let (log, open) = ScriptedLog::hanging(vec![stored(); 3]);
    let server = Server::on(log, |_| {}).await;
    let left = tokio::time::timeout(Duration::from_millis(200), server.post(BATCH, three())).await;
    assert!(left.is_err(), "the append was not hanging");
    // Only a finished append gives the bytes back; an abandoned one would give them back at once.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(server.metric("penstock_ingest_in_flight_bytes") > 0.0);
    open.add_permits(1);
    let accepted = "penstock_ingest_events_total{outcome=\"accepted\",code=\"\"}";
    until(|| server.metric(accepted) == 3.0).await;
}
