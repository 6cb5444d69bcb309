//! The log seam: records in topics of partitions, offsets, and groups that share the reading.
//!
//! [`Log`] is a cloneable handle over an implementation chosen by URL: `file:PATH` is the
//! embedded log of this crate ([`embedded`]), `kafka://HOST:PORT` Apache Kafka, in builds with the
//! feature `kafka`. The rest of Penstock knows only this page.
//!
//! # What the words mean
//!
//! * A **position** is always the offset of the *next* record to read. Positions are ordered, not
//!   contiguous: transactions leave holes, so nothing may count records by subtracting positions.
//! * A **lease** is one assignment of one partition to one member. After a revocation or a loss
//!   it is stale for good, and a stale lease cannot commit.
//! * A **gap** is what retention took before it was read. There is no silent reset.
//!
//! # The way of a subscription
//!
//! ```text
//! Assigned -> (answer with start positions) -> Batch | Gap ... -> Revoked -> (ack) -> Assigned ...
//! ```
//!
//! Any aborted transaction surfaces as `Revoked { lost: true }` followed by a new `Assigned`: one
//! path of recovery.

pub mod contract;
mod driver;
pub mod embedded;
#[cfg(feature = "kafka")]
pub mod kafka;
mod metrics;
mod options;
mod partitioner;
mod record;
mod subscription;

use std::{sync::Arc, time::Duration};

pub use driver::{LogDriver, ReadDriver, SubscriptionDriver, TransactDriver};
pub use metrics::Metrics;
pub use options::{Clock, Options, check, open};
pub use partitioner::partition_for;
pub use record::{Headers, HeadersBuilder, Record, Stored};
pub use subscription::{
    Assigned, Assignment, Batch, Delivery, Gap, Lease, Revocation, Subscription, Transactor,
};

/// The offset of the next record to read.
pub type Position = u64;

/// A topic as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub name: Arc<str>,
    /// How many partitions; checked against what exists.
    pub partitions: u32,
    /// How many copies on Kafka; `None` is 3, or the number of brokers if fewer. The embedded
    /// log keeps one.
    pub replication: Option<u16>,
    /// What may be taken from it.
    pub retention: Retention,
}

/// What a log may take from a topic as time goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retention {
    /// Records go when older (by append time) than `age`, or when a partition is larger than `bytes`.
    Delete {
        /// How long a record stays at least.
        age: Option<Duration>,
        /// How many bytes a partition keeps at least.
        bytes: Option<u64>,
    },
    /// The last record of each key stays for ever; earlier ones may go.
    Compact,
}

/// A topic as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub name: Arc<str>,
    /// How many partitions it has.
    pub partitions: u32,
    /// Differs when a topic is deleted and made again; `None` where the log cannot tell.
    pub incarnation: Option<u64>,
}

/// First and end position of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The first position that can still be read.
    pub start: Position,
    /// The position that the next record gets.
    pub end: Position,
}

/// Where an appended record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
}

/// Why a record was not appended, by what the caller can do.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum AppendError {
    /// Not stored; a later try may succeed.
    #[error("not stored now: {0}")]
    Retry(String),
    /// Not stored, and never will be as it is.
    #[error("refused: {0}")]
    Refused(String),
    /// May or may not have been stored; a retry may double it.
    #[error("outcome unknown: {0}")]
    Unknown(String),
}

/// Why a compare-and-append did not happen.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum AppendAtError {
    /// The topic ends elsewhere: read up to `end`, decide again.
    #[error("the topic ends at {end}")]
    Conflict {
        /// The end as it is.
        end: Position,
    },
    /// As for a plain append.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// Why an operation on the log failed.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum LogError {
    /// A later try may succeed.
    #[error("the log cannot answer now: {0}")]
    Retry(String),
    /// The lease is no longer held; wait for the next assignment.
    #[error("the lease of {topic}/{partition} is no longer held")]
    Stale {
        /// Topic of the lease.
        topic: Arc<str>,
        /// Partition of the lease.
        partition: u32,
    },
    /// There is no such topic or partition.
    #[error("no topic or partition {0}")]
    Unknown(String),
    /// The position was taken by retention, or never existed.
    #[error("position {wanted} of {topic}/{partition} is not in {start}..={end}")]
    OutOfRange {
        /// Topic asked for.
        topic: Arc<str>,
        /// Partition asked for.
        partition: u32,
        /// Position asked for.
        wanted: Position,
        /// First position that can be read.
        start: Position,
        /// End position.
        end: Position,
    },
    /// A topic is not as the configuration says.
    #[error("topic {topic}: {detail}")]
    Mismatch {
        /// Its name.
        topic: Arc<str>,
        /// What differs and what to do.
        detail: String,
    },
    /// Another process holds the log.
    #[error("{0}")]
    Locked(String),
    /// The configuration or the data cannot be used; a retry will not help.
    #[error("{0}")]
    Fatal(String),
}

/// Why a transaction did not happen.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum TransactError {
    /// Nothing was stored or committed. The partitions come again as `Revoked { lost: true }`
    /// and `Assigned`.
    #[error("transaction aborted: {0}")]
    Aborted(String),
    /// The log is beyond use for this process.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// A handle on a log; clones share it.
#[derive(Clone)]
pub struct Log(Arc<dyn LogDriver>);

impl Log {
    /// Wraps an implementation.
    pub fn new(driver: impl LogDriver) -> Self {
        Self(Arc::new(driver))
    }

    /// See [`LogDriver::ensure_topics`].
    pub async fn ensure_topics(&self, specs: &[TopicSpec]) -> Result<(), LogError> {
        self.0.ensure_topics(specs).await
    }

    /// See [`LogDriver::topic`].
    pub async fn topic(&self, topic: &str) -> Result<TopicInfo, LogError> {
        self.0.topic(topic).await
    }

    /// See [`LogDriver::topics`].
    pub async fn topics(&self) -> Result<Vec<TopicInfo>, LogError> {
        self.0.topics().await
    }

    /// See [`LogDriver::bounds`].
    pub async fn bounds(&self, topic: &str, partition: u32) -> Result<Bounds, LogError> {
        self.0.bounds(topic, partition).await
    }

    /// See [`LogDriver::position_at`].
    pub async fn position_at(
        &self,
        topic: &str,
        partition: u32,
        appended_at: i64,
    ) -> Result<Position, LogError> {
        self.0.position_at(topic, partition, appended_at).await
    }

    /// See [`LogDriver::append`].
    pub async fn append(
        &self,
        topic: &str,
        records: Vec<Record>,
    ) -> Vec<Result<Appended, AppendError>> {
        self.0.append(topic, records).await
    }

    /// See [`LogDriver::append_at`].
    pub async fn append_at(
        &self,
        topic: &str,
        expected_end: Position,
        records: Vec<Record>,
    ) -> Result<Position, AppendAtError> {
        self.0.append_at(topic, expected_end, records).await
    }

    /// See [`LogDriver::read`].
    pub async fn read(
        &self,
        topic: &str,
        partition: u32,
        from: Position,
        to: Position,
    ) -> Result<Reader, LogError> {
        self.0.read(topic, partition, from, to).await.map(Reader)
    }

    /// See [`LogDriver::subscribe`].
    pub async fn subscribe(&self, group: &str, topics: &[&str]) -> Result<Subscription, LogError> {
        self.0.subscribe(group, topics).await.map(Subscription::new)
    }

    /// See [`LogDriver::status`].
    pub fn status(&self) -> Result<(), LogError> {
        self.0.status()
    }

    /// See [`LogDriver::committed`].
    pub async fn committed(
        &self,
        group: &str,
        topic: &str,
    ) -> Result<Vec<Option<Position>>, LogError> {
        self.0.committed(group, topic).await
    }
}

/// Reads a partition between two positions, outside any group.
pub struct Reader(Box<dyn ReadDriver>);

impl Reader {
    /// See [`ReadDriver::next`].
    pub async fn next(&mut self) -> Result<Option<(Vec<Stored>, Position)>, LogError> {
        self.0.next().await
    }
}
