//! The log on Apache Kafka, through librdkafka.
//!
//! * `brokers`: the URL; `client`: the one place that makes clients, with what a user may set and
//!   what we insist on; `observe`: what clients tell by callbacks; `metrics`: their statistics.
//! * `record`: to and from Kafka's messages; `errors`: what an error means to the caller.
//! * `topics`: make, check, list, with `settings`, what is checked; `offsets`: where partitions end and
//!   groups stand.
//! * `produce`: append, with `lanes` for what is out and what waits, and `deliveries` for what became
//!   of it; `compare`: append at an expected end.
//! * `read`: reading outside groups, with `readers`, the consumers for it.
//! * `subscription`: a member of a group and its transactor, as the seam knows them; `member`, its
//!   state; `poll`, its thread, with `rebalance` (callbacks), `batch`, `mailbox` (to the owner) and
//!   `leases`, the local fence; `assignment`, where new partitions stand; `claim`, who had them.
//! * `transactions`: the thread of a transactor, with `outbox`, its producer; `watchdog`: calls that hang.
//!
//! What is promised: an append is answered when all replicas in sync have it (`acks=all`); readers
//! see only what was committed (`read_committed`). librdkafka's types stay in this folder. Its calls
//! block, so they happen on tokio's blocking threads, each with a deadline.

mod assignment;
mod batch;
mod brokers;
mod claim;
mod client;
mod compare;
mod deliveries;
mod errors;
mod lanes;
mod leases;
mod mailbox;
mod member;
mod metrics;
mod observe;
mod offsets;
mod outbox;
mod poll;
mod produce;
mod read;
mod readers;
mod rebalance;
mod record;
mod settings;
mod subscription;
mod topics;
mod transactions;
mod watchdog;

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, Weak},
    time::Duration,
};

use async_trait::async_trait;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

pub use self::metrics::{BrokerLabel, ClientLabel, KafkaMetrics, LagLabel};
use self::{
    client::Clients,
    compare::Ends,
    observe::{Health, Observer},
    offsets::Groups,
    produce::Appender,
    readers::Readers,
};
use crate::{
    AppendAtError, AppendError, Appended, Bounds, LogDriver, LogError, Options, Position,
    ReadDriver, Record, SubscriptionDriver, TopicInfo, TopicSpec,
};

/// How long a look whether any broker answers may take, and the pause before the next.
const LOOK: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(300);
/// How often idle clients are looked after.
const TEND: Duration = Duration::from_secs(5);

/// Opens the log on the brokers that a URL names, `kafka://host:port,host:port`. The brokers need not
/// be up, so that a cluster can start in any order: what needs them answers `Retry` until they are.
pub async fn open(url: &str, options: Options) -> Result<KafkaLog, LogError> {
    let clients = Arc::new(Clients::new(brokers::parse(url)?, options)?);
    let core = Arc::new(Core {
        appender: Appender::new(clients.clone())?,
        lookup: readers::lookup(&clients)?,
        readers: Readers::new(clients.clone()),
        groups: Groups::default(),
        ends: Ends::default(),
        known: Known::default(),
        clients,
    });
    tokio::spawn(watch(Arc::downgrade(&core), core.clients.health.clone()));
    Ok(KafkaLog(core))
}

/// Says what is wrong with a URL or a property; librdkafka looks at those, too.
pub fn check(url: &str, options: Options) -> Result<(), LogError> {
    Clients::new(brokers::parse(url)?, options).map(drop)
}

/// A handle on a Kafka cluster; clones share it.
#[derive(Clone)]
pub struct KafkaLog(Arc<Core>);

impl KafkaLog {
    /// Deletes what is before a position of a partition, as retention would.
    pub async fn take_before(
        &self,
        topic: &str,
        partition: u32,
        before: Position,
    ) -> Result<(), LogError> {
        self.0.take_before(topic, partition, before).await
    }
}

/// What all parts share.
pub(crate) struct Core {
    /// Makes clients; also holds the options and the metrics.
    pub clients: Arc<Clients>,
    appender: Appender,
    lookup: BaseConsumer<Observer>,
    readers: Arc<Readers>,
    groups: Groups,
    ends: Ends,
    known: Known,
}

impl Drop for Core {
    fn drop(&mut self) {
        self.clients.health.suspicion.notify_one(); // ends the watch
    }
}

/// How many partitions topics have, as far as was asked.
#[derive(Default)]
struct Known(RwLock<HashMap<Arc<str>, Option<u32>>>);

impl Known {
    fn partitions(&self, topic: &str) -> Option<u32> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(topic).copied().flatten()
    }

    /// Whether it ever was there.
    fn has_seen(&self, topic: &str) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains_key(topic)
    }

    fn learn(&self, topic: &str, partitions: u32) -> u32 {
        if self.partitions(topic) != Some(partitions) {
            let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
            known.insert(topic.into(), Some(partitions));
        }
        partitions
    }

    fn forget(&self, topic: &str) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.entry(topic.into()).and_modify(|partitions| *partitions = None);
    }
}

/// Looks whether a broker answers when there is doubt, and after idle clients in between.
async fn watch(core: Weak<Core>, health: Arc<Health>) {
    loop {
        let doubt = tokio::time::timeout(TEND, health.suspicion.notified()).await.is_ok();
        let Some(core) = core.upgrade() else { return };
        core.readers.prune();
        let look = core.clone();
        let tended = blocking("a look at the brokers", move || {
            readers::listen(&look.lookup);
            look.groups.poll();
            Ok(!doubt || look.answers())
        });
        let answers = tended.await.unwrap_or(false);
        let news = health.set_down(!answers);
        let brokers = core.clients.brokers();
        match (answers, news) {
            (false, true) => tracing::warn!(brokers, "no broker answers; appends are put off"),
            (true, true) => tracing::info!(brokers, "a broker answers again"),
            _ => {}
        }
        drop(core);
        if !answers {
            tokio::time::sleep(PAUSE).await;
            health.suspicion.notify_one();
        }
    }
}

impl Core {
    /// Why nothing can be appended to a topic that could not be looked up. One that was there may be
    /// unknown to brokers that have just come back, so only one that never was refuses for good.
    fn no_place(&self, topic: &str, error: &LogError) -> AppendError {
        match error {
            LogError::Unknown(_) if !self.known.has_seen(topic) => {
                AppendError::Refused(error.to_string())
            }
            other => AppendError::Retry(other.to_string()),
        }
    }

    /// Whether any broker answers; blocks.
    fn answers(&self) -> bool {
        // A topic that is known, since the list of all may be long.
        let topic =
            self.known.0.read().unwrap_or_else(PoisonError::into_inner).keys().next().cloned();
        self.lookup.client().fetch_metadata(topic.as_deref(), LOOK).is_ok()
    }
}

/// Runs what blocks where it may.
async fn blocking<T: Send + 'static>(
    what: &str,
    call: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    let done = tokio::task::spawn_blocking(call).await;
    done.unwrap_or_else(|e| Err(LogError::Fatal(format!("{what} failed: {e}"))))
}

/// Drops a client, which blocks until its threads have ended, on a thread of its own.
fn bury<T: Send + 'static>(client: T) {
    let thread = std::thread::Builder::new().name("kafka close".into());
    if let Err(error) = thread.spawn(move || drop(client)) {
        tracing::warn!(%error, "a Kafka client was closed in the way of others");
    }
}

#[async_trait]
impl LogDriver for KafkaLog {
    async fn ensure_topics(&self, specs: &[TopicSpec]) -> Result<(), LogError> {
        self.0.ensure_topics(specs).await
    }

    async fn topic(&self, topic: &str) -> Result<TopicInfo, LogError> {
        self.0.topic(topic).await
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>, LogError> {
        self.0.topics().await
    }

    async fn bounds(&self, topic: &str, partition: u32) -> Result<Bounds, LogError> {
        self.0.bounds(topic, partition).await
    }

    async fn position_at(
        &self,
        topic: &str,
        partition: u32,
        appended_at: i64,
    ) -> Result<Position, LogError> {
        self.0.position_at(topic, partition, appended_at).await
    }

    async fn append(
        &self,
        topic: &str,
        records: Vec<Record>,
    ) -> Vec<Result<Appended, AppendError>> {
        // Before anything is asked of brokers, which may take a thread for seconds.
        if let Err(error) = self.0.appender.ready() {
            return vec![Err(AppendError::Retry(error.to_string())); records.len()];
        }
        // librdkafka would keep records of a topic it does not know for a while.
        let partitions = match self.0.partitions(topic).await {
            Ok(partitions) => partitions,
            Err(error) => return vec![Err(self.0.no_place(topic, &error)); records.len()],
        };
        let results = self.0.appender.append(&topic.into(), partitions, records).await;
        if results.iter().any(Result::is_err) && self.0.clients.health.take_doubt(topic) {
            self.0.known.forget(topic); // it may be gone, or another one now
        }
        results
    }

    async fn append_at(
        &self,
        topic: &str,
        expected_end: Position,
        records: Vec<Record>,
    ) -> Result<Position, AppendAtError> {
        self.0.append_at(topic, expected_end, records).await
    }

    async fn read(
        &self,
        topic: &str,
        partition: u32,
        from: Position,
        to: Position,
    ) -> Result<Box<dyn ReadDriver>, LogError> {
        self.0.exists(topic, partition).await?;
        let (core, topic) = (self.0.clone(), topic.to_owned());
        let reader = blocking("reading", move || core.reader(&topic, partition, from, to)).await?;
        Ok(Box::new(reader))
    }

    async fn subscribe(
        &self,
        group: &str,
        topics: &[&str],
    ) -> Result<Box<dyn SubscriptionDriver>, LogError> {
        let mut known = Vec::with_capacity(topics.len());
        for topic in topics {
            known.push(self.0.topic(topic).await?);
        }
        subscription::subscribe(self.0.clone(), group, known)
    }

    async fn committed(&self, group: &str, topic: &str) -> Result<Vec<Option<Position>>, LogError> {
        self.0.committed(group, topic).await
    }

    fn status(&self) -> Result<(), LogError> {
        self.0.clients.health.status()
    }
}
