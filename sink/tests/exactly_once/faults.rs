//! A store that fails in ways that a real one does.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use async_trait::async_trait;
use sink::store::{
    Definition, EventRow, EventsPage, EventsQuery, Flush, FoldMark, Identity, Origin,
    PartitionState, RollupKey, RollupQuery, RollupRow, Store, StoreDriver, StoreError, TopicEpoch,
    VersionId,
};

/// What goes wrong with writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Written, and never answered.
    SilentAfter,
    /// Written, and answered as if not.
    DeniedAfter,
    /// Not written, to be tried again.
    RefusedBefore,
    /// Events written; rollups and marks not; never answered. What a store without one atomic
    /// batch leaves behind.
    EventsOnly,
}

/// Passes everything on, but for some writes.
pub struct Faulty {
    pub inner: Store,
    pub fault: Fault,
    /// Only of this partition, if it is named.
    pub partition: Option<u32>,
    /// Writes that go well before it.
    pub well: AtomicU32,
    /// Writes that it happens to.
    pub times: AtomicU32,
    /// Writes it happened to.
    pub happened: AtomicU32,
}

impl Faulty {
    pub fn new(inner: Store, fault: Fault, well: u32, times: u32) -> Arc<Self> {
        Arc::new(Self::well_and_times(inner, fault, well, times))
    }

    /// One that always fails, but only on writes of a partition.
    pub fn of(partition: u32, inner: Store, fault: Fault) -> Arc<Self> {
        let faulty = Self::well_and_times(inner, fault, 0, u32::MAX);
        Arc::new(Self { partition: Some(partition), ..faulty })
    }

    fn well_and_times(inner: Store, fault: Fault, well: u32, times: u32) -> Self {
        let happened = AtomicU32::new(0);
        let (well, times) = (well.into(), times.into());
        Self { inner, fault, partition: None, well, times, happened }
    }

    /// From now on all goes well.
    pub fn mend(&self) {
        self.times.store(0, Ordering::SeqCst);
    }

    pub fn happened(&self) -> u32 {
        self.happened.load(Ordering::SeqCst)
    }

    fn is_due(&self) -> bool {
        let less = |n: &AtomicU32| {
            n.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
        };
        !less(&self.well) && less(&self.times)
    }
}

#[async_trait]
impl StoreDriver for Faulty {
    async fn write(&self, flush: Arc<Flush>) -> Result<(), StoreError> {
        let other = self.partition.is_some_and(|partition| partition != flush.partition);
        if flush.events.is_empty() || other || !self.is_due() {
            return self.inner.write(flush).await;
        }
        let again = || Err(StoreError::Retry("a fault".into()));
        let answer = match self.fault {
            Fault::RefusedBefore => again(),
            Fault::DeniedAfter => {
                self.inner.write(flush).await?;
                again()
            }
            Fault::SilentAfter => {
                self.inner.write(flush).await?;
                Ok(())
            }
            Fault::EventsOnly => {
                let state =
                    self.inner.partition(&flush.topic, flush.epoch, flush.partition).await?;
                let part = Flush {
                    rollups: Vec::new(),
                    marks: Vec::new(),
                    stored_to: state.stored_to,
                    ..Flush::clone(&flush)
                };
                self.inner.write(Arc::new(part)).await?;
                Ok(())
            }
        };
        self.happened.fetch_add(1, Ordering::SeqCst);
        if matches!(self.fault, Fault::SilentAfter | Fault::EventsOnly) {
            return std::future::pending().await;
        }
        answer
    }

    async fn epoch(&self, topic: &str) -> Result<Option<TopicEpoch>, StoreError> {
        self.inner.epoch(topic).await
    }
    async fn begin_epoch(
        &self,
        topic: &str,
        from: Option<u32>,
        next: TopicEpoch,
    ) -> Result<TopicEpoch, StoreError> {
        self.inner.begin_epoch(topic, from, next).await
    }
    async fn partition(
        &self,
        topic: &str,
        epoch: u32,
        partition: u32,
    ) -> Result<PartitionState, StoreError> {
        self.inner.partition(topic, epoch, partition).await
    }
    async fn locate(&self, identities: &[Identity]) -> Result<Vec<Option<Origin>>, StoreError> {
        self.inner.locate(identities).await
    }
    async fn rollup_rows(&self, keys: &[RollupKey]) -> Result<Vec<Option<RollupRow>>, StoreError> {
        self.inner.rollup_rows(keys).await
    }
    async fn register(&self, definition: &Definition) -> Result<(), StoreError> {
        self.inner.register(definition).await
    }
    async fn definitions(&self) -> Result<Vec<Definition>, StoreError> {
        self.inner.definitions().await
    }
    async fn marks(
        &self,
        topic: &str,
        epoch: u32,
        version: VersionId,
    ) -> Result<Vec<(u32, FoldMark)>, StoreError> {
        self.inner.marks(topic, epoch, version).await
    }
    async fn events(&self, query: &EventsQuery) -> Result<EventsPage, StoreError> {
        self.inner.events(query).await
    }
    async fn event(&self, identity: &Identity) -> Result<Option<EventRow>, StoreError> {
        self.inner.event(identity).await
    }
    async fn rollup_scan(
        &self,
        query: &RollupQuery,
        after: Option<&RollupKey>,
        limit: usize,
    ) -> Result<Vec<RollupRow>, StoreError> {
        self.inner.rollup_scan(query, after, limit).await
    }
    async fn expire(&self, now: i64) -> Result<bool, StoreError> {
        self.inner.expire(now).await
    }
}
