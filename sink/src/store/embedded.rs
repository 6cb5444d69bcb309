//! The embedded store: the tables in one folder, on an LSM engine, one process at a time.
//!
//! ```text
//! write -> encode (blocking pool) -> bounded queue -> one writer: batch, sync, answer
//! read  -> blocking pool, from a snapshot
//! ```
//!
//! The invariant: only the writer's thread changes anything, and it answers after the sync.
//! A write that waits too long answers `Retry`; since every write is absolute, trying again is
//! safe whether or not the first one comes through.

mod expire;
mod flush;
mod keys;
mod read;
mod space;
mod tables;
#[cfg(test)]
mod tests;
mod values;
mod writer;

use std::{
    path::Path,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use expire::Retention;
use flush::Part;
use space::Space;
use tables::Tables;
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::spawn_blocking,
    time::timeout,
};
use writer::Job;

use super::{
    Definition, EventRow, EventsPage, EventsQuery, Flush, FoldMark, Identity, Origin,
    PartitionState, RollupKey, RollupQuery, RollupRow, StoreDriver, StoreError, TopicEpoch,
    VersionId,
};

/// Bytes of flushes that may be queued or on their way to disk.
const QUEUE_BYTES: usize = 64 * 1024 * 1024;

/// How long a write may wait until it is answered `Retry`.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);

/// Queries that read at the same time; each holds at most a page.
const READERS: usize = 8;

/// How the embedded store keeps its data.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// Writes answer `Retry` while the file system has fewer bytes free.
    pub min_free_bytes: u64,
    /// How long an event stays, since its append.
    pub keep_events: Duration,
    /// How long a rollup row stays since its last write, and an identity since its append.
    pub keep_rollups: Duration,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        let retention = service::config::RetentionConfig::default();
        Self {
            min_free_bytes: service::config::StoreConfig::default().min_free_bytes,
            keep_events: retention.events,
            keep_rollups: retention.rollups,
        }
    }
}

/// The embedded store. See the module's documentation.
pub struct Embedded {
    tables: Tables,
    retention: Retention,
    queue: Arc<Semaphore>,
    readers: Arc<Semaphore>,
    /// `None` only while this is dropped: the writer ends when the sender is gone.
    jobs: Option<mpsc::Sender<Job>>,
    writer: Option<JoinHandle<()>>,
}

impl Embedded {
    /// Opens the store in a folder, or makes it.
    pub async fn open(path: &Path, options: EmbeddedOptions) -> Result<Self, StoreError> {
        let micros = |age: Duration| i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
        let retention = Retention {
            events: micros(options.keep_events),
            rollups: micros(options.keep_rollups),
            share: expire::SHARE,
        };
        let min_free = options.min_free_bytes;
        Self::open_with(path, retention, move |path| Space::of(path, min_free)).await
    }

    async fn open_with(
        path: &Path,
        retention: Retention,
        space: impl FnOnce(Arc<Path>) -> Space + Send + 'static,
    ) -> Result<Self, StoreError> {
        let path = path.to_owned();
        blocking(move || {
            let tables = Tables::open(&path)?;
            let space = space(tables.path.clone());
            let (jobs, writer) = writer::start(tables.clone(), space).map_err(|e| {
                StoreError::Fatal(format!("store {}: cannot start: {e}", path.display()))
            })?;
            Ok(Self {
                tables,
                retention,
                queue: Arc::new(Semaphore::new(QUEUE_BYTES)),
                readers: Arc::new(Semaphore::new(READERS)),
                jobs: Some(jobs),
                writer: Some(writer),
            })
        })
        .await
    }

    /// Reads on the blocking pool.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Tables) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let tables = self.tables.clone();
        blocking(move || read(&tables)).await
    }

    /// Reads for a query: a bounded number at a time.
    async fn query<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Tables) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        // It stays with the read, which goes on when nobody waits for it any more.
        let permit = self.readers.clone().acquire_owned().await.map_err(|_| closed())?;
        self.read(move |tables| {
            let _permit = permit;
            read(tables)
        })
        .await
    }

    /// Hands a job to the writer and waits for its answer.
    async fn ask<T>(&self, job: impl FnOnce(writer::Answer<T>) -> Job) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or_else(closed)?;
        jobs.send(job(answer)).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }

    async fn within<T>(
        &self,
        asked: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        match timeout(WRITE_DEADLINE, asked).await {
            Ok(answer) => answer,
            Err(_) => {
                // The engine may be waiting for workers of its own that failed.
                let poisoned = self
                    .read(|tables| {
                        tables
                            .db
                            .persist(fjall::PersistMode::Buffer)
                            .map_err(|e| tables.write_error(&e))
                    })
                    .await;
                Err(poisoned.err().unwrap_or_else(|| {
                    StoreError::Retry(format!(
                        "store {}: a write has waited {} s for the disk",
                        self.tables.path.display(),
                        WRITE_DEADLINE.as_secs()
                    ))
                }))
            }
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // Whoever opens the folder next must find it unlocked, so the writer is waited for.
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            drop(writer.join());
        }
    }
}

fn closed() -> StoreError {
    StoreError::Fatal("the store's writer has ended; restart the process".into())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    spawn_blocking(work)
        .await
        .map_err(|e| StoreError::Fatal(format!("the store met a defect: {e}")))?
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

#[async_trait]
impl StoreDriver for Embedded {
    async fn epoch(&self, topic: &str) -> Result<Option<TopicEpoch>, StoreError> {
        let topic = topic.to_owned();
        self.read(move |tables| writer::epoch(tables, &topic)).await
    }

    async fn begin_epoch(
        &self,
        topic: &str,
        from: Option<u32>,
        next: TopicEpoch,
    ) -> Result<TopicEpoch, StoreError> {
        let topic = topic.to_owned();
        self.within(self.ask(|answer| Job::BeginEpoch { topic, from, next, answer })).await
    }

    async fn partition(
        &self,
        topic: &str,
        epoch: u32,
        partition: u32,
    ) -> Result<PartitionState, StoreError> {
        let part = Part { topic: topic.into(), epoch, partition };
        self.read(move |tables| read::partition(tables, &part)).await
    }

    async fn locate(&self, identities: &[Identity]) -> Result<Vec<Option<Origin>>, StoreError> {
        let identities = identities.to_vec();
        self.read(move |tables| read::locate(tables, &identities)).await
    }

    async fn rollup_rows(&self, keys: &[RollupKey]) -> Result<Vec<Option<RollupRow>>, StoreError> {
        let keys = keys.to_vec();
        self.read(move |tables| read::rollup_rows(tables, keys)).await
    }

    async fn write(&self, flush: Arc<Flush>) -> Result<(), StoreError> {
        self.within(async {
            let now = now();
            let flush = Box::new(blocking(move || flush::encode(&flush, now)).await?);
            let permits = flush.size.clamp(1, QUEUE_BYTES) as u32;
            let queue = self.queue.clone();
            let budget = queue.acquire_many_owned(permits).await.map_err(|_| closed())?;
            self.ask(|answer| Job::Flush { flush, budget, answer }).await
        })
        .await
    }

    async fn register(&self, definition: &Definition) -> Result<(), StoreError> {
        let definition = Box::new(definition.clone());
        self.within(self.ask(|answer| Job::Register { definition, answer })).await
    }

    async fn definitions(&self) -> Result<Vec<Definition>, StoreError> {
        self.read(writer::definitions).await
    }

    async fn marks(
        &self,
        topic: &str,
        epoch: u32,
        version: VersionId,
    ) -> Result<Vec<(u32, FoldMark)>, StoreError> {
        let topic = topic.to_owned();
        self.read(move |tables| read::version_marks(tables, &topic, epoch, version)).await
    }

    async fn events(&self, query: &EventsQuery) -> Result<EventsPage, StoreError> {
        let query = query.clone();
        self.query(move |tables| read::events(tables, &query)).await
    }

    async fn event(&self, identity: &Identity) -> Result<Option<EventRow>, StoreError> {
        let identity = identity.clone();
        self.query(move |tables| read::event(tables, &identity)).await
    }

    async fn rollup_scan(
        &self,
        query: &RollupQuery,
        after: Option<&RollupKey>,
        limit: usize,
    ) -> Result<Vec<RollupRow>, StoreError> {
        let (query, after) = (query.clone(), after.cloned());
        self.query(move |tables| read::rollup_scan(tables, &query, after.as_ref(), limit)).await
    }

    async fn expire(&self, now: i64) -> Result<bool, StoreError> {
        let retention = self.retention;
        let walked = self.query(move |tables| expire::walk(tables, retention, now)).await?;
        let Some((removals, more)) = walked else {
            return Ok(false);
        };
        self.within(self.ask(|answer| Job::Expire { removals, answer })).await?;
        Ok(more)
    }
}
