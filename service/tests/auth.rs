//! Who is let in, over real HTTP, and how a change of the keys takes effect.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{Router, http::StatusCode, routing::get};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as B64};
use prometheus_client::registry::Registry;
use reqwest::{Client, RequestBuilder, Response};
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use serde_json::{Value, json};
use service::{
    app::App,
    auth::{Caller, Scope, key},
    config::load,
    http,
    problem::Problem,
};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// A process with a route that tells who calls, and the file that it follows.
struct Server {
    app: App,
    dir: TempDir,
    url: String,
    admin: String,
    /// One client keeps its connections, so every request of it comes on one that is open.
    client: Client,
}

async fn who(caller: Caller) -> Result<String, Problem> {
    caller.require(Scope::Read)?;
    Ok(format!("{} of {}", caller.name, caller.namespace))
}

fn keys(keys: &[(&str, &str, &str)]) -> String {
    let table = |(name, namespace, scope): &(&str, &str, &str)| {
        let hash = key::write_hash(&key::hash(&format!("pk_{name}")));
        format!(
            "[[keys]]\nname = '{name}'\nhash = '{hash}'\nnamespace = '{namespace}'\nscopes = \
             ['{scope}']\n"
        )
    };
    keys.iter().map(table).collect()
}

fn write(dir: &Path, text: &str) {
    let text = format!("[admin]\nlisten = '127.0.0.1:0'\n[http]\nlisten = '127.0.0.1:0'\n{text}");
    std::fs::write(dir.join("penstock.toml"), text).unwrap();
}

impl Server {
    async fn start(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), text);
        let loaded = load(Some(&dir.path().join("penstock.toml")), std::iter::empty()).unwrap();
        let (config, file) = (loaded.config, loaded.file);
        let mut meters = Registry::default();
        let metrics = http::Metrics::register(&mut meters);
        let listener = http::bind(config.http.listen, "http.listen").await.unwrap();
        let admin = http::bind(config.admin.listen, "admin.listen").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut app = App::start("test", admin, meters, &config).unwrap();
        let stage = app.stage();
        let routes = app.serve_http(stage, listener, &config, file.as_deref(), metrics).unwrap();
        routes.set(Router::new().route("/who", get(who)).route("/", get(|| async { "hello" })));
        let admin = format!("http://{}", app.admin_addr);
        Self { app, dir, url, admin, client: Client::new() }
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.url))
    }

    async fn as_key(&self, key: &str) -> Response {
        self.get("/who").bearer_auth(key).send().await.unwrap()
    }

    async fn operators(&self, path: &str) -> String {
        let url = format!("{}{path}", self.admin);
        self.client.get(url).send().await.unwrap().text().await.unwrap()
    }

    /// Waits for what a changed file must bring about.
    async fn until(&self, what: &str, condition: impl AsyncFn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while !condition(self).await {
            assert!(Instant::now() < deadline, "{what}");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn problem(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    assert_eq!(body["status"], status);
    (status, body["code"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_key_names_its_caller_however_it_is_shown() {
    let server = Server::start(&keys(&[("a", "shop", "read"), ("b", "bank", "read")])).await;
    for (key, who) in [("pk_a", "a of shop"), ("pk_b", "b of bank")] {
        assert_eq!(server.as_key(key).await.text().await.unwrap(), who);
        let basic = server.get("/who").basic_auth("anybody", Some(key)).send().await.unwrap();
        assert_eq!(basic.text().await.unwrap(), who);
    }
    // With keys the Host proves nothing and is not looked at.
    let elsewhere = server.get("/who").bearer_auth("pk_a").header("host", "pipeline.example");
    assert_eq!(elsewhere.send().await.unwrap().status(), 200);
    server.app.stop().await.unwrap();
}

#[tokio::test]
async fn who_is_not_known_is_401_and_who_may_not_is_403() {
    let server = Server::start(&keys(&[("a", "shop", "write")])).await;
    let nothing = server.get("/who").send().await.unwrap();
    assert!(nothing.headers()["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
    assert_eq!(problem(nothing).await, (401, "unauthenticated".into()));
    let malformed = server.get("/who").header("authorization", "pk_a").send().await.unwrap();
    assert_eq!(problem(malformed).await, (401, "unauthenticated".into()));
    assert_eq!(problem(server.as_key("pk_b").await).await, (401, "unknown_key".into()));
    assert_eq!(problem(server.as_key("pk_a").await).await, (403, "forbidden".into()));
    // What there is, is nobody's business either; the page that says so holds no data.
    assert_eq!(server.get("/nowhere").send().await.unwrap().status(), 401);
    assert_eq!(server.get("/").send().await.unwrap().status(), 200);
    let counted = server.operators("/metrics").await;
    assert!(counted.contains("penstock_auth_refused_total{code=\"unknown_key\"} 1"), "{counted}");
    server.app.stop().await.unwrap();
}

#[tokio::test]
async fn without_keys_anyone_on_this_machine_calls_until_there_are_some() {
    let server = Server::start("").await;
    assert_eq!(server.get("/who").send().await.unwrap().text().await.unwrap(), "anyone of default");
    write(server.dir.path(), &keys(&[("a", "shop", "read")]));
    server
        .until("the door closes", async |server| {
            server.get("/who").send().await.unwrap().status() == 401
        })
        .await;
    assert_eq!(server.as_key("pk_a").await.status(), 200);
    server.app.stop().await.unwrap();
}

#[tokio::test]
async fn a_revoked_key_is_refused_within_seconds_on_open_connections_too() {
    let server = Server::start(&keys(&[("a", "shop", "read")])).await;
    assert_eq!(server.as_key("pk_a").await.status(), 200);
    write(server.dir.path(), &keys(&[("b", "shop", "read")]));
    server
        .until("the key is refused", async |server| server.as_key("pk_a").await.status() == 401)
        .await;
    assert_eq!(server.as_key("pk_b").await.status(), 200);
    write(server.dir.path(), "");
    server
        .until("the last is refused", async |server| server.as_key("pk_b").await.status() == 401)
        .await;
    server.app.stop().await.unwrap();
}

#[tokio::test]
async fn a_broken_file_changes_nothing_and_is_told_to_operators() {
    let good = keys(&[("a", "shop", "read")]);
    let server = Server::start(&good).await;
    write(server.dir.path(), &format!("{}x = 1\n", keys(&[("b", "shop", "read")])));
    let told = async |server: &Server| {
        let metrics = server.operators("/metrics").await;
        metrics.contains("penstock_auth_keys_stale 1")
            && metrics.contains("penstock_auth_reloads_total{outcome=\"refused\"} 1")
            && server.operators("/readyz").await.contains("the former ones are in force")
    };
    server.until("operators are told", told).await;
    assert_eq!(server.as_key("pk_a").await.status(), 200);
    assert_eq!(server.as_key("pk_b").await.status(), 401);
    write(server.dir.path(), &good);
    server
        .until("all is well", async |server| {
            let metrics = server.operators("/metrics").await;
            metrics.contains("penstock_auth_keys_stale 0")
                && !server.operators("/readyz").await.contains("former ones")
        })
        .await;
    server.app.stop().await.unwrap();
}

/// A key pair, and a server of key sets that can be told what to answer.
struct Issuer {
    pair: Ed25519KeyPair,
    url: String,
    up: Arc<AtomicBool>,
}

impl Issuer {
    async fn start() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
        let key = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "1",
            "x": B64.encode(pair.public_key().as_ref()) });
        let up = Arc::new(AtomicBool::new(false));
        let (set, is_up) = (json!({ "keys": [key] }).to_string(), up.clone());
        let answer = move || async move {
            if is_up.load(Relaxed) {
                (StatusCode::OK, set)
            } else {
                (StatusCode::BAD_GATEWAY, String::new())
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap());
        let router = Router::new().route("/jwks", get(answer));
        let options = http::HttpOptions::default();
        tokio::spawn(http::serve(listener, router, options, Default::default()));
        Self { pair, url, up }
    }

    fn token(&self, audience: &str) -> String {
        let part = |value: Value| B64.encode(value.to_string());
        let message = format!(
            "{}.{}",
            part(json!({ "alg": "EdDSA", "kid": "1" })),
            part(json!({ "iss": "i", "aud": audience, "exp": 4_000_000_000_u64,
                "namespace": "shop", "scope": "read" }))
        );
        format!("{message}.{}", B64.encode(self.pair.sign(message.as_bytes())))
    }
}

#[tokio::test]
async fn a_token_of_the_issuer_is_taken_once_its_keys_were_fetched_beside_keys_of_ours() {
    let issuer = Issuer::start().await;
    let jwt = format!("[jwt]\njwks = '{}'\nissuer = 'i'\naudience = 'a'\n", issuer.url);
    let server = Server::start(&format!("{jwt}{}", keys(&[("a", "bank", "read")]))).await;
    let early = server.as_key(&issuer.token("a")).await;
    assert_eq!(early.headers()["retry-after"], "1");
    assert_eq!(problem(early).await, (503, "issuer_keys_unavailable".into()));
    assert!(server.operators("/readyz").await.contains("jwks"));
    assert_eq!(server.as_key("pk_a").await.text().await.unwrap(), "a of bank");

    issuer.up.store(true, Relaxed);
    server
        .until("the keys are fetched", async |server| {
            server.as_key(&issuer.token("a")).await.status() == 200
        })
        .await;
    assert_eq!(server.as_key(&issuer.token("a")).await.text().await.unwrap(), "jwt of shop");
    let wrong = server.as_key(&issuer.token("b")).await;
    let challenge = wrong.headers()["www-authenticate"].to_str().unwrap();
    assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
    let body: Value = serde_json::from_str(&wrong.text().await.unwrap()).unwrap();
    assert_eq!(
        (&body["code"], &body["reason"]),
        (&json!("invalid_token"), &json!("wrong_audience"))
    );
    issuer.up.store(false, Relaxed);
    assert_eq!(server.as_key(&issuer.token("a")).await.status(), 200);
    server.app.stop().await.unwrap();
}
