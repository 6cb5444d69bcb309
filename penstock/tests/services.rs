//! All services, each in its own process's shape, on a real Kafka and a real CQL store.
//!
//! Small on purpose: that they find each other, in any order, and that an event comes through once.
//! Faults and load are the business of `e2e/`.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde_json::{Value, json};
use service::config::{AdminConfig, Config, HttpConfig, Loaded, LogConfig, StoreConfig};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// URLs of fresh places on the real backends; `None` when there are none to test with.
fn backends() -> Option<(String, String)> {
    let asked = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    match (asked("PENSTOCK_TEST_KAFKA"), asked("PENSTOCK_TEST_CQL")) {
        (Some(kafka), Some(cql)) => {
            let keyspace = format!("services_{}", std::process::id());
            Some((format!("kafka://{kafka}"), format!("scylla://{cql}/{keyspace}")))
        }
        _ if std::env::var_os("CI").is_some() => {
            panic!("PENSTOCK_TEST_KAFKA and PENSTOCK_TEST_CQL are not set")
        }
        _ => {
            eprintln!("skipped: PENSTOCK_TEST_KAFKA and PENSTOCK_TEST_CQL are not set");
            None
        }
    }
}

fn loaded(dir: &Path, (log, store): &(String, String)) -> Loaded {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = Config {
        http: HttpConfig { listen: any, ..HttpConfig::default() },
        admin: AdminConfig { listen: any, ..AdminConfig::default() },
        log: LogConfig { url: log.clone(), ..Default::default() },
        store: StoreConfig { url: store.clone(), ..Default::default() },
        ..Config::default()
    };
    Loaded { config, base_dir: dir.to_owned(), file: None }
}

/// A service under way.
struct Running {
    name: &'static str,
    admin: SocketAddr,
    task: JoinHandle<Result<()>>,
}

impl Running {
    fn of(
        name: &'static str,
        admin: SocketAddr,
        run: impl Future<Output = Result<()>> + Send + 'static,
    ) -> Self {
        Self { name, admin, task: tokio::spawn(run) }
    }

    async fn ready(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let url = format!("http://{}/readyz", self.admin);
            let said = match reqwest::get(url).await {
                Ok(answer) if answer.status() == 200 => return,
                Ok(answer) => answer.text().await.unwrap_or_default(),
                Err(error) => error.to_string(),
            };
            if self.task.is_finished() {
                panic!("{} ended: {:?}", self.name, (&mut self.task).await);
            }
            assert!(Instant::now() < deadline, "{}: {said}", self.name);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn post(addr: SocketAddr, id: &str, source: &str) {
    let event = json!({ "specversion": "1.0", "id": id, "source": source, "type": "greeting" });
    let response = reqwest::Client::new()
        .post(format!("http://{addr}/v1/events"))
        .header("content-type", "application/cloudevents+json")
        .body(event.to_string())
        .send();
    assert_eq!(response.await.unwrap().status(), 202);
}

/// Events of this source, once there are so many.
async fn stored(addr: SocketAddr, source: &str, count: usize) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let url = format!("http://{addr}/v1/events?type=greeting&source={source}&limit=100");
    loop {
        let text = reqwest::get(&url).await.unwrap().text().await.unwrap();
        let page: Value = serde_json::from_str(&text).unwrap();
        let events = page["events"].as_array().cloned().unwrap_or_default();
        if events.len() >= count {
            return events;
        }
        assert!(Instant::now() < deadline, "{page}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn services_started_from_the_last_to_the_first_bring_an_event_through_once() {
    let Some(backends) = backends() else { return };
    let dir = tempfile::tempdir().unwrap();
    let shutdown = CancellationToken::new();
    let loaded = || loaded(dir.path(), &backends);

    let query = sink::query::Server::bind(loaded()).await.unwrap();
    let (answers, admin) = (query.http_addr, query.admin_addr);
    let query = Running::of("query", admin, query.run(shutdown.clone()));
    let sink = sink::Server::bind(loaded()).await.unwrap();
    let sink = Running::of("sink", sink.admin_addr, sink.run(shutdown.clone()));
    let chosen = processors::only(&loaded().config, &[]).unwrap();
    let bound = processors::Server::bind("penstock-processor", loaded(), chosen).await.unwrap();
    let processor = Running::of("processor", bound.admin_addr, bound.run(shutdown.clone()));
    let ingest = ingest::Server::bind(loaded()).await.unwrap();
    let (door, admin) = (ingest.http_addr, ingest.admin_addr);
    let ingest = Running::of("ingest", admin, ingest.run(shutdown.clone()));
    let mut all = [query, sink, processor, ingest];
    for service in &mut all {
        service.ready().await;
    }

    // The topics are shared by everyone who tests here: a source of our own tells ours apart.
    let source = format!("/test/{}", std::process::id());
    for id in ["1", "2", "1"] {
        post(door, id, &source).await;
    }
    let events = stored(answers, &source, 2).await;
    let mut ids: Vec<_> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["1", "2"]);

    shutdown.cancel();
    for service in all {
        let name = service.name;
        let ended = tokio::time::timeout(Duration::from_secs(30), service.task).await;
        ended.expect(name).expect(name).expect(name);
    }
}
