//! Every limit of the door, and that a client sees the answer while it is still sending.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::Duration;

use futures_util::stream;
use serde_json::json;
use support::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const MIB: usize = 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_its_limit_is_413_whether_announced_or_not() {
    let server = Server::with(|config| config.max_body_bytes = 1000).await;
    let announced = server.post(JSON, vec![b' '; 1001]).await;
    let chunks = vec![b' '; 1001]
        .chunks(100)
        .map(|c| Ok::<_, std::io::Error>(c.to_vec()))
        .collect::<Vec<_>>();
    let chunked = server.post(JSON, reqwest::Body::wrap_stream(stream::iter(chunks))).await;
    for answer in [announced, chunked] {
        assert_eq!((answer.status, answer.code()), (413, "body_too_large"));
        assert_eq!(answer.json["limit"], "max_body_bytes");
        assert_eq!(answer.json["limit_value"], 1000);
        assert!(answer.json["detail"].as_str().unwrap().contains("max_body_bytes"));
    }
}

/// Sends all of a body before it reads the answer, as many clients do.
async fn send_all_then_read(server: &Server, framing: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: {}\r\ncontent-type: {JSON}\r\n{framing}\r\n\r\n",
        server.addr
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    read_head(&mut stream).await
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut answer = vec![0; 64 * 1024];
    let read = timeout(Duration::from_secs(5), stream.read(&mut answer)).await.unwrap().unwrap();
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_everything_first_still_sees_the_413() {
    let server = Server::with(|config| config.max_body_bytes = MIB).await;
    let body = vec![b' '; 48 * MIB];
    let framing = format!("content-length: {}", body.len());
    let answer = send_all_then_read(&server, &framing, &body).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_a_chunked_body_first_still_sees_the_413() {
    let server = Server::with(|config| config.max_body_bytes = MIB).await;
    let chunk = [b"100000\r\n".to_vec(), vec![b' '; MIB], b"\r\n".to_vec()].concat();
    let body = [chunk.repeat(48), b"0\r\n\r\n".to_vec()].concat();
    let answer = send_all_then_read(&server, "transfer-encoding: chunked", &body).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_first_is_told_413_without_sending_the_body() {
    let server = Server::with(|config| config.max_body_bytes = MIB).await;
    let framing = format!("content-length: {}\r\nexpect: 100-continue", 48 * MIB);
    let answer = send_all_then_read(&server, &framing, b"").await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gzip_bomb_is_413() {
    let server = Server::with(|config| config.max_decompressed_bytes = MIB).await;
    let headers = [("content-type", JSON), ("content-encoding", "gzip")];
    let answer = server.post_with(&headers, gzip(&vec![b' '; 64 * MIB])).await;
    assert_eq!((answer.status, answer.code()), (413, "decompressed_body_too_large"));
    assert_eq!(answer.json["limit"], "max_decompressed_bytes");
    assert_eq!(server.metric("penstock_ingest_in_flight_bytes"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_events_are_413_and_none_is_stored() {
    let server = Server::with(|config| config.max_batch_events = 2).await;
    let three = [event("a"), event("b"), event("c")];
    for (content_type, body) in [(BATCH, batch(&three)), (NDJSON, three.join("\n"))] {
        let answer = server.post(content_type, body).await;
        assert_eq!((answer.status, answer.code()), (413, "too_many_events"), "{content_type}");
        assert_eq!(answer.json["limit"], "max_batch_events");
    }
    assert!(server.stored_ids().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_over_its_limit_is_that_events_error_alone() {
    let server = Server::with(|config| config.max_event_bytes = 200).await;
    let large = event("large").replace("\"data\":1", &format!("\"data\":\"{}\"", "x".repeat(200)));
    let answer = server.post(BATCH, batch(&[event("a"), large, event("b")])).await;
    assert_eq!(answer.status, 207);
    let error = &answer.json["errors"][0];
    assert_eq!((&error["index"], &error["id"]), (&json!(1), &json!("large")));
    assert_eq!(error["code"], "event_too_large");
    assert!(error["detail"].as_str().unwrap().contains("max_event_bytes"));
    assert_eq!(server.stored_ids().await, ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_takes_the_same_way() {
    let server = Server::start().await;
    let events: Vec<_> = (0..9_000).map(|n| event(&format!("id-{n}"))).collect();
    let body = batch(&events);
    assert!(body.len() > 512 * 1024);
    let answer = server.post(BATCH, body).await;
    assert_eq!((answer.status, &answer.json["accepted"]), (202, &json!(9_000)));
    assert_eq!(server.stored().await.len(), 9_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_not_whole_in_time_is_408_however_steadily_it_comes() {
    let server = Server::with(|config| config.timeout = Duration::from_millis(300)).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-type: {JSON}\r\ncontent-length: 99\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut read, mut write) = stream.split();
    let trickle = async {
        while write.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut answer = vec![0; 4096];
    let length = tokio::select! {
        length = timeout(Duration::from_secs(5), read.read(&mut answer)) => length.unwrap().unwrap(),
        () = trickle => 0,
    };
    let answer = String::from_utf8_lossy(&answer[..length]);
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("\"slow_body\""), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stalls_is_408_long_before_the_request_times_out() {
    let server = Server::with(|config| config.body_idle_timeout = Duration::from_millis(100)).await;
    let answer = send_all_then_read(&server, "content-length: 100", b"[").await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("\"slow_body\""), "{answer}");
    assert_eq!(server.metric("penstock_ingest_in_flight_bytes"), 0.0);
    assert_eq!(server.post(JSON, event("a")).await.status, 202, "others are served");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_first_is_told_to_go_on_and_then_answered() {
    let server = Server::start().await;
    let body = event("a");
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-type: {JSON}\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let go_on = read_head(&mut stream).await;
    assert_eq!(go_on, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 202 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nests_too_deep_is_that_events_error_alone_and_says_where() {
    let server = Server::start().await;
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let data =
        |levels| event("deep").replace("\"data\":1", &format!("\"data\":{}", nested(levels)));
    let extension = event("deep").replacen('{', &format!("{{\"x\":{},", nested(100_000)), 1);
    let answer =
        server.post(BATCH, batch(&[event("a"), data(101), data(200_000), data(100)])).await;
    assert_eq!((answer.status, &answer.json["accepted"]), (207, &json!(2)));
    for (error, index) in answer.json["errors"].as_array().unwrap().iter().zip([1, 2]) {
        assert_eq!((&error["index"], &error["code"]), (&json!(index), &json!("invalid_data")));
        assert_eq!(error["pointer"], "/data");
    }
    assert_eq!(server.post(NDJSON, extension).await.status, 422, "and no stack is exhausted");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attribute_that_keys_are_made_of_is_bounded() {
    let server = Server::start().await;
    let long = |bytes: usize| event("a").replace("/test", &format!("/{}", "x".repeat(bytes - 1)));
    let answer = server.post(BATCH, batch(&[long(8192), long(8193)])).await;
    let error = &answer.json["errors"][0];
    assert_eq!(
        (answer.status, &error["index"], &error["pointer"]),
        (207, &json!(1), &json!("/source"))
    );
    assert!(error["detail"].as_str().unwrap().contains("8192"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_beyond_the_byte_budget_is_turned_away_until_there_is_room_again() {
    let (log, open) = ScriptedLog::hanging(vec![stored()]);
    let server = Server::on(log, |config| config.max_in_flight_bytes = 4000).await;
    let large = event("a").replace("\"data\":1", &format!("\"data\":\"{}\"", "x".repeat(1500)));
    let first = server.post(STRUCTURED, large.clone());
    let others = async {
        until(|| server.metric("penstock_ingest_in_flight_bytes") >= 1500.0).await;
        let beyond = server.post(STRUCTURED, vec![b' '; 3000]).await;
        open.add_permits(1);
        beyond
    };
    let (first, beyond) = tokio::join!(first, others);
    assert_eq!((beyond.status, beyond.code()), (503, "overloaded"));
    assert!(!beyond.header("retry-after").is_empty());
    assert_eq!((&beyond.json["accepted"], &beyond.json["errors"]), (&json!(0), &json!([])));
    assert_eq!(first.status, 202);
    assert_eq!(server.post(STRUCTURED, large).await.status, 202);
    assert_eq!(server.metric("penstock_ingest_in_flight_bytes"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_outgrows_the_byte_budget_is_503_whether_announced_or_not() {
    let server = Server::with(|config| config.max_in_flight_bytes = 4000).await;
    let framing = "content-length: 5000\r\nexpect: 100-continue";
    let announced = send_all_then_read(&server, framing, b"").await;
    assert!(announced.starts_with("HTTP/1.1 503 "), "{announced}");
    let chunks = (0..50).map(|_| Ok::<_, std::io::Error>(vec![b' '; 100]));
    let chunked = server.post(JSON, reqwest::Body::wrap_stream(stream::iter(chunks))).await;
    assert_eq!((chunked.status, chunked.code()), (503, "overloaded"));
    assert_eq!(server.metric("penstock_ingest_in_flight_bytes"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_stores_nothing_of_what_came() {
    let server = Server::start().await;
    let lines = format!("{}\n{}\n", event("a"), event("b"));
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: {}\r\ncontent-type: {NDJSON}\r\ncontent-length: {}\r\n\r\n",
        server.addr,
        lines.len() + 1
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(lines.as_bytes()).await.unwrap();
    drop(stream);
    until(|| server.metric("penstock_ingest_requests_total{status=\"400\"}") == 1.0).await;
    assert!(server.stored_ids().await.is_empty());
}
