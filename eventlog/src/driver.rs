//! The seam: what an implementation of the log must provide.
//!
//! Everything here is at the grain of batches. What the words mean, and the rules that every
//! implementation keeps, is in the crate's documentation; `contract` holds the suite that checks them.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    AppendAtError, AppendError, Appended, Bounds, Delivery, Lease, LogError, Position, Record,
    Stored, TopicInfo, TopicSpec, TransactError,
};

/// A log: topics of partitions of records, and groups that read them.
#[async_trait]
pub trait LogDriver: Send + Sync + 'static {
    /// Makes the topics that do not exist and checks those that do.
    async fn ensure_topics(&self, specs: &[TopicSpec]) -> Result<(), LogError>;
    /// What is known of a topic.
    async fn topic(&self, topic: &str) -> Result<TopicInfo, LogError>;
    /// All topics, by name.
    async fn topics(&self) -> Result<Vec<TopicInfo>, LogError>;
    /// First and end position of a partition.
    async fn bounds(&self, topic: &str, partition: u32) -> Result<Bounds, LogError>;
    /// The position of the first record appended at or after a time (microseconds); the end
    /// when there is none.
    async fn position_at(
        &self,
        topic: &str,
        partition: u32,
        appended_at: i64,
    ) -> Result<Position, LogError>;
    /// Appends, and answers one result per record, in order, when each is durable.
    async fn append(&self, topic: &str, records: Vec<Record>)
    -> Vec<Result<Appended, AppendError>>;
    /// Appends to a topic of one partition, only if it ends at `expected_end`; all or nothing.
    /// Answers the new end.
    async fn append_at(
        &self,
        topic: &str,
        expected_end: Position,
        records: Vec<Record>,
    ) -> Result<Position, AppendAtError>;
    /// Reads a partition from a position up to another one, outside any group.
    async fn read(
        &self,
        topic: &str,
        partition: u32,
        from: Position,
        to: Position,
    ) -> Result<Box<dyn ReadDriver>, LogError>;
    /// Joins a group.
    async fn subscribe(
        &self,
        group: &str,
        topics: &[&str],
    ) -> Result<Box<dyn SubscriptionDriver>, LogError>;
    /// A group's committed positions in a topic, one for each partition.
    async fn committed(&self, group: &str, topic: &str) -> Result<Vec<Option<Position>>, LogError>;
    /// Whether appends can be taken now, for readiness: `Retry` while they are put off and may
    /// recover by themselves, `Fatal` when only opening the log again can help. Cheap.
    fn status(&self) -> Result<(), LogError>;
}

/// What [`crate::Reader`] stands on.
#[async_trait]
pub trait ReadDriver: Send {
    /// The next records and the position after them; `None` once `to` is reached.
    /// Records may be empty while the position advances over holes.
    async fn next(&mut self) -> Result<Option<(Vec<Stored>, Position)>, LogError>;
}

/// What [`crate::Subscription`] stands on.
#[async_trait]
pub trait SubscriptionDriver: Send {
    /// Waits for what comes next.
    async fn next(&mut self) -> Result<Delivery, LogError>;
    /// Commits positions, each under its lease; a stale lease is refused and changes nothing.
    async fn commit(&mut self, positions: &[(Lease, Position)]) -> Result<(), LogError>;
    /// Gives out nothing more of a lease until it is resumed; what was read ahead is dropped.
    fn pause(&mut self, lease: &Lease);
    /// Reads a paused lease from a position.
    fn resume(&mut self, lease: &Lease, at: Position);
    /// Turns this into a transactor that owns producer and subscription.
    async fn into_transactional(
        self: Box<Self>,
        transactional_id: Arc<str>,
    ) -> Result<Box<dyn TransactDriver>, LogError>;
    /// Leaves the group in good order.
    async fn close(self: Box<Self>) -> Result<(), LogError>;
}

/// What [`crate::Transactor`] stands on.
#[async_trait]
pub trait TransactDriver: Send {
    /// Waits for what comes next.
    async fn next(&mut self) -> Result<Delivery, LogError>;
    /// Appends outputs and commits positions in one transaction, or does neither.
    async fn commit(
        &mut self,
        outputs: Vec<(Arc<str>, Record)>,
        positions: &[(Lease, Position)],
    ) -> Result<(), TransactError>;
    /// Leaves the group in good order.
    async fn close(self: Box<Self>) -> Result<(), LogError>;
}
