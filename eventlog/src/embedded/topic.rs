//! Topics and their partitions as they are in memory: bounds, the tail for readers at the end, and
//! whom to wake.
//!
//! What a reader can see of a partition is what [`Partition::publish`] was told, and that happens
//! only after the commit that holds it is durable.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::chunk::Chunk;
use crate::{Bounds, Position, Retention, TopicInfo, partition_for};

/// A topic.
pub(crate) struct Topic {
    pub name: Arc<str>,
    pub id: u32,
    pub incarnation: u64,
    pub partitions: Vec<Arc<Partition>>,
    retention: Mutex<Retention>,
    spread: AtomicU32,
    listeners: Mutex<Vec<Weak<Notify>>>,
}

/// What is stored of a topic.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TopicRecord {
    pub id: u32,
    pub partitions: u32,
    pub incarnation: u64,
    pub retention: RetentionRecord,
}

/// What is stored of a [`Retention`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RetentionRecord {
    Delete { age_micros: Option<u64>, bytes: Option<u64> },
    Compact,
}

impl From<&Retention> for RetentionRecord {
    fn from(retention: &Retention) -> Self {
        match retention {
            Retention::Compact => Self::Compact,
            Retention::Delete { age, bytes } => Self::Delete {
                age_micros: age.map(|a| u64::try_from(a.as_micros()).unwrap_or(u64::MAX)),
                bytes: *bytes,
            },
        }
    }
}

impl From<&RetentionRecord> for Retention {
    fn from(record: &RetentionRecord) -> Self {
        match record {
            RetentionRecord::Compact => Self::Compact,
            RetentionRecord::Delete { age_micros, bytes } => Self::Delete {
                age: age_micros.map(std::time::Duration::from_micros),
                bytes: *bytes,
            },
        }
    }
}

impl Topic {
    pub fn new(name: Arc<str>, record: &TopicRecord, partitions: Vec<Arc<Partition>>) -> Self {
        Self {
            name,
            id: record.id,
            incarnation: record.incarnation,
            partitions,
            retention: Mutex::new((&record.retention).into()),
            spread: AtomicU32::new(0),
            listeners: Mutex::default(),
        }
    }

    pub fn info(&self) -> TopicInfo {
        TopicInfo {
            name: self.name.clone(),
            partitions: self.partitions.len() as u32,
            incarnation: Some(self.incarnation),
        }
    }

    pub fn retention(&self) -> Retention {
        locked(&self.retention).clone()
    }

    pub fn set_retention(&self, retention: Retention) {
        *locked(&self.retention) = retention;
    }

    /// The partition of a record; those without a key go to `keyless`.
    pub fn place(&self, key: Option<&[u8]>, keyless: u32) -> u32 {
        key.map_or(keyless, |key| partition_for(key, self.partitions.len() as u32))
    }

    /// The partition for the records without a key of one append: a different one each time.
    pub fn keyless(&self) -> u32 {
        self.spread.fetch_add(1, Ordering::Relaxed) % self.partitions.len().max(1) as u32
    }

    /// Wakes this one whenever the topic grows.
    pub fn listen(&self, listener: &Arc<Notify>) {
        let mut listeners = locked(&self.listeners);
        listeners.retain(|l| l.strong_count() > 0);
        listeners.push(Arc::downgrade(listener));
    }

    pub fn wake(&self) {
        for listener in locked(&self.listeners).iter().filter_map(Weak::upgrade) {
            listener.notify_one();
        }
    }
}

/// A partition.
pub(crate) struct Partition {
    pub topic: Arc<str>,
    pub topic_id: u32,
    pub index: u32,
    /// Where the writer stands; nobody else looks.
    pub cursor: Mutex<Cursor>,
    seen: Mutex<Seen>,
}

/// Where the writer stands in a partition.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cursor {
    /// The offset of the next record.
    pub next: Position,
    /// The last append time given out; the next is never earlier.
    pub time: i64,
    /// How many bytes of chunks the partition has taken, ever.
    pub bytes: u64,
}

impl Cursor {
    /// Where it is kept: the key in the engine.
    pub fn key_of(topic: u32, partition: u32) -> Vec<u8> {
        let mut key = b"end/".to_vec();
        key.extend(topic.to_be_bytes());
        key.extend(partition.to_be_bytes());
        key
    }

    pub fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.next.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.time.to_be_bytes());
        bytes[16..].copy_from_slice(&self.bytes.to_be_bytes());
        bytes
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (next, rest) = bytes.split_first_chunk::<8>()?;
        let (time, rest) = rest.split_first_chunk::<8>()?;
        let bytes = u64::from_be_bytes(*rest.first_chunk::<8>()?);
        Some(Self { next: u64::from_be_bytes(*next), time: i64::from_be_bytes(*time), bytes })
    }
}

struct Seen {
    bounds: Bounds,
    /// The last chunks, without a break up to the end.
    tail: VecDeque<Chunk>,
}

/// What the memory has for a reader.
pub(crate) enum Look {
    /// The position was taken; the partition starts here now.
    Gone(Position),
    /// Nothing after the position yet.
    End,
    /// No such position yet.
    Beyond(Bounds),
    /// The chunks from the one that holds the position on.
    Hot(Vec<Chunk>),
    /// Only the disk has it.
    Cold,
}

impl Partition {
    pub fn new(
        topic: Arc<str>,
        topic_id: u32,
        index: u32,
        start: Position,
        cursor: Cursor,
    ) -> Self {
        let bounds = Bounds { start, end: cursor.next };
        let seen = Mutex::new(Seen { bounds, tail: VecDeque::new() });
        Self { topic, topic_id, index, cursor: Mutex::new(cursor), seen }
    }

    pub fn bounds(&self) -> Bounds {
        locked(&self.seen).bounds
    }

    /// Shows a durable chunk to readers.
    pub fn publish(&self, chunk: Chunk) {
        let mut seen = locked(&self.seen);
        seen.bounds.end = chunk.key.next;
        seen.tail.push_back(chunk);
    }

    /// Forgets the oldest chunk in memory.
    pub fn cool(&self) {
        locked(&self.seen).tail.pop_front();
    }

    /// Moves the start up; what is below is gone for readers from now on.
    pub fn trim(&self, start: Position) {
        let mut seen = locked(&self.seen);
        seen.bounds.start = seen.bounds.start.max(start);
    }

    /// What is in memory from a position on, up to about `bytes`.
    pub fn look(&self, from: Position, bytes: usize) -> Look {
        let seen = locked(&self.seen);
        let bounds = seen.bounds;
        if from < bounds.start {
            return Look::Gone(bounds.start);
        }
        if from >= bounds.end {
            return if from == bounds.end { Look::End } else { Look::Beyond(bounds) };
        }
        if seen.tail.front().is_none_or(|first| first.key.base > from) {
            return Look::Cold;
        }
        let first = seen.tail.partition_point(|chunk| chunk.key.next <= from);
        let mut size = 0;
        let chunks = seen.tail.range(first..).take_while(|chunk| {
            let fits = size < bytes;
            size += chunk.len();
            fits
        });
        Look::Hot(chunks.cloned().collect())
    }
}

/// A lock whose holder cannot have left anything half done.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
