//! Reading partitions: from memory near the end, from the engine otherwise.
//!
//! Reading from the engine blocks, so it happens on tokio's blocking threads. Chunks must follow
//! one another without a break; where one is missing and retention did not take it, the reader
//! fails instead of going on.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    engine::Engine,
    topic::{Look, Partition},
};
use crate::{LogError, Options, Position, ReadDriver, Stored};

/// How much a reader takes at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub bytes: usize,
    pub records: usize,
}

impl From<&Options> for Limits {
    fn from(options: &Options) -> Self {
        Self { bytes: options.batch_bytes.max(1), records: options.batch_records.max(1) }
    }
}

/// Records and the position after them.
pub(crate) type Records = (Vec<Stored>, Position);

/// What there is at a position.
pub(crate) enum Fetched {
    Gone(Position),
    End,
    Records(Records),
    /// Only the engine has it.
    Cold,
}

/// Looks in memory.
pub(crate) fn fetch_hot(
    engine: &Engine,
    partition: &Partition,
    from: Position,
    to: Position,
    limits: Limits,
) -> Result<Fetched, LogError> {
    match partition.look(from, limits.bytes) {
        Look::Gone(start) => Ok(Fetched::Gone(start)),
        Look::End => Ok(Fetched::End),
        Look::Beyond(bounds) => Err(out_of_range(partition, from, bounds)),
        Look::Cold => Ok(Fetched::Cold),
        Look::Hot(chunks) => {
            let (mut records, mut at) = (Vec::new(), from);
            for chunk in chunks {
                if at >= to || records.len() >= limits.records {
                    break;
                }
                at = chunk
                    .read(at, to, limits.records, &mut records)
                    .map_err(|what| engine.wrong(&what))?;
            }
            Ok(Fetched::Records((records, at)))
        }
    }
}

/// Looks in the engine; blocks.
pub(crate) fn fetch_cold(
    engine: &Engine,
    partition: &Partition,
    from: Position,
    to: Position,
    limits: Limits,
) -> Result<Fetched, LogError> {
    let to = to.min(partition.bounds().end);
    let (topic, index) = (partition.topic_id, partition.index);
    let (mut records, mut at, mut bytes) = (Vec::new(), from, 0);
    let mut chunks = engine.chunks_from(topic, index, from);
    // Usually a reader stands where a chunk begins.
    let mut chunk = chunks.next().transpose()?;
    if chunk.as_ref().is_none_or(|first| first.key.base != from) {
        let holder = engine.chunk_at(topic, index, from)?;
        if let Some(holder) = holder.filter(|holder| holder.key.next > from) {
            bytes += holder.len();
            at = holder.read(at, to, limits.records, &mut records).map_err(|e| engine.wrong(&e))?;
        }
    }
    while at < to && bytes < limits.bytes && records.len() < limits.records {
        match chunk.take() {
            Some(next) if next.key.base == at => {
                bytes += next.len();
                at = next
                    .read(at, to, limits.records, &mut records)
                    .map_err(|e| engine.wrong(&e))?;
            }
            found => {
                let start = partition.bounds().start;
                if start > from {
                    return Ok(Fetched::Gone(start));
                }
                let until = found.map_or(to, |found| found.key.base);
                let place = format!("{}/{index}", partition.topic);
                return Err(engine.wrong(&format!("records {at}..{until} of {place} are missing")));
            }
        }
        if at < to && bytes < limits.bytes && records.len() < limits.records {
            chunk = chunks.next().transpose()?;
        }
    }
    Ok(Fetched::Records((records, at)))
}

/// [`fetch_cold`] where it may block.
pub(crate) async fn fetch_blocking(
    engine: Arc<Engine>,
    partition: Arc<Partition>,
    from: Position,
    to: Position,
    limits: Limits,
) -> Result<Fetched, LogError> {
    let place = format!("{}/{}", partition.topic, partition.index);
    tokio::task::spawn_blocking(move || fetch_cold(&engine, &partition, from, to, limits))
        .await
        .unwrap_or_else(|e| Err(LogError::Fatal(format!("reading {place} failed: {e}"))))
}

pub(crate) fn out_of_range(
    partition: &Partition,
    wanted: Position,
    bounds: crate::Bounds,
) -> LogError {
    LogError::OutOfRange {
        topic: partition.topic.clone(),
        partition: partition.index,
        wanted,
        start: bounds.start,
        end: bounds.end,
    }
}

/// A reader outside any group.
pub(crate) struct EmbeddedReader<H> {
    /// Keeps the log open.
    pub _log: H,
    pub engine: Arc<Engine>,
    pub partition: Arc<Partition>,
    pub at: Position,
    pub to: Position,
    pub limits: Limits,
}

#[async_trait]
impl<H: Send + Sync> ReadDriver for EmbeddedReader<H> {
    async fn next(&mut self) -> Result<Option<Records>, LogError> {
        if self.at >= self.to {
            return Ok(None);
        }
        let mut fetched = fetch_hot(&self.engine, &self.partition, self.at, self.to, self.limits)?;
        if matches!(fetched, Fetched::Cold) {
            let (engine, partition) = (self.engine.clone(), self.partition.clone());
            fetched = fetch_blocking(engine, partition, self.at, self.to, self.limits).await?;
        }
        match fetched {
            Fetched::Records((records, next)) => {
                self.at = next;
                Ok(Some((records, next)))
            }
            _ => Err(out_of_range(&self.partition, self.at, self.partition.bounds())),
        }
    }
}

/// The first position at or after a time, by halving; blocks.
pub(crate) fn position_at(
    engine: &Engine,
    partition: &Partition,
    time: i64,
) -> Result<Position, LogError> {
    let bounds = partition.bounds();
    let (mut low, mut high) = (bounds.start, bounds.end);
    while low < high {
        let middle = low + (high - low) / 2;
        let chunk = engine.chunk_at(partition.topic_id, partition.index, middle)?;
        match chunk.filter(|chunk| chunk.key.next > middle) {
            Some(chunk) if chunk.header.time >= time => high = chunk.key.base.max(low),
            Some(chunk) => low = chunk.key.next,
            // Retention took it meanwhile.
            None => low = middle + 1,
        }
    }
    Ok(low.min(bounds.end))
}
