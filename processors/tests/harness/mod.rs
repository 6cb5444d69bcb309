//! A log in a folder of its own, events in it, and processors on it.

#![allow(dead_code, reason = "each test file uses a part")]

pub mod faulty;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use eventlog::{Headers, Log, LogError, Options, Record, Retention, Stored, TopicSpec};
use processors::{Chain, Metrics, Runner};
use prometheus_client::registry::Registry as MetricsRegistry;
use schemas::{Codec, Data, Event, Registry, Timestamp, Unknown, topics};
use service::{config::ProcessorConfig, health::Health};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Everything here takes well under a second; on a busy machine it may take longer.
pub const DEADLINE: Duration = Duration::from_secs(60);

pub struct House {
    pub log: Log,
    pub codec: Codec,
    pub health: Health,
    pub metrics: Metrics,
    registry: MetricsRegistry,
    _dir: TempDir,
}

pub struct Running {
    token: CancellationToken,
    task: JoinHandle<Result<(), LogError>>,
}

impl House {
    pub async fn new() -> Self {
        Self::with(Unknown::Accept, |log| log).await
    }

    /// With a codec that is strict or not, and a log that may be wrapped.
    pub async fn with(unknown: Unknown, wrap: impl FnOnce(Log) -> Log) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("file:{}", dir.path().join("log").display());
        let log = wrap(eventlog::open(&url, Options::default()).await.unwrap());
        let retention = Retention::Delete { age: None, bytes: None };
        let spec = |name: &str, partitions| TopicSpec {
            name: name.into(),
            partitions,
            replication: None,
            retention: retention.clone(),
        };
        let specs = [spec(topics::RAW, 4), spec(topics::CLEAN, 4), spec(topics::DEAD_LETTERS, 1)];
        log.ensure_topics(&specs).await.unwrap();
        let codec = Codec::new(Registry::open(log.clone()).await.unwrap(), unknown);
        let mut registry = MetricsRegistry::default();
        let metrics = Metrics::register(&mut registry);
        Self { log, codec, health: Health::default(), metrics, registry, _dir: dir }
    }

    /// Appends events to `events.raw`.
    pub async fn post(&self, events: impl IntoIterator<Item = Event>) {
        let records = events.into_iter().map(|event| record(&self.codec, &event)).collect();
        self.append(records).await;
    }

    pub async fn append(&self, records: Vec<Record>) {
        for result in self.log.append(topics::RAW, records).await {
            result.unwrap();
        }
    }

    /// A processor named `clean` with a program, or without steps.
    pub fn runner(&self, program: Option<&str>) -> Runner {
        let config = config(program);
        Runner {
            chain: Chain::build(&config, Path::new(".")).unwrap(),
            config,
            log: self.log.clone(),
            codec: self.codec.clone(),
            metrics: self.metrics.clone(),
            health: self.health.part("processor clean"),
            dead_letters: topics::DEAD_LETTERS.into(),
            instance: "0".into(),
        }
    }

    /// All records of a topic, by partition and offset.
    pub async fn all(&self, topic: &str) -> Vec<(u32, Stored)> {
        let partitions = self.log.topic(topic).await.unwrap().partitions;
        let mut all = Vec::new();
        for partition in 0..partitions {
            let bounds = self.log.bounds(topic, partition).await.unwrap();
            let mut reader =
                self.log.read(topic, partition, bounds.start, bounds.end).await.unwrap();
            while let Some((records, _)) = reader.next().await.unwrap() {
                all.extend(records.into_iter().map(|stored| (partition, stored)));
            }
        }
        all
    }

    /// Waits until a topic holds so many records, and answers them.
    pub async fn wait_for(&self, topic: &str, count: usize) -> Vec<Stored> {
        let wait = async {
            loop {
                let all = self.all(topic).await;
                if all.len() >= count {
                    return all.into_iter().map(|(_, stored)| stored).collect::<Vec<_>>();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match tokio::time::timeout(DEADLINE, wait).await {
            Ok(records) => records,
            Err(_) => panic!("{topic} has {} of {count}", self.all(topic).await.len()),
        }
    }

    /// Waits until nothing fails.
    pub async fn wait_until_healthy(&self) {
        let wait = async {
            while !self.health.failing().is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(DEADLINE, wait).await.expect("all is well");
    }

    /// Waits until the processor has read `events.raw` to its end.
    pub async fn wait_until_read(&self, processor: &str) {
        let wait = async {
            loop {
                let committed = self
                    .log
                    .committed(&processors::group_name(processor), topics::RAW)
                    .await
                    .unwrap();
                let mut behind = 0;
                for (partition, committed) in (0..).zip(committed) {
                    let end = self.log.bounds(topics::RAW, partition).await.unwrap().end;
                    behind += end - committed.unwrap_or(0);
                }
                if behind == 0 {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, wait).await.expect("the group read to the end");
    }

    /// How often each event is in `events.clean`, by id.
    pub async fn times_by_id(&self) -> BTreeMap<String, usize> {
        let mut times = BTreeMap::new();
        for (_, stored) in self.all(topics::CLEAN).await {
            let (_, _, id) = schemas::identity_of(&stored.record).unwrap();
            *times.entry(id.to_owned()).or_default() += 1;
        }
        times
    }

    /// The metrics page's lines that contain all of these.
    pub fn metric(&self, parts: &[&str]) -> Vec<String> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let fits = |line: &&str| !line.starts_with('#') && parts.iter().all(|p| line.contains(p));
        text.lines().filter(fits).map(str::to_owned).collect()
    }
}

impl Running {
    pub fn start(runner: Runner) -> Self {
        let token = CancellationToken::new();
        Self { task: tokio::spawn(runner.run(token.clone())), token }
    }

    /// Ends as on SIGTERM.
    pub async fn stop(self) -> Result<(), LogError> {
        self.token.cancel();
        tokio::time::timeout(DEADLINE, self.task).await.expect("it stops in time").unwrap()
    }

    /// Ends in the middle of whatever it does.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await; // it was aborted: there is no result
    }
}

/// A configuration of a processor named `clean`.
pub fn config(program: Option<&str>) -> ProcessorConfig {
    let steps = program.map_or(String::new(), |program| {
        format!("steps = [{{ remap = {{ source = '''{program}''' }} }}]")
    });
    toml::from_str(&format!("name = \"clean\"\n{steps}")).unwrap()
}

pub fn event(id: impl Into<String>, data: &str) -> Event {
    let id = id.into();
    Event {
        namespace: Arc::from("shop"),
        source: "/checkout".into(),
        kind: "order.placed".into(),
        subject: Some(format!("cart-{}", id.len())),
        id,
        time: Timestamp::from_micros(1_357_034_400_000_000),
        time_filled: false,
        data_content_type: Some("application/json".into()),
        data_schema: None,
        extensions: BTreeMap::new(),
        data: Data::Json(data.to_owned().into()),
    }
}

/// A record of an event whose schema nobody has registered.
pub fn of_unknown_schema(codec: &Codec) -> Record {
    let mut record = record(codec, &event("bad", "{}"));
    let mut headers = Headers::builder();
    for (name, value) in record.headers.iter().filter(|(name, _)| *name != "content-type") {
        headers.push(name, value);
    }
    headers.push("content-type", "application/avro");
    record.headers = headers.build();
    record.value = Some(Bytes::from_static(&[0, 0, 0, 3, 231, 2]));
    record
}

/// Events `e0`, `e1`, ... spread over the partitions.
pub fn events(numbers: std::ops::Range<usize>) -> impl Iterator<Item = Event> {
    numbers.map(|n| Event {
        subject: Some(format!("cart-{}", n % 32)),
        ..event(format!("e{n}"), &format!("{{\"n\":{n}}}"))
    })
}

pub fn record(codec: &Codec, event: &Event) -> Record {
    codec.encode(event).unwrap()
}

/// Numbers that look random and are the same each time.
pub fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}
