//! The store seam: what the sink writes and the query reads, whatever database is behind it.
//!
//! The claim it serves: *the state of the store at position N is a function of the log up to N*.
//! So every write here is absolute and idempotent, and a write that comes again, or from a slow
//! former owner of a partition, changes nothing: rows carry the position they come from, and a
//! row of an earlier position never replaces a later one.

pub mod contract;
mod cql;
pub mod embedded;
mod metrics;
mod row;

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use eventlog::Position;
pub use metrics::{CallLabels, ErrorLabels, Metrics};
pub use row::{
    Aggregate, Definition, EventKey, EventRow, FoldMark, Identity, MAX_ATTRIBUTE_BYTES,
    MAX_GROUP_BYTES, Measure, Order, Origin, RollupKey, RollupRow, Selector, TopicEpoch, VersionId,
    holdable,
};
use service::config::{RetentionConfig, StoreConfig};

/// Why the store did not answer, by what the caller can do.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum StoreError {
    /// Not now: the same call may succeed later.
    #[error("the store cannot answer now: {0}")]
    Retry(String),
    /// The configuration or the data cannot be used; a retry will not help.
    #[error("{0}")]
    Fatal(String),
    /// Another process holds the store.
    #[error("{0}")]
    Locked(String),
}

/// What one partition's task writes at once. Durable, whole, when [`StoreDriver::write`] answers.
#[derive(Clone, Debug)]
pub struct Flush {
    /// The topic that was read.
    pub topic: Arc<str>,
    /// Its epoch.
    pub epoch: u32,
    /// Its partition.
    pub partition: u32,
    /// New events (and replays of them), in log order.
    pub events: Vec<EventRow>,
    /// Rollup rows that changed, with absolute values.
    pub rollups: Vec<RollupRow>,
    /// How far each version is folded after this.
    pub marks: Vec<FoldMark>,
    /// Everything below is in the store after this. Never goes back within an epoch.
    pub stored_to: Position,
}

/// What the store knows of one partition of a topic in an epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionState {
    /// Everything below is in the store; 0 when nothing is.
    pub stored_to: Position,
    /// How far each version is folded.
    pub marks: Vec<FoldMark>,
}

/// Which events to list.
#[derive(Clone, Debug)]
pub struct EventsQuery {
    /// The tenant.
    pub namespace: Arc<str>,
    /// By type or by subject.
    pub selector: Selector,
    /// Only of this source.
    pub source: Option<String>,
    /// Inclusive, microseconds since the Unix epoch.
    pub from: i64,
    /// Exclusive.
    pub to: i64,
    /// Newest or oldest first.
    pub order: Order,
    /// Continue strictly after this key, in the query's order.
    pub after: Option<EventKey>,
    /// At most so many rows.
    pub limit: usize,
}

/// A page of events.
#[derive(Clone, Debug)]
pub struct EventsPage {
    /// The rows, in the query's order.
    pub rows: Vec<EventRow>,
    /// Where to continue; `None` at the end. A page may be empty with more to come
    /// (a filter that looked at its bounded share of rows and found none).
    pub next: Option<EventKey>,
}

/// Which rollup rows to read: all partitions and epochs of them.
#[derive(Clone, Debug)]
pub struct RollupQuery {
    /// The tenant.
    pub namespace: Arc<str>,
    /// The rollup's name.
    pub rollup: Arc<str>,
    /// The version.
    pub version: VersionId,
    /// Window length in microseconds; 0 is the window that holds all time.
    pub window: i64,
    /// First window start, inclusive, microseconds.
    pub from: i64,
    /// Last window start, exclusive.
    pub to: i64,
}

/// A store of events, their identities and rollups.
#[async_trait]
pub trait StoreDriver: Send + Sync + 'static {
    // --- what the sink needs ---

    /// The current epoch of a topic, if one was ever begun.
    async fn epoch(&self, topic: &str) -> Result<Option<TopicEpoch>, StoreError>;
    /// Begins an epoch if the current one is still `from`; answers the epoch that is current then.
    async fn begin_epoch(
        &self,
        topic: &str,
        from: Option<u32>,
        next: TopicEpoch,
    ) -> Result<TopicEpoch, StoreError>;
    /// What is known of a partition.
    async fn partition(
        &self,
        topic: &str,
        epoch: u32,
        partition: u32,
    ) -> Result<PartitionState, StoreError>;
    /// Which record stored each identity.
    async fn locate(&self, identities: &[Identity]) -> Result<Vec<Option<Origin>>, StoreError>;
    /// Rollup rows as they are, to go on folding from.
    async fn rollup_rows(&self, keys: &[RollupKey]) -> Result<Vec<Option<RollupRow>>, StoreError>;
    /// Writes a flush, whole, durable when it answers. Writing it again changes nothing, nor does
    /// a late one change what a later one wrote: `stored_to` and marks never go back (a mark
    /// whose `to` is lower is passed over), a rollup row is replaced only by one with a higher
    /// `last_offset`, an identity keeps the record that stored it first.
    /// Shared, so that a retry costs no copy.
    async fn write(&self, flush: Arc<Flush>) -> Result<(), StoreError>;
    /// Keeps a definition; writing it again changes nothing.
    async fn register(&self, definition: &Definition) -> Result<(), StoreError>;

    // --- what the query needs ---

    /// All definitions, in the order they were first registered.
    async fn definitions(&self) -> Result<Vec<Definition>, StoreError>;
    /// The marks of a version, of every partition of the topic's epoch.
    async fn marks(
        &self,
        topic: &str,
        epoch: u32,
        version: VersionId,
    ) -> Result<Vec<(u32, FoldMark)>, StoreError>;
    /// A page of events.
    async fn events(&self, query: &EventsQuery) -> Result<EventsPage, StoreError>;
    /// One event.
    async fn event(&self, identity: &Identity) -> Result<Option<EventRow>, StoreError>;
    /// Rollup rows, ordered by (start, group), then epoch and partition; at most `limit`, from
    /// strictly after `after`. Fewer than `limit` is the end.
    async fn rollup_scan(
        &self,
        query: &RollupQuery,
        after: Option<&RollupKey>,
        limit: usize,
    ) -> Result<Vec<RollupRow>, StoreError>;
    /// Removes what is older than the retention, a bounded share of it; answers whether more is
    /// left. A store that ages by itself does nothing.
    async fn expire(&self, now: i64) -> Result<bool, StoreError>;
}

/// A handle on a store; clones share it.
pub type Store = Arc<dyn StoreDriver>;

/// Opens the store that a configuration names by its URL: `file:PATH` is the embedded one,
/// `scylla://HOST:PORT,HOST:PORT/KEYSPACE` one on ScyllaDB or Cassandra. `Retry` when a cluster does
/// not answer.
pub async fn open(
    config: &StoreConfig,
    retention: &RetentionConfig,
    metrics: Metrics,
) -> Result<Store, StoreError> {
    // Split off by hand: a URL parser would lose relative paths.
    match config.url.split_once(':') {
        Some(("file", path)) if !path.is_empty() => {
            let options = embedded::EmbeddedOptions {
                min_free_bytes: config.min_free_bytes,
                keep_events: retention.events,
                keep_rollups: retention.rollups,
            };
            let path = path.strip_prefix("//").unwrap_or(path);
            Ok(Arc::new(embedded::Embedded::open(Path::new(path), options).await?))
        }
        Some(("scylla", address)) => {
            Ok(Arc::new(cql::Cql::open(address, config, retention, metrics).await?))
        }
        _ => Err(StoreError::Fatal(format!(
            "store.url `{}` is not one this program can open: write `file:` and the path of a \
             folder, such as `file:./penstock-data/store`, or the nodes and the keyspace of a \
             cluster, such as `scylla://a:9042,b:9042/penstock`",
            without_credentials(&config.url)
        ))),
    }
}

/// A URL as a message may show it.
fn without_credentials(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => {
            format!("{}***{}", &url[..scheme + 3], &url[at..])
        }
        _ => url.to_owned(),
    }
}
