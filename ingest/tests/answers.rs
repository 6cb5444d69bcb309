//! Every row of the table of answers, over a real listener and the embedded log.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use serde_json::{Value, json};
use support::*;

const NO_IDS: [String; 0] = [];

#[tokio::test(flavor = "multi_thread")]
async fn every_form_is_accepted_and_every_event_is_in_the_log() {
    let server = Server::start().await;
    let bodies = [
        (STRUCTURED, event("a"), 1),
        (BATCH, batch(&[event("b"), event("c")]), 2),
        (NDJSON, format!("{}\r\n\n{}", event("d"), event("e")), 2),
        (JSON, event("f"), 1),
        (JSON, batch(&[event("g")]), 1),
        ("Application/CloudEvents+JSON; charset=UTF-8", event("h"), 1),
    ];
    for (content_type, body, accepted) in bodies {
        let answer = server.post(content_type, body).await;
        assert_eq!(answer.status, 202, "{content_type}");
        assert_eq!(answer.json, json!({"accepted": accepted, "rejected": 0}), "{content_type}");
    }
    assert_eq!(server.stored_ids().await, ["a", "b", "c", "d", "e", "f", "g", "h"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plain_form_fills_in_what_is_missing_and_answers_the_ids() {
    let server = Server::start().await;
    let body = r#"[{"source":"/s","type":"t"},{"id":"mine","source":"/s","type":"t"}]"#;
    let answer = server.post(JSON, body).await;
    assert_eq!(answer.status, 202);
    let ids: Vec<_> =
        answer.json["ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    assert_eq!(ids.len(), 2);
    assert_eq!(ids[1], "mine");
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    assert_eq!(server.stored_ids().await, sorted);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ids_of_a_partly_refused_request_stand_at_their_index() {
    let server = Server::start().await;
    let answer = server.post(JSON, r#"[{"type":"t"},{"source":"/s","type":"t"}]"#).await;
    assert_eq!(answer.status, 207);
    assert_eq!(answer.json["ids"][0], Value::Null);
    assert_eq!(server.stored_ids().await, [answer.json["ids"][1].as_str().unwrap()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_batch_is_accepted() {
    let server = Server::start().await;
    for (content_type, body) in [(BATCH, "[]"), (NDJSON, ""), (NDJSON, "\n\n"), (JSON, "[]")] {
        let answer = server.post(content_type, body).await;
        assert_eq!(answer.status, 202, "{content_type}");
        assert_eq!(answer.json, json!({"accepted": 0, "rejected": 0}), "{content_type}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_line_of_ndjson_is_that_events_error_alone() {
    let server = Server::start().await;
    let body = format!("{}\n\n{{\"id\":\"b\",\n{}\n", event("a"), event("c"));
    let answer = server.post(NDJSON, body).await;
    assert_eq!(answer.status, 207);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("penstock-rejected"), "1");
    assert_eq!(answer.json["accepted"], 2);
    assert_eq!(answer.json["rejected"], 1);
    let errors = answer.json["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 1);
    assert_eq!((&errors[0]["index"], &errors[0]["line"]), (&json!(1), &json!(3)));
    assert_eq!(errors[0]["code"], "invalid_json");
    assert_eq!(server.stored_ids().await, ["a", "c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_is_not_utf_8_is_that_events_error_alone() {
    let server = Server::start().await;
    let body = [event("a").as_bytes(), b"\n\xff\xfe\n", event("b").as_bytes()].concat();
    let answer = server.post(NDJSON, body).await;
    assert_eq!((answer.status, &answer.json["errors"][0]["line"]), (207, &json!(2)));
    assert_eq!(server.stored_ids().await, ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_without_id_in_a_batch_is_named_with_a_pointer() {
    let server = Server::start().await;
    let nameless = r#"{"specversion":"1.0","source":"/test","type":"plain"}"#.to_owned();
    let answer = server.post(BATCH, batch(&[event("a"), nameless, event("b")])).await;
    assert_eq!(answer.status, 207);
    let error = &answer.json["errors"][0];
    assert_eq!((&error["index"], &error["pointer"]), (&json!(1), &json!("/id")));
    assert_eq!(error["code"], "missing_attribute");
    assert_eq!(error.get("line"), None);
    assert_eq!(server.stored_ids().await, ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn data_of_the_wrong_avro_type_is_refused_with_a_pointer_to_the_field() {
    let server = Server::start().await.with_flights().await;
    let bodies = [
        (207, BATCH, batch(&[flight("a", "3"), flight("b", "\"late\"")])),
        (422, STRUCTURED, flight("b", "\"late\"")),
    ];
    for (status, content_type, body) in bodies {
        let answer = server.post(content_type, body).await;
        assert_eq!(answer.status, status);
        let error = &answer.json["errors"][0];
        assert_eq!(error["pointer"], "/data/delay");
        assert_eq!(error["id"], "b");
        assert!(!error["detail"].as_str().unwrap().contains("late"), "a value is repeated");
    }
    assert_eq!(server.stored_ids().await, ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_no_event_is_valid_the_answer_is_422_with_the_same_errors() {
    let server = Server::start().await;
    let answer = server.post(BATCH, r#"[{"specversion":"1.0"}, 3]"#).await;
    assert_eq!(answer.status, 422);
    assert_eq!((&answer.json["accepted"], &answer.json["rejected"]), (&json!(0), &json!(2)));
    assert_eq!(answer.json["errors"].as_array().unwrap().len(), 2);
    assert_eq!(answer.json["errors"][1]["code"], "not_an_object");
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_json_as_a_whole_is_400_with_its_position_and_stores_nothing() {
    let server = Server::start().await;
    let broken_batch = format!("[{},\n{}", event("a"), event("b"));
    let answer = server.post(BATCH, broken_batch.clone()).await;
    assert_eq!((answer.status, answer.code()), (400, "malformed_json"));
    let column = event("b").len() + 1;
    assert_eq!(
        answer.json["position"],
        json!({"line": 2, "column": column, "byte": broken_batch.len()})
    );
    for (content_type, body) in [(STRUCTURED, &b"{"[..]), (JSON, b""), (BATCH, b"[\"\xff\"]")] {
        let answer = server.post(content_type, body).await;
        assert_eq!((answer.status, answer.code()), (400, "malformed_json"), "{content_type}");
        assert!(answer.json["position"]["byte"].is_number(), "{content_type}");
    }
    assert_eq!(server.post(BATCH, "{}").await.code(), "not_an_array");
    assert_eq!(server.stored_ids().await, NO_IDS);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_in_binary_mode_is_its_headers_and_its_body() {
    let server = Server::start().await;
    let attributes = [("ce-specversion", "1.0"), ("ce-source", "/s"), ("ce-type", "t")];
    for (id, content_type, body) in [
        ("a", "application/json", "{\"n\":1}"),
        ("b", "image/png", "\u{1}"),
        ("c", "text/plain", ""),
    ] {
        let headers = [&attributes[..], &[("ce-id", id), ("content-type", content_type)]].concat();
        let answer = server.post_with(&headers, body).await;
        assert_eq!(answer.status, 202, "{content_type}");
        assert_eq!(answer.json, json!({"accepted": 1, "rejected": 0}), "{content_type}");
    }
    assert_eq!(server.stored_ids().await, ["a", "b", "c"]);
    let answer = server.post_with(&attributes, "x").await;
    assert_eq!((answer.status, answer.code()), (422, "invalid_events"));
    assert_eq!(answer.json["errors"][0]["pointer"], "/id");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_with_an_idempotency_key_gives_the_same_ids_again() {
    let server = Server::start().await;
    let body = r#"[{"source":"/s","type":"t"},{"source":"/s","type":"t"}]"#;
    let post = async |key: &str| {
        let headers = [("content-type", JSON), ("idempotency-key", key)];
        server.post_with(&headers, body).await.json["ids"].clone()
    };
    let first = post("one").await;
    assert_eq!(first.as_array().unwrap().len(), 2);
    assert_ne!(first[0], first[1]);
    assert_eq!(first, post("\"one\"").await);
    assert_ne!(first, post("two").await);
    let headers = [("content-type", JSON), ("idempotency-key", "")];
    let answer = server.post_with(&headers, body).await;
    assert_eq!((answer.status, answer.code()), (400, "invalid_idempotency_key"));
}

#[tokio::test(flavor = "multi_thread")]
async fn encodings_on_top_of_each_other_are_undone() {
    let server = Server::start().await;
    let body = zstd::encode_all(&gzip(event("a").as_bytes())[..], 3).unwrap();
    let headers = [("content-type", STRUCTURED), ("content-encoding", "gzip, zstd")];
    let answer = server.post_with(&headers, body.clone()).await;
    assert_eq!((answer.status, &answer.json["accepted"]), (202, &json!(1)));
    let headers = [("content-type", STRUCTURED), ("content-encoding", "zstd, gzip")];
    let answer = server.post_with(&headers, body).await;
    assert_eq!((answer.status, answer.code()), (400, "malformed_encoding"));
    let headers = [("content-type", STRUCTURED), ("content-encoding", "compress")];
    let answer = server.post_with(&headers, event("b")).await;
    assert_eq!((answer.status, answer.code()), (415, "unknown_encoding"));
    assert_eq!(server.stored_ids().await, ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn gzip_is_decompressed_and_a_truncated_or_damaged_one_is_400() {
    let server = Server::start().await;
    let whole = gzip(batch(&[event("a"), event("b")]).as_bytes());
    let headers = [("content-type", BATCH), ("content-encoding", "gzip")];
    let answer = server.post_with(&headers, whole[..whole.len() - 5].to_vec()).await;
    assert_eq!((answer.status, answer.code()), (400, "malformed_encoding"));
    assert_eq!(answer.json["position"]["byte"], whole.len() - 5);
    let answer = server.post_with(&headers, event("a")).await;
    assert_eq!((answer.status, answer.code()), (400, "malformed_encoding"));
    assert_eq!(server.stored_ids().await, NO_IDS);
    let answer = server.post_with(&headers, whole).await;
    assert_eq!((answer.status, &answer.json["accepted"]), (202, &json!(2)));
    assert_eq!(server.stored_ids().await, ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_content_types_charsets_and_encodings_are_415_and_name_the_known_ones() {
    let server = Server::start().await;
    type Headers<'a> = &'a [(&'a str, &'a str)];
    let cases: [(Headers, &str, &str); 6] = [
        (&[], "unknown_content_type", JSON),
        (&[("content-type", "text/plain")], "unknown_content_type", NDJSON),
        (&[("content-type", "application/cloudevents")], "unknown_content_type", BATCH),
        (&[("content-type", "application/json; charset=latin1")], "unknown_charset", "UTF-8"),
        (&[("content-type", JSON), ("content-encoding", "compress")], "unknown_encoding", "gzip"),
        (
            &[("content-type", "application/cloudevents+xml"), ("ce-id", "1")],
            "unknown_content_type",
            STRUCTURED,
        ),
    ];
    for (headers, code, known) in cases {
        let answer = server.post_with(headers, event("a")).await;
        assert_eq!((answer.status, answer.code()), (415, code), "{headers:?}");
        let detail = answer.json["detail"].as_str().unwrap();
        assert!(detail.contains(known), "{headers:?}: {detail}");
    }
    assert_eq!(server.stored_ids().await, NO_IDS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_request_with_one_invalid_event_stores_nothing() {
    let server = Server::start().await;
    let headers = [("content-type", BATCH), ("prefer", "handling=strict")];
    let answer = server.post_with(&headers, batch(&[event("a"), "{}".into()])).await;
    assert_eq!((answer.status, answer.header("preference-applied")), (422, "handling=strict"));
    assert_eq!((&answer.json["accepted"], &answer.json["rejected"]), (&json!(0), &json!(1)));
    assert_eq!(answer.json["errors"][0]["index"], 1);
    assert_eq!(server.stored_ids().await, NO_IDS);
    assert_eq!(server.metric("penstock_ingest_events_total{outcome=\"withheld\",code=\"\"}"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_request_of_valid_events_is_accepted() {
    let server = Server::start().await;
    let headers = [("content-type", BATCH), ("prefer", "handling=strict")];
    let answer = server.post_with(&headers, batch(&[event("a"), event("b")])).await;
    assert_eq!((answer.status, answer.header("preference-applied")), (202, "handling=strict"));
    assert_eq!(server.stored_ids().await, ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_given_twice_in_a_request_is_appended_twice() {
    let server = Server::start().await;
    let answer = server.post(BATCH, batch(&[event("a"), event("a")])).await;
    assert_eq!((answer.status, &answer.json["accepted"]), (202, &json!(2)));
    assert_eq!(server.stored_ids().await, ["a", "a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_is_a_problem_that_names_its_request() {
    let server = Server::with(|config| config.max_body_bytes = 500).await;
    let too_large = "x".repeat(501);
    let bodies = [(400, JSON, "x"), (413, JSON, &too_large), (415, "a/b", "x"), (422, JSON, "1")];
    for (status, content_type, body) in bodies {
        let answer = server.post(content_type, body.to_owned()).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("content-type"), "application/problem+json");
        let code = answer.code();
        assert_eq!(answer.json["type"], format!("urn:penstock:problem:{code}"));
        assert_eq!(answer.json["status"], status);
        assert_eq!(answer.json["request_id"], answer.header("x-request-id"));
        assert!(!answer.header("x-request-id").is_empty());
        for member in ["title", "detail"] {
            assert!(!answer.json[member].as_str().unwrap().is_empty(), "{member}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_counted_in_one_outcome() {
    let server = Server::start().await;
    server.post(NDJSON, format!("{}\n{{\n{}", event("a"), event("b"))).await;
    let events = |labels: &str| server.metric(&format!("penstock_ingest_events_total{{{labels}}}"));
    assert_eq!(events("outcome=\"accepted\",code=\"\""), 2.0);
    assert_eq!(events("outcome=\"rejected\",code=\"invalid_json\""), 1.0);
    assert_eq!(server.metric("penstock_ingest_requests_total{status=\"207\"}"), 1.0);
    assert_eq!(server.metric("penstock_ingest_append_duration_seconds_count"), 1.0);
    assert_eq!(server.metric("penstock_ingest_in_flight_bytes"), 0.0);
}
