//! What waits for the writer, bounded in bytes.
//!
//! A write that does not fit is put off at once: waiting for room would only move the queue into the
//! callers.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, OnceLock, PoisonError},
};

use tokio::sync::oneshot;

use super::{
    chunk::{ChunkKey, Segment},
    topic::{Partition, Topic, locked},
};
use crate::{AppendError, LogError, Metrics, Options, Position};

/// A commit takes no more than about this many bytes, so that nobody waits for too large a sync.
const COMMIT_BYTES: usize = 4 * 1024 * 1024;

/// Records for one partition.
pub(crate) struct Part {
    pub partition: Arc<Partition>,
    pub segments: Vec<Segment>,
}

/// A topic that is appended to, with how much.
pub(crate) struct Touched {
    pub topic: Arc<Topic>,
    pub records: u64,
    pub bytes: u64,
}

/// Everything that happens together or not at all.
#[derive(Default)]
pub(crate) struct Write {
    /// The topics appended to, for waking and counting.
    pub topics: Vec<Touched>,
    /// The records.
    pub parts: Vec<Part>,
    /// Where the only partition must end.
    pub expected_end: Option<Position>,
    /// Leaves a hole after the records of each partition, as a transaction marker would.
    pub burn: bool,
    /// Small values to keep.
    pub meta: Vec<(Vec<u8>, Vec<u8>)>,
    /// Chunks to remove.
    pub removals: Vec<ChunkKey>,
    /// Must be durable before the answer.
    pub sync: bool,
    /// Told how it went, before the answer and also when nobody waits for that any more.
    pub done: Option<Box<dyn FnOnce(bool) + Send>>,
    /// Bytes it holds in the queue.
    pub size: usize,
}

/// Why a write did not happen.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    Retry(String),
    Unknown(String),
    Conflict(Position),
}

impl From<Failure> for AppendError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Retry(why) => Self::Retry(why),
            Failure::Unknown(why) => Self::Unknown(why),
            Failure::Conflict(end) => Self::Retry(format!("the topic ends at {end}")),
        }
    }
}

impl From<Failure> for LogError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Retry(why) => Self::Retry(why),
            Failure::Unknown(why) => Self::Fatal(why),
            Failure::Conflict(end) => Self::Retry(format!("the topic ends at {end}")),
        }
    }
}

/// The base offset of each part.
pub(crate) type Bases = Vec<Position>;
pub(crate) type Answer = oneshot::Sender<Result<Bases, Failure>>;

/// What the writer and those who write share.
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    most: usize,
    metrics: Metrics,
    /// Why nothing is written any more.
    pub failed: OnceLock<String>,
}

#[derive(Default)]
struct Waiting {
    writes: VecDeque<(Write, Answer)>,
    bytes: usize,
    closed: bool,
}

impl Queue {
    pub fn new(options: &Options) -> Self {
        Self {
            waiting: Mutex::default(),
            arrived: Condvar::new(),
            most: options.max_queued_bytes,
            metrics: options.metrics.clone(),
            failed: OnceLock::new(),
        }
    }

    /// Hands a write over; the answer comes when it is durable. Never waits for room.
    pub fn submit(&self, write: Write) -> oneshot::Receiver<Result<Bases, Failure>> {
        let (answer, receiver) = oneshot::channel();
        let refusal = {
            let mut waiting = locked(&self.waiting);
            if let Some(why) = self.failed.get() {
                Some(why.clone())
            } else if waiting.closed {
                Some("the log is closing".to_owned())
            } else if waiting.bytes > 0 && waiting.bytes + write.size > self.most {
                self.metrics.deferred.inc();
                Some(format!("{} bytes wait for the disk already", waiting.bytes))
            } else {
                waiting.bytes += write.size;
                self.metrics.queued_bytes.set(waiting.bytes as i64);
                waiting.writes.push_back((write, answer));
                self.arrived.notify_one();
                return receiver;
            }
        };
        finish((write, answer), Err(Failure::Retry(refusal.unwrap_or_default())));
        receiver
    }

    /// No more writes; what waits is still written.
    pub fn close(&self) {
        locked(&self.waiting).closed = true;
        self.arrived.notify_all();
    }

    /// Nothing is written any more; what waits was not stored.
    pub fn fail(&self, why: &str) {
        let why = self.failed.get_or_init(|| why.to_owned()).clone();
        let left = std::mem::take(&mut locked(&self.waiting).writes);
        refuse(left.into(), &Failure::Retry(why));
    }

    /// The writes of the next commit; `None` once closed and empty.
    pub fn take(&self) -> Option<Vec<(Write, Answer)>> {
        let mut waiting = locked(&self.waiting);
        while waiting.writes.is_empty() {
            if waiting.closed {
                return None;
            }
            waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some((write, _)) = waiting.writes.front() {
            if bytes > 0 && bytes + write.size > COMMIT_BYTES {
                break;
            }
            bytes += write.size;
            taken.extend(waiting.writes.pop_front());
        }
        Some(taken)
    }

    /// Gives the room of finished writes back.
    pub fn release(&self, bytes: usize) {
        let mut waiting = locked(&self.waiting);
        waiting.bytes -= bytes;
        self.metrics.queued_bytes.set(waiting.bytes as i64);
    }
}

/// Says how a write went.
pub(crate) fn finish((write, answer): (Write, Answer), result: Result<Bases, Failure>) {
    if let Some(done) = write.done {
        done(result.is_ok());
    }
    let _ = answer.send(result); // whoever asked may have stopped waiting
}

/// Says of writes that none of them happened.
pub(crate) fn refuse(writes: Vec<(Write, Answer)>, failure: &Failure) {
    for waiting in writes {
        finish(waiting, Err(failure.clone()));
    }
}
