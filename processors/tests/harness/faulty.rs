//! A log that fails as it is told to, in front of one that works.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use eventlog::{
    AppendAtError, AppendError, Appended, Bounds, Delivery, Gap, Lease, Log, LogDriver, LogError,
    Position, ReadDriver, Reader, Record, Stored, Subscription, SubscriptionDriver, TopicInfo,
    TopicSpec, TransactDriver, TransactError, Transactor,
};
use schemas::topics;

/// What goes wrong, each once, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// A commit that works.
    None,
    /// A commit is not tried, and the log cannot say more.
    NotCommitted,
    /// A commit works, but its answer is lost.
    AnswerLost,
    /// The log aborts the transaction.
    Aborted,
}

/// What is still to go wrong; clones share it.
#[derive(Clone, Default)]
pub struct Plan(Arc<Mutex<Troubles>>);

#[derive(Default)]
struct Troubles {
    commits: VecDeque<Trouble>,
    reads: usize,
    gap: bool,
    subscriptions: usize,
    /// Looks into the registry's topic.
    registry: usize,
    /// How often a group was joined.
    joined: usize,
}

impl Plan {
    pub fn commits(&self, troubles: &[Trouble]) {
        self.0.lock().unwrap().commits.extend(troubles);
    }

    /// So many reads fail, for a while.
    pub fn reads(&self, count: usize) {
        self.0.lock().unwrap().reads = count;
    }

    /// So many tries to join a group fail, for a while.
    pub fn subscriptions(&self, count: usize) {
        self.0.lock().unwrap().subscriptions = count;
    }

    /// So many looks into the registry fail, for a while.
    pub fn registry(&self, count: usize) {
        self.0.lock().unwrap().registry = count;
    }

    /// How often a group was joined.
    pub fn joined(&self) -> usize {
        self.0.lock().unwrap().joined
    }

    /// A gap comes before the next batch.
    pub fn gap(&self) {
        self.0.lock().unwrap().gap = true;
    }

    pub fn is_over(&self) -> bool {
        let left = self.0.lock().unwrap();
        let waited = left.reads + left.subscriptions + left.registry;
        left.commits.is_empty() && waited == 0 && !left.gap
    }

    pub fn wrap(&self, log: Log) -> Log {
        Log::new(Faulty { log, plan: self.clone() })
    }

    fn commit(&self) -> Trouble {
        self.0.lock().unwrap().commits.pop_front().unwrap_or(Trouble::None)
    }

    fn fails(&self, which: fn(&mut Troubles) -> &mut usize) -> Result<(), LogError> {
        let mut left = self.0.lock().unwrap();
        let count = which(&mut left);
        if *count == 0 {
            return Ok(());
        }
        *count -= 1;
        Err(LogError::Retry("on purpose".into()))
    }
}

struct Faulty {
    log: Log,
    plan: Plan,
}

struct Member<T> {
    inner: T,
    plan: Plan,
    held: Option<Delivery>,
}

struct Read(Reader);

impl<T> Member<T> {
    /// Puts a gap before the first batch, if there is to be one.
    fn pass(&mut self, delivery: Delivery) -> Delivery {
        let mut left = self.plan.0.lock().unwrap();
        match &delivery {
            Delivery::Batch(batch) if left.gap => {
                left.gap = false;
                let to = batch.records[0].offset;
                let gap = Gap { lease: batch.lease.clone(), from: to.saturating_sub(3), to };
                self.held = Some(delivery);
                Delivery::Gap(gap)
            }
            _ => delivery,
        }
    }
}

#[async_trait]
impl SubscriptionDriver for Member<Subscription> {
    async fn next(&mut self) -> Result<Delivery, LogError> {
        self.plan.fails(|left| &mut left.reads)?;
        if let Some(held) = self.held.take() {
            return Ok(held);
        }
        let delivery = self.inner.next().await?;
        Ok(self.pass(delivery))
    }

    async fn commit(&mut self, positions: &[(Lease, Position)]) -> Result<(), LogError> {
        self.inner.commit(positions).await
    }

    fn pause(&mut self, lease: &Lease) {
        self.inner.pause(lease);
    }

    fn resume(&mut self, lease: &Lease, at: Position) {
        self.inner.resume(lease, at);
    }

    async fn into_transactional(
        self: Box<Self>,
        id: Arc<str>,
    ) -> Result<Box<dyn TransactDriver>, LogError> {
        let inner = self.inner.into_transactional(id).await?;
        Ok(Box::new(Member { inner, plan: self.plan, held: None }))
    }

    async fn close(self: Box<Self>) -> Result<(), LogError> {
        self.inner.close().await
    }
}

#[async_trait]
impl TransactDriver for Member<Transactor> {
    async fn next(&mut self) -> Result<Delivery, LogError> {
        self.plan.fails(|left| &mut left.reads)?;
        if let Some(held) = self.held.take() {
            return Ok(held);
        }
        let delivery = self.inner.next().await?;
        Ok(self.pass(delivery))
    }

    async fn commit(
        &mut self,
        outputs: Vec<(Arc<str>, Record)>,
        positions: &[(Lease, Position)],
    ) -> Result<(), TransactError> {
        let lost = TransactError::Log(LogError::Retry("on purpose".into()));
        match self.plan.commit() {
            Trouble::None => self.inner.commit(outputs, positions).await,
            Trouble::NotCommitted => Err(lost),
            Trouble::AnswerLost => {
                self.inner.commit(outputs, positions).await?;
                Err(lost)
            }
            Trouble::Aborted => {
                // A position beyond the end is refused, and the transaction with it.
                let beyond: Vec<_> =
                    positions.iter().map(|(lease, _)| (lease.clone(), u64::MAX)).collect();
                self.inner.commit(outputs, &beyond).await
            }
        }
    }

    async fn close(self: Box<Self>) -> Result<(), LogError> {
        self.inner.close().await
    }
}

#[async_trait]
impl ReadDriver for Read {
    async fn next(&mut self) -> Result<Option<(Vec<Stored>, Position)>, LogError> {
        self.0.next().await
    }
}

#[async_trait]
impl LogDriver for Faulty {
    fn status(&self) -> Result<(), LogError> {
        self.log.status()
    }
    async fn ensure_topics(&self, specs: &[TopicSpec]) -> Result<(), LogError> {
        self.log.ensure_topics(specs).await
    }
    async fn topic(&self, topic: &str) -> Result<TopicInfo, LogError> {
        self.log.topic(topic).await
    }
    async fn topics(&self) -> Result<Vec<TopicInfo>, LogError> {
        self.log.topics().await
    }
    async fn bounds(&self, topic: &str, partition: u32) -> Result<Bounds, LogError> {
        if topic == topics::SCHEMAS {
            self.plan.fails(|left| &mut left.registry)?;
        }
        self.log.bounds(topic, partition).await
    }
    async fn position_at(&self, topic: &str, p: u32, time: i64) -> Result<Position, LogError> {
        self.log.position_at(topic, p, time).await
    }
    async fn append(
        &self,
        topic: &str,
        records: Vec<Record>,
    ) -> Vec<Result<Appended, AppendError>> {
        self.log.append(topic, records).await
    }
    async fn append_at(
        &self,
        topic: &str,
        end: Position,
        records: Vec<Record>,
    ) -> Result<Position, AppendAtError> {
        self.log.append_at(topic, end, records).await
    }
    async fn read(
        &self,
        topic: &str,
        partition: u32,
        from: Position,
        to: Position,
    ) -> Result<Box<dyn ReadDriver>, LogError> {
        let reader = self.log.read(topic, partition, from, to).await?;
        Ok(Box::new(Read(reader)))
    }
    async fn subscribe(
        &self,
        group: &str,
        topics: &[&str],
    ) -> Result<Box<dyn SubscriptionDriver>, LogError> {
        self.plan.fails(|left| &mut left.subscriptions)?;
        let inner = self.log.subscribe(group, topics).await?;
        self.plan.0.lock().unwrap().joined += 1;
        Ok(Box::new(Member { inner, plan: self.plan.clone(), held: None }))
    }
    async fn committed(&self, group: &str, topic: &str) -> Result<Vec<Option<Position>>, LogError> {
        self.log.committed(group, topic).await
    }
}
