//! Calls of the store that are made until they succeed, because the partition cannot go on without.
//!
//! Not for the query, which answers its reader instead. The invariant: nothing is given up and
//! nothing is skipped, so a retry ends only in success or in an error that stops the sink.

use std::{
    collections::BTreeSet,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use eventlog::LogError;
use service::health::Part;

use crate::{
    SinkError,
    metrics::Metrics,
    store::{Flush, Identity, Origin, PartitionState, RollupKey, RollupRow, Store, StoreError},
};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Locators and rollup rows read in one call.
const READS_AT_ONCE: usize = 1_000;

/// A partition's handle on the store.
#[derive(Clone)]
pub(crate) struct Patient {
    pub(crate) store: Store,
    pub(crate) metrics: Metrics,
    pub(crate) status: Status,
}

impl Patient {
    pub(crate) async fn partition(
        &self,
        topic: &str,
        epoch: u32,
        partition: u32,
    ) -> Result<PartitionState, SinkError> {
        self.store(|| self.store.partition(topic, epoch, partition)).await
    }

    pub(crate) async fn locate(
        &self,
        identities: &[Identity],
    ) -> Result<Vec<Option<Origin>>, SinkError> {
        let mut found = Vec::with_capacity(identities.len());
        for some in identities.chunks(READS_AT_ONCE) {
            let origins = self.store(|| self.store.locate(some)).await?;
            checked("locators", some.len(), origins.len())?;
            found.extend(origins);
        }
        self.metrics.look_ups.inc_by(identities.len() as u64);
        Ok(found)
    }

    pub(crate) async fn rollup_rows(
        &self,
        keys: &[RollupKey],
    ) -> Result<Vec<Option<RollupRow>>, SinkError> {
        let mut found = Vec::with_capacity(keys.len());
        for some in keys.chunks(READS_AT_ONCE) {
            let rows = self.store(|| self.store.rollup_rows(some)).await?;
            checked("rollup rows", some.len(), rows.len())?;
            found.extend(rows);
        }
        Ok(found)
    }

    pub(crate) async fn write(&self, flush: &Arc<Flush>) -> Result<(), SinkError> {
        self.store(|| self.store.write(flush.clone())).await
    }

    /// Repeats a call of the store for as long as it takes.
    pub(crate) async fn store<T, F>(&self, call: impl Fn() -> F) -> Result<T, SinkError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        self.until(call, |error| match error {
            StoreError::Retry(why) => Ok(format!("the store does not answer: {why}")),
            StoreError::Fatal(_) | StoreError::Locked(_) => Err(SinkError::Store(error)),
        })
        .await
    }

    /// Repeats a call of the log for as long as it takes.
    pub(crate) async fn log<T, F>(&self, call: impl Fn() -> F) -> Result<T, SinkError>
    where
        F: Future<Output = Result<T, LogError>>,
    {
        self.until(call, |error| match error {
            LogError::Retry(why) => Ok(format!("the log does not answer: {why}")),
            error => Err(SinkError::Log(error)),
        })
        .await
    }

    /// Repeats `call` while `judge` answers why to wait.
    pub(crate) async fn until<T, E, F>(
        &self,
        call: impl Fn() -> F,
        judge: impl Fn(E) -> Result<String, SinkError>,
    ) -> Result<T, SinkError>
    where
        F: Future<Output = Result<T, E>>,
    {
        let mut trouble = None;
        let mut pause = FIRST_PAUSE;
        loop {
            match call().await.map_err(&judge) {
                Ok(value) => return Ok(value),
                Err(Err(fatal)) => return Err(fatal),
                Err(Ok(why)) => {
                    self.metrics.retries.inc();
                    if trouble.is_none() {
                        tracing::warn!(reason = %why, "waiting, and trying again until it succeeds");
                    }
                    trouble.get_or_insert_with(|| self.status.trouble()).because(&why);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }
}

fn checked(what: &str, asked: usize, answered: usize) -> Result<(), SinkError> {
    if asked == answered {
        return Ok(());
    }
    let text = format!("the store answered {answered} {what} where {asked} were asked for");
    Err(SinkError::Store(StoreError::Fatal(text)))
}

/// The sink's entry in the health of the process, shared by its partitions: it is ready again when
/// the last of them is.
#[derive(Clone, Debug)]
pub(crate) struct Status(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    part: Part,
    waiting: Mutex<(u64, BTreeSet<u64>)>,
}

impl Status {
    pub(crate) fn new(part: Part) -> Self {
        Self(Arc::new(Shared { part, waiting: Mutex::default() }))
    }

    pub(crate) fn part(&self) -> &Part {
        &self.0.part
    }

    fn trouble(&self) -> Trouble {
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.0 += 1;
        let id = waiting.0;
        waiting.1.insert(id);
        Trouble { status: self.clone(), id }
    }
}

/// One call that waits; over when dropped.
struct Trouble {
    status: Status,
    id: u64,
}

impl Trouble {
    fn because(&self, why: &str) {
        self.status.0.part.failing(why);
    }
}

impl Drop for Trouble {
    fn drop(&mut self) {
        let mut waiting = self.status.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.1.remove(&self.id);
        if waiting.1.is_empty() {
            self.status.0.part.ready();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::testing::patient;

    #[tokio::test]
    async fn a_call_is_repeated_until_it_succeeds_and_health_says_so_meanwhile() {
        let (patient, health) = patient();
        let calls = AtomicU32::new(0);
        let answer = patient
            .store(|| async {
                match calls.fetch_add(1, Ordering::Relaxed) {
                    0 => Err(StoreError::Retry("busy".into())),
                    1 => {
                        assert!(health.failing()[0].1.contains("busy"));
                        Err(StoreError::Retry("busy".into()))
                    }
                    _ => Ok(7),
                }
            })
            .await;
        assert_eq!(answer.map_err(|e| e.to_string()), Ok(7));
        assert!(health.failing().is_empty());
    }

    #[tokio::test]
    async fn what_cannot_be_mended_is_not_repeated() {
        let (patient, _) = patient();
        let calls = AtomicU32::new(0);
        let answer: Result<(), _> = patient
            .store(|| async {
                calls.fetch_add(1, Ordering::Relaxed);
                Err(StoreError::Fatal("broken".into()))
            })
            .await;
        assert!(answer.is_err());
        assert_eq!(calls.into_inner(), 1);
    }
}
