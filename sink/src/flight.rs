//! A flush on its way: dead letters first, then the store, each for as long as it takes.
//!
//! It runs beside its partition's task, so that the next batch is worked on meanwhile, and ends with
//! it. One that is cut off in the middle has done no harm within its epoch: every write is absolute, and its
//! records come again. A next epoch would count some of them wrongly, so it is waited for where that can be.

use std::sync::Arc;

use eventlog::{AppendError, Log, Position, Record};
use schemas::topics::DEAD_LETTERS;
use tokio::{task::JoinHandle, time::Instant};

use crate::{SinkError, metrics::Outcome, retry::Patient, store::Flush};

/// Records of a flush by what became of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) stored: u64,
    pub(crate) duplicate: u64,
    pub(crate) replayed: u64,
    pub(crate) dead_lettered: u64,
}

/// Dropping it cuts it off.
#[derive(Debug)]
pub(crate) struct Flight {
    job: JoinHandle<Result<(), SinkError>>,
    /// Everything below is durable once it landed.
    pub(crate) position: Position,
    /// Append time of its last record.
    pub(crate) appended_at: Option<i64>,
}

impl Flight {
    pub(crate) fn start(
        log: Log,
        patient: Patient,
        letters: Vec<Record>,
        flush: Flush,
        counts: Counts,
    ) -> Self {
        let job = tokio::spawn(async move {
            let begun = Instant::now();
            bury(&log, &patient, letters).await?;
            let flush = Arc::new(flush);
            patient.write(&flush).await?;
            let metrics = &patient.metrics;
            metrics.flushed(begun.elapsed(), flush.events.len(), flush.rollups.len());
            metrics.count(Outcome::Stored, counts.stored);
            metrics.count(Outcome::Duplicate, counts.duplicate);
            metrics.count(Outcome::Replayed, counts.replayed);
            metrics.count(Outcome::DeadLettered, counts.dead_lettered);
            Ok(())
        });
        Self { job, position: 0, appended_at: None }
    }

    /// What it stands for.
    pub(crate) fn carrying(mut self, position: Position, appended_at: Option<i64>) -> Self {
        (self.position, self.appended_at) = (position, appended_at);
        self
    }

    /// Waits until it landed; for ever when there is none. Cancel-safe.
    pub(crate) async fn landed(flight: &mut Option<Self>) -> Result<(), SinkError> {
        match flight {
            None => std::future::pending().await,
            Some(flight) => match (&mut flight.job).await {
                Ok(result) => result,
                Err(error) => Err(SinkError::Task(error.to_string())),
            },
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.job.abort();
    }
}

/// Appends dead letters until all are durable. One of unknown outcome may be there twice; its origin says so.
async fn bury(log: &Log, patient: &Patient, letters: Vec<Record>) -> Result<(), SinkError> {
    let left = std::sync::Mutex::new(letters);
    let lock = || left.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if lock().is_empty() {
        return Ok(());
    }
    let attempt = || async {
        let letters = lock().clone();
        let results = log.append(DEAD_LETTERS, letters.clone()).await;
        let mut failed = Vec::new();
        let mut why = None;
        for (letter, result) in letters.into_iter().zip(results) {
            match result {
                Ok(_) => {}
                Err(AppendError::Refused(reason)) => return Err(Err(reason)),
                Err(error) => {
                    why = Some(error.to_string());
                    failed.push(letter);
                }
            }
        }
        *lock() = failed;
        why.map_or(Ok(()), |why| Err(Ok(why)))
    };
    patient
        .until(attempt, |error| match error {
            Ok(why) => Ok(format!("dead letters cannot be appended: {why}")),
            Err(reason) => Err(SinkError::DeadLetter(reason)),
        })
        .await
}
