//! The store on ScyllaDB or Cassandra, by CQL: many processes on one keyspace.
//!
//! ```text
//! write -> sorted by where rows lie -> unlogged batches within a budget -> marks and position
//! read  -> directories of buckets   -> sub-partitions, merged           -> a page
//! ```
//!
//! Nothing locks and nothing is read before it is written: every row carries the timestamp that
//! its record or position gives it (see `write`), and the greater one stays. Reads and writes are
//! at LOCAL_QUORUM. Only what both databases understand alike is used.
//!
//! Start at `schema` for the tables, `layout` for where rows lie in them, `write` for the way in,
//! `lists` and `rollups` for the way out, `client` for how requests are made.

mod address;
mod budget;
mod client;
mod decode;
mod fault;
mod known;
mod layout;
mod lists;
mod locators;
mod retention;
mod rollups;
mod rows;
mod schema;
mod spread;
mod state;
mod statements;
mod walk;
mod write;

use std::sync::{Arc, atomic::AtomicUsize};

use address::Address;
use async_trait::async_trait;
use client::Client;
use known::Known;
use layout::Layout;
use retention::Retention;
use service::config::{RetentionConfig, StoreConfig};
use state::Topics;
use statements::Statements;

use super::{
    Definition, EventRow, EventsPage, EventsQuery, Flush, FoldMark, Identity, Metrics, Origin,
    PartitionState, RollupKey, RollupQuery, RollupRow, StoreDriver, StoreError, TopicEpoch,
    VersionId,
};

/// The store on CQL. See the module's documentation.
pub(super) struct Cql {
    client: Client,
    statements: Statements,
    layout: Layout,
    retention: Retention,
    known: Known,
    topics: Topics,
    /// What a row of `events` has been like lately, in bytes.
    row_bytes: AtomicUsize,
}

impl Cql {
    /// Connects to the cluster of a URL, given without its scheme, and makes what is missing in its
    /// keyspace.
    pub(super) async fn open(
        address: &str,
        config: &StoreConfig,
        retention: &RetentionConfig,
        metrics: Metrics,
    ) -> Result<Self, StoreError> {
        let address = Address::parse(address)?;
        let layout = Layout::of(config)?;
        let client = Client::connect(address, config, metrics).await?;
        schema::prepare(&client, &layout, config, retention).await?;
        // What was just made has to be known for routing.
        if let Err(error) = client.session.refresh_metadata().await {
            return Err(StoreError::Retry(format!("the cluster cannot be looked at: {error}")));
        }
        let statements = Statements::prepare(&client).await?;
        Ok(Self {
            client,
            statements,
            layout,
            retention: Retention::of(retention),
            known: Known::default(),
            topics: Topics::default(),
            row_bytes: AtomicUsize::new(1_024),
        })
    }
}

#[async_trait]
impl StoreDriver for Cql {
    async fn epoch(&self, topic: &str) -> Result<Option<TopicEpoch>, StoreError> {
        self.current_epoch(topic).await
    }

    async fn begin_epoch(
        &self,
        topic: &str,
        from: Option<u32>,
        next: TopicEpoch,
    ) -> Result<TopicEpoch, StoreError> {
        self.swap_epoch(topic, from, next).await
    }

    async fn partition(
        &self,
        topic: &str,
        epoch: u32,
        partition: u32,
    ) -> Result<PartitionState, StoreError> {
        self.progress(topic, epoch, partition).await
    }

    async fn locate(&self, identities: &[Identity]) -> Result<Vec<Option<Origin>>, StoreError> {
        self.locate_all(identities).await
    }

    async fn rollup_rows(&self, keys: &[RollupKey]) -> Result<Vec<Option<RollupRow>>, StoreError> {
        self.rollups_by_key(keys).await
    }

    async fn write(&self, flush: Arc<Flush>) -> Result<(), StoreError> {
        self.write_flush(&flush).await
    }

    async fn register(&self, definition: &Definition) -> Result<(), StoreError> {
        self.add_definition(definition).await
    }

    async fn definitions(&self) -> Result<Vec<Definition>, StoreError> {
        self.all_definitions().await
    }

    async fn marks(
        &self,
        topic: &str,
        epoch: u32,
        version: VersionId,
    ) -> Result<Vec<(u32, FoldMark)>, StoreError> {
        self.version_marks(topic, epoch, version).await
    }

    async fn events(&self, query: &EventsQuery) -> Result<EventsPage, StoreError> {
        self.list(query).await
    }

    async fn event(&self, identity: &Identity) -> Result<Option<EventRow>, StoreError> {
        self.one_event(identity).await
    }

    async fn rollup_scan(
        &self,
        query: &RollupQuery,
        after: Option<&RollupKey>,
        limit: usize,
    ) -> Result<Vec<RollupRow>, StoreError> {
        self.scan_rollups(query, after, limit).await
    }

    async fn expire(&self, _: i64) -> Result<bool, StoreError> {
        Ok(false) // the servers do, by each row's time to live
    }
}
