//! A log, a store and sinks over them, all real, and time as an argument.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use eventlog::{Clock, Log, Options, Record, Retention, Stored, TopicSpec};
use prometheus_client::registry::Registry as Metering;
use schemas::{Codec, Data, Event, Registry, Timestamp, Unknown, topics};
use service::{
    config::{MeasureConfig, RollupConfig, SinkConfig},
    health::Health,
};
use sink::{
    Metrics, Outcome, OutcomeLabels, Sink, SinkError, definitions,
    store::{Definition, Store, VersionId},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const SECOND: i64 = 1_000_000;
pub const HOUR: i64 = 3_600 * SECOND;
/// Where the clock of every test begins: 2026-01-01.
pub const BEGIN: i64 = 1_767_225_600 * SECOND;
pub const GROUP: &str = "sink";

/// Everything that outlives a sink.
pub struct World {
    pub dir: tempfile::TempDir,
    pub log: Log,
    pub store: Store,
    pub codec: Codec,
    pub clock: Arc<AtomicI64>,
    pub partitions: u32,
}

impl World {
    pub async fn new(partitions: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicI64::new(BEGIN));
        let (log, codec) = open_log(&dir.path().join("log"), &clock, partitions, None).await;
        let store = open_store(dir.path()).await;
        Self { dir, log, store, codec, clock, partitions }
    }

    pub fn pass(&self, time: i64) {
        self.clock.fetch_add(time, Ordering::Relaxed);
    }

    pub fn now(&self) -> i64 {
        self.clock.load(Ordering::Relaxed)
    }

    /// Replaces the log by an empty one, as if its directory had been deleted.
    pub async fn lose_log(&mut self) {
        let other = self.dir.path().join("log-of-another-life");
        (self.log, self.codec) = open_log(&other, &self.clock, self.partitions, None).await;
    }

    pub async fn append(&self, events: &[Event]) {
        let records = events.iter().map(|e| self.codec.encode(e).unwrap()).collect();
        self.append_records(records).await;
    }

    pub async fn append_records(&self, records: Vec<Record>) {
        for result in self.log.append(topics::CLEAN, records).await {
            result.unwrap();
        }
    }

    /// All records of a topic, by partition, in order.
    pub async fn records(&self, topic: &str) -> Vec<(u32, Stored)> {
        let mut all = Vec::new();
        for partition in 0..self.log.topic(topic).await.unwrap().partitions {
            let bounds = self.log.bounds(topic, partition).await.unwrap();
            let mut reader =
                self.log.read(topic, partition, bounds.start, bounds.end).await.unwrap();
            while let Some((records, _)) = reader.next().await.unwrap() {
                all.extend(records.into_iter().map(|record| (partition, record)));
            }
        }
        all
    }

    /// Starts a sink.
    pub fn start(&self, config: &SinkConfig, rollups: &[RollupConfig]) -> Running {
        self.start_on(self.store.clone(), config, rollups)
    }

    /// Starts a sink on another store than the world's, such as one that fails.
    pub fn start_on(&self, store: Store, config: &SinkConfig, rollups: &[RollupConfig]) -> Running {
        let metrics = Metrics::register(&mut Metering::default());
        let health = Health::default();
        let definitions = definitions(rollups).unwrap();
        let versions = definitions.iter().map(Definition::version).collect();
        let sink = Sink {
            log: self.log.clone(),
            store,
            codec: self.codec.clone(),
            config: config.clone(),
            definitions,
            metrics: metrics.clone(),
            health: health.part("sink"),
            group: GROUP.into(),
        };
        let shutdown = CancellationToken::new();
        let clock = self.clock.clone();
        let clock = Arc::new(move || clock.load(Ordering::Relaxed));
        let job = tokio::spawn(sink.run_with(clock, shutdown.clone()));
        Running { job, shutdown, metrics, health, versions }
    }

    /// Runs a sink until everything is stored and committed, and stops it.
    pub async fn settle(&self, config: &SinkConfig, rollups: &[RollupConfig]) -> Running {
        let mut running = self.start(config, rollups);
        self.wait_stored(&mut running).await;
        running.stop().await;
        running
    }

    /// Waits until the store has all that the log has.
    pub async fn wait_stored(&self, running: &mut Running) {
        eventually("everything is stored", async || {
            assert!(!running.job.is_finished(), "the sink has stopped");
            self.is_stored(&running.versions).await
        })
        .await;
    }

    /// Whether the store has all that the log has, folded into these versions.
    pub async fn is_stored(&self, versions: &[VersionId]) -> bool {
        let Some(epoch) = self.store.epoch(topics::CLEAN).await.unwrap() else { return false };
        if epoch.incarnation != self.log.topic(topics::CLEAN).await.unwrap().incarnation {
            return false;
        }
        for partition in 0..self.partitions {
            let end = self.log.bounds(topics::CLEAN, partition).await.unwrap().end;
            let state = self.store.partition(topics::CLEAN, epoch.epoch, partition).await.unwrap();
            let folded =
                |v: &VersionId| state.marks.iter().any(|mark| mark.version == *v && mark.to >= end);
            if state.stored_to < end || !versions.iter().all(folded) {
                return false;
            }
        }
        true
    }
}

/// A sink at work.
pub struct Running {
    pub job: JoinHandle<Result<(), SinkError>>,
    pub shutdown: CancellationToken,
    pub metrics: Metrics,
    pub health: Health,
    pub versions: Vec<VersionId>,
}

impl Running {
    /// SIGTERM.
    pub async fn stop(&mut self) {
        self.shutdown.cancel();
        let stopped = tokio::time::timeout(Duration::from_secs(20), &mut self.job).await;
        stopped.expect("the sink stops in time").unwrap().unwrap();
    }

    /// SIGKILL, as near as a task comes to it.
    pub async fn crash(mut self) {
        self.job.abort();
        let _ = (&mut self.job).await;
    }

    pub fn counted(&self, outcome: Outcome) -> u64 {
        self.metrics.outcomes.get_or_create(&OutcomeLabels { outcome }).get()
    }

    pub fn look_ups(&self) -> u64 {
        self.metrics.look_ups.get()
    }
}

pub async fn open_log(
    path: &Path,
    clock: &Arc<AtomicI64>,
    partitions: u32,
    retention: Option<u64>,
) -> (Log, Codec) {
    let clock = clock.clone();
    let options = Options {
        clock: Clock::new(move || clock.load(Ordering::Relaxed)),
        retention_period: Duration::from_millis(20),
        // Longer than any test waits: what is revoked must be given back.
        revoke_deadline: Duration::from_secs(60),
        ..Options::default()
    };
    let log = eventlog::open(&format!("file:{}", path.display()), options).await.unwrap();
    let spec = |name: &str, bytes| TopicSpec {
        name: name.into(),
        partitions,
        replication: None,
        retention: Retention::Delete { age: None, bytes },
    };
    log.ensure_topics(&[spec(topics::CLEAN, retention), spec(topics::DEAD_LETTERS, None)])
        .await
        .unwrap();
    let registry = Registry::open(log.clone()).await.unwrap();
    (log, Codec::new(registry, Unknown::Accept))
}

pub async fn open_store(dir: &Path) -> Store {
    crate::backend::open(dir).await
}

/// A flight that departed at a time, of one of a few carriers, with a delay of whole minutes.
pub fn flight(id: &str, time: i64, carrier: &str, delay: i64) -> Event {
    let data = format!(r#"{{"carrier":"{carrier}","dep_delay":{delay}}}"#);
    Event {
        namespace: "default".into(),
        id: id.into(),
        source: "/flights".into(),
        kind: "flight.departed".into(),
        subject: None,
        time: Timestamp::from_micros(time),
        time_filled: false,
        data_content_type: Some("application/json".into()),
        data_schema: None,
        extensions: BTreeMap::new(),
        data: Data::Json(Bytes::from(data)),
    }
}

/// Delays by carrier, per hour and day.
pub fn departures() -> RollupConfig {
    let delay =
        MeasureConfig { field: "data.dep_delay".into(), of: vec!["sum".into(), "max".into()] };
    RollupConfig {
        name: "departures".into(),
        kind: "flight.departed".into(),
        windows: vec!["1h".into(), "1d".into()],
        group_by: [("carrier".to_owned(), "data.carrier".to_owned())].into(),
        measures: [("delay".to_owned(), delay)].into(),
    }
}

/// The definition of [`departures`].
pub fn departures_definition() -> Definition {
    definitions(&[departures()]).unwrap().remove(1)
}

/// A sink whose window holds so many records.
pub fn window(records: usize) -> SinkConfig {
    SinkConfig { window_records: records, ..SinkConfig::default() }
}

/// Waits until it is so; fails after 20 s.
pub async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited too long until {what}");
}
