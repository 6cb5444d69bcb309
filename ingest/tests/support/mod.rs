//! A real door on a real port, and a log that fails on purpose.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use eventlog::{
    AppendAtError, AppendError, Appended, Bounds, Log, LogDriver, LogError, Position, ReadDriver,
    Record, Retention, SubscriptionDriver, TopicInfo, TopicSpec,
};
use ingest::{Ingest, Metrics};
use prometheus_client::registry::Registry as MetricsRegistry;
use reqwest::header::HeaderMap;
use schemas::{Codec, Registry, Unknown, topics};
use serde_json::Value;
use service::{
    auth::{Caller, Gate},
    config::IngestConfig,
    http::HttpOptions,
};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use utoipa_axum::router::OpenApiRouter;

pub const STRUCTURED: &str = "application/cloudevents+json";
pub const BATCH: &str = "application/cloudevents-batch+json";
pub const NDJSON: &str = "application/x-ndjson";
pub const JSON: &str = "application/json";

/// The schema of type `flight`: `carrier` is a string, `delay` an int.
const FLIGHT: &str = r#"{"type":"record","name":"Flight","fields":[
    {"name":"carrier","type":"string"},{"name":"delay","type":"int"}]}"#;

/// A door that serves until it is dropped.
pub struct Server {
    pub addr: SocketAddr,
    /// The embedded log, where the schemas are, and the events unless another log was given.
    pub log: Log,
    registry: Registry,
    /// The routes that are served, with their descriptions.
    pub routes: OpenApiRouter,
    metrics: Arc<MetricsRegistry>,
    _shutdown: DropGuard,
    _data: tempfile::TempDir,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub json: Value,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn code(&self) -> &str {
        self.json["code"].as_str().unwrap_or_default()
    }
}

impl Server {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut IngestConfig)) -> Self {
        Self::build(None, Gate::open_to(Caller::anyone()), change).await
    }

    /// For whoever the gate lets in.
    pub async fn behind(gate: Gate) -> Self {
        Self::build(None, gate, |_| {}).await
    }

    /// Events go to another log than the schemas.
    pub async fn on(log: impl LogDriver, change: impl FnOnce(&mut IngestConfig)) -> Self {
        Self::build(Some(Log::new(log)), Gate::open_to(Caller::anyone()), change).await
    }

    async fn build(other: Option<Log>, gate: Gate, change: impl FnOnce(&mut IngestConfig)) -> Self {
        let data = tempfile::tempdir().unwrap();
        let url = format!("file:{}", data.path().display());
        let log = eventlog::open(&url, eventlog::Options::default()).await.unwrap();
        let raw = TopicSpec {
            name: topics::RAW.into(),
            partitions: 4,
            replication: None,
            retention: Retention::Delete { age: None, bytes: None },
        };
        log.ensure_topics(&[raw]).await.unwrap();
        let registry = Registry::open(log.clone()).await.unwrap();
        let mut config = IngestConfig::default();
        change(&mut config);
        let mut metrics = MetricsRegistry::default();
        let ingest = Ingest {
            config,
            log: other.unwrap_or_else(|| log.clone()),
            codec: Codec::new(registry.clone(), Unknown::Accept),
            metrics: Metrics::register(&mut metrics),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let router = ingest::router(Arc::new(ingest));
        let router = router.merge(ingest::registry_router(registry.clone()));
        let options = HttpOptions { gate, ..HttpOptions::default() };
        let routes = router.clone();
        let served = service::openapi::published(router);
        tokio::spawn(service::http::serve(listener, served, options, shutdown.clone()));
        Self {
            addr,
            routes,
            log,
            registry,
            metrics: Arc::new(metrics),
            _shutdown: shutdown.drop_guard(),
            _data: data,
        }
    }

    /// From now on [`flight`]s have a schema.
    pub async fn with_flights(self) -> Self {
        self.with_flights_of("default").await
    }

    /// The same in that namespace.
    pub async fn with_flights_of(self, namespace: &str) -> Self {
        self.registry.register(namespace, "flight", FLIGHT).await.unwrap();
        self
    }

    pub async fn post(&self, content_type: &str, body: impl Into<reqwest::Body>) -> Answer {
        self.post_with(&[("content-type", content_type)], body).await
    }

    pub async fn post_with(
        &self,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        let url = format!("http://{}/v1/events", self.addr);
        let mut request =
            reqwest::Client::new().post(url).timeout(Duration::from_secs(20)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let text = response.text().await.unwrap();
        let json = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        Answer { status, headers, json }
    }

    /// The ids of all events in the log, sorted.
    pub async fn stored_ids(&self) -> Vec<String> {
        let mut ids: Vec<_> = self
            .stored()
            .await
            .iter()
            .map(|record| record.headers.get_str("ce_id").unwrap().to_owned())
            .collect();
        ids.sort();
        ids
    }

    pub async fn stored(&self) -> Vec<Record> {
        let mut records = Vec::new();
        for partition in 0..4 {
            let Bounds { start, end } = self.log.bounds(topics::RAW, partition).await.unwrap();
            let mut reader = self.log.read(topics::RAW, partition, start, end).await.unwrap();
            while let Some((stored, _)) = reader.next().await.unwrap() {
                records.extend(stored.into_iter().map(|stored| stored.record));
            }
        }
        records
    }

    /// The value of one sample, 0 when it is not there.
    pub fn metric(&self, sample: &str) -> f64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.metrics).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }
}

/// Waits for what must come soon.
pub async fn until(condition: impl Fn() -> bool) {
    let soon = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), soon).await.unwrap();
}

/// A valid event.
pub fn event(id: &str) -> String {
    format!(r#"{{"specversion":"1.0","id":"{id}","source":"/test","type":"plain","data":1}}"#)
}

/// An event whose data has a schema.
pub fn flight(id: &str, delay: &str) -> String {
    format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"/test","type":"flight","data":{{"carrier":"UA","delay":{delay}}}}}"#
    )
}

pub fn batch(events: &[String]) -> String {
    format!("[{}]", events.join(","))
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

type Fate = Result<Appended, AppendError>;

pub fn stored() -> Fate {
    Ok(Appended { partition: 0, offset: 0 })
}
pub fn retry() -> Fate {
    Err(AppendError::Retry("a reason for operators".into()))
}
pub fn unknown() -> Fate {
    Err(AppendError::Unknown("a reason for operators".into()))
}
pub fn refused() -> Fate {
    Err(AppendError::Refused("the record is too large".into()))
}

/// Gives the records of every append these fates, once `open` lets it.
pub struct ScriptedLog {
    fates: Vec<Fate>,
    open: Arc<tokio::sync::Semaphore>,
}

impl ScriptedLog {
    pub fn new(fates: Vec<Fate>) -> Self {
        let open = tokio::sync::Semaphore::new(tokio::sync::Semaphore::MAX_PERMITS);
        Self { fates, open: Arc::new(open) }
    }

    /// Appends wait until the semaphore gets permits.
    pub fn hanging(fates: Vec<Fate>) -> (Self, Arc<tokio::sync::Semaphore>) {
        let open = Arc::new(tokio::sync::Semaphore::new(0));
        (Self { fates, open: open.clone() }, open)
    }
}

fn not_here() -> LogError {
    LogError::Fatal("only appends are scripted".into())
}

#[async_trait]
impl LogDriver for ScriptedLog {
    async fn append(&self, _: &str, records: Vec<Record>) -> Vec<Fate> {
        let _permit = self.open.acquire().await.unwrap();
        assert!(records.len() <= self.fates.len(), "more records than fates");
        self.fates[..records.len()].to_vec()
    }
    async fn ensure_topics(&self, _: &[TopicSpec]) -> Result<(), LogError> {
        Err(not_here())
    }
    async fn topic(&self, _: &str) -> Result<TopicInfo, LogError> {
        Err(not_here())
    }
    async fn topics(&self) -> Result<Vec<TopicInfo>, LogError> {
        Err(not_here())
    }
    async fn bounds(&self, _: &str, _: u32) -> Result<Bounds, LogError> {
        Err(not_here())
    }
    async fn position_at(&self, _: &str, _: u32, _: i64) -> Result<Position, LogError> {
        Err(not_here())
    }
    async fn append_at(
        &self,
        _: &str,
        _: Position,
        _: Vec<Record>,
    ) -> Result<Position, AppendAtError> {
        Err(AppendError::Refused("only appends are scripted".into()).into())
    }
    async fn read(
        &self,
        _: &str,
        _: u32,
        _: Position,
        _: Position,
    ) -> Result<Box<dyn ReadDriver>, LogError> {
        Err(not_here())
    }
    async fn subscribe(
        &self,
        _: &str,
        _: &[&str],
    ) -> Result<Box<dyn SubscriptionDriver>, LogError> {
        Err(not_here())
    }
    async fn committed(&self, _: &str, _: &str) -> Result<Vec<Option<Position>>, LogError> {
        Err(not_here())
    }
    fn status(&self) -> Result<(), LogError> {
        Ok(())
    }
}
