//! `penstock post` against a server that answers as it is told.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, extract::State, response::IntoResponse, routing::post};
use http::StatusCode;
use penstock::{
    keys::SecretKey,
    post::{PostOptions, post as run},
    remote,
};
use serde_json::{Value, json};
use service::{
    auth::{Caller, Gate, Scope, key},
    config::{Config, KeyConfig},
    http::{HttpOptions, serve},
    problem::Problem,
};
use tempfile::TempDir;
use tokio::{net::TcpListener, time::timeout};
use tokio_util::sync::CancellationToken;

type Answers = Box<dyn Fn(usize, &str) -> (u16, Value) + Send + Sync>;

/// A server that remembers what it was sent and answers by request number and body.
struct Server {
    bodies: Mutex<Vec<String>>,
    answers: Answers,
}

async fn handle(State(server): State<Arc<Server>>, body: String) -> impl IntoResponse {
    let number = {
        let mut bodies = server.bodies.lock().unwrap();
        bodies.push(body.clone());
        bodies.len() - 1
    };
    let (status, json) = (server.answers)(number, &body);
    (StatusCode::from_u16(status).unwrap(), [("retry-after", "0")], json.to_string())
}

async fn start(
    answers: impl Fn(usize, &str) -> (u16, Value) + Send + Sync + 'static,
) -> (Arc<Server>, String) {
    let server = Arc::new(Server { bodies: Mutex::default(), answers: Box::new(answers) });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/v1/events", post(handle)).with_state(server.clone());
    tokio::spawn(serve(listener, router, HttpOptions::default(), CancellationToken::new()));
    (server, url)
}

fn accept(body: &str) -> (u16, Value) {
    (202, json!({ "accepted": body.lines().count(), "rejected": 0 }))
}

fn file(text: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.ndjson");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

async fn post_file(path: &Path, url: &str, batch: usize) -> Result<(), String> {
    post_with(path, url, batch, None).await
}

async fn post_with(
    path: &Path,
    url: &str,
    batch: usize,
    key: Option<SecretKey>,
) -> Result<(), String> {
    let options = PostOptions {
        files: vec![path.to_owned()],
        server: remote::Server { url: url.parse().unwrap(), key, authorities: None },
        batch,
        concurrency: 1,
        give_up: Duration::from_secs(2),
    };
    run(options).await.map_err(|error| format!("{error:#}"))
}

fn rejects(dir: &TempDir) -> Vec<Value> {
    let text = std::fs::read_to_string(dir.path().join("in.ndjson.rejects.ndjson")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_file_is_posted_in_batches_in_order() {
    let (server, url) = start(|_, body| accept(body)).await;
    let (_dir, path) = file("1\n2\n\n3\n");
    post_file(&path, &url, 2).await.unwrap();
    assert_eq!(*server.bodies.lock().unwrap(), ["1\n2\n", "3\n"]);
}

#[tokio::test]
async fn a_batch_that_could_not_be_stored_is_posted_again_whole() {
    let busy = |n, body: &str| match n {
        0 => {
            (503, json!({ "accepted": 1, "errors": [{ "index": 1, "code": "c", "detail": "d" }] }))
        }
        1 => (429, json!({})),
        _ => accept(body),
    };
    let (server, url) = start(busy).await;
    let (dir, path) = file("1\n2\n");
    post_file(&path, &url, 10).await.unwrap();
    assert_eq!(*server.bodies.lock().unwrap(), ["1\n2\n"; 3]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no file of rejects");
}

#[tokio::test]
async fn refused_events_are_kept_with_their_line_and_reason_and_the_rest_is_posted() {
    let partly = |_, body: &str| {
        let bad = json!([{ "index": 1, "code": "missing", "detail": "no id", "pointer": "/id" }]);
        match body.lines().count() {
            2 => (207, json!({ "accepted": 1, "rejected": 1, "errors": bad })),
            _ => accept(body),
        }
    };
    let (_server, url) = start(partly).await;
    let (dir, path) = file("{}\n\n{\"a\":1}\n{}\n");
    let error = post_file(&path, &url, 2).await.unwrap_err();
    assert!(error.contains("rejected: 1;"), "{error}");
    let expected = json!({ "line": 3, "code": "missing", "detail": "no id", "pointer": "/id",
        "event": { "a": 1 } });
    assert_eq!(rejects(&dir), [expected]);
}

#[tokio::test]
async fn an_answer_of_422_is_for_good() {
    let none = |_, _: &str| {
        (
            422,
            json!({ "accepted": 0, "errors": [
        { "index": 0, "code": "x", "detail": "y" } ] }),
        )
    };
    let (server, url) = start(none).await;
    let (dir, path) = file("not json\n");
    post_file(&path, &url, 2).await.unwrap_err();
    assert_eq!(rejects(&dir)[0]["event"], "not json");
    assert_eq!(server.bodies.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn an_answer_that_does_not_account_for_every_event_is_not_penstocks() {
    for (status, body) in [(202, json!({ "status": "queued" })), (422, json!({ "error": "no" }))] {
        let (_server, url) = start(move |_, _: &str| (status, body.clone())).await;
        let (_dir, path) = file("{}\n{}\n");
        let error = post_file(&path, &url, 2).await.unwrap_err();
        assert!(error.contains("for 0 of 2 events: is that Penstock?"), "{error}");
    }
}

#[tokio::test]
async fn of_a_batch_that_is_too_large_only_the_huge_event_is_rejected() {
    let limited = |_, body: &str| match body.len() {
        0..8 => accept(body),
        _ => (413, json!({ "code": "too_large", "detail": "at most 8 bytes" })),
    };
    let (_server, url) = start(limited).await;
    let (dir, path) = file("1\n2\n\"a huge one\"\n4\n");
    let error = post_file(&path, &url, 10).await.unwrap_err();
    assert!(error.contains("rejected: 1;"), "{error}");
    assert_eq!(rejects(&dir)[0]["line"], 3);
}

#[tokio::test]
async fn what_will_not_get_better_ends_the_post_with_the_servers_words() {
    let forbidden = |_, _: &str| (403, json!({ "code": "host_not_allowed", "detail": "not you" }));
    let (server, url) = start(forbidden).await;
    let (_dir, path) = file("1\n2\n");
    let error = post_file(&path, &url, 1).await.unwrap_err();
    assert!(error.contains("not you (host_not_allowed)"), "{error}");
    assert!(error.contains("correct this first") && !error.contains("run it again"), "{error}");
    assert!(server.bodies.lock().unwrap().len() < 3);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_once_patience_ends() {
    let (_dir, path) = file("1\n");
    let error = post_file(&path, "http://127.0.0.1:1", 1).await.unwrap_err();
    assert!(error.contains("gave up after 2s") && error.contains("127.0.0.1:1"), "{error}");
    assert!(error.contains("run it again"), "{error}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_within_the_time() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let (_dir, path) = file("1\n");
    let error = timeout(Duration::from_secs(30), post_file(&path, &url, 1)).await.unwrap();
    let error = error.unwrap_err();
    assert!(error.contains("run it again") && error.contains("gave up after 2s"), "{error}");
}

#[tokio::test]
async fn an_answer_that_is_not_penstocks_is_not_asked_for_again() {
    let (_server, url) = start(|_, _| (200, json!("<html>"))).await;
    let (_dir, path) = file("1\n");
    let error = post_file(&path, &url, 1).await.unwrap_err();
    assert!(error.contains("is that Penstock?") && error.contains("correct this"), "{error}");
}

#[tokio::test]
async fn a_fault_of_a_gateway_ends_the_post_and_may_have_passed_by_the_next() {
    for (status, again) in [(502, true), (404, false), (501, false)] {
        let (_server, url) = start(move |_, _| (status, json!({}))).await;
        let (_dir, path) = file("1\n");
        let error = post_file(&path, &url, 1).await.unwrap_err();
        assert_eq!(error.contains("run it again"), again, "{error}");
        assert_eq!(error.contains("correct this first"), !again, "{error}");
    }
}

#[tokio::test]
async fn a_line_that_is_too_long_is_rejected_and_those_around_it_are_posted() {
    let (server, url) = start(|_, body| accept(body)).await;
    let long = "x".repeat(17 * 1024 * 1024);
    let (dir, path) = file(&format!("1\n{long}\n3\n{long}"));
    let error = post_file(&path, &url, 10).await.unwrap_err();
    assert!(error.contains("rejected: 2;"), "{error}");
    assert_eq!(*server.bodies.lock().unwrap(), ["1\n", "3\n"]);
    let rejects = rejects(&dir);
    assert_eq!((&rejects[0]["line"], &rejects[1]["line"]), (&json!(2), &json!(4)));
    assert_eq!(rejects[0]["event"], "x".repeat(256));
}

#[tokio::test]
async fn a_key_is_shown_with_every_request_and_one_that_is_unknown_is_the_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let key = KeyConfig {
        name: "checkout".into(),
        hash: key::write_hash(&key::hash("pk_good")),
        namespace: "shop".into(),
        scopes: vec!["write".into()],
        rate: None,
    };
    let config = Config { keys: vec![key], ..Config::default() };
    let gate = Gate::new(&config, Default::default());
    let answer = |caller: Caller, body: String| async move {
        caller.require(Scope::Write)?;
        Ok::<_, Problem>((StatusCode::ACCEPTED, accept(&body).1.to_string()))
    };
    let router = Router::new().route("/v1/events", post(answer));
    let options = HttpOptions { gate, ..HttpOptions::default() };
    tokio::spawn(serve(listener, router, options, CancellationToken::new()));

    let (_dir, path) = file("1\n2\n");
    post_with(&path, &url, 1, Some("pk_good".to_owned().into())).await.unwrap();
    let error = post_with(&path, &url, 1, Some("pk_bad".to_owned().into())).await.unwrap_err();
    assert!(error.contains("401") && error.contains("unknown_key"), "{error}");
    assert!(error.contains("PENSTOCK_KEY or --key-file") && !error.contains("pk_bad"), "{error}");
}
