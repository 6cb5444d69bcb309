//! What goes, and when: whole chunks from the head of partitions whose topic allows it.
//!
//! A chunk goes when all of it is older than the topic's age, or when the partition would still keep
//! the topic's size without it. The start moves up before anything is removed, so that a reader
//! never takes a removed chunk for a damaged log. Compacted topics are never aged.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use super::{
    chunk::ChunkKey,
    core::Core,
    engine::Engine,
    queue::Write,
    topic::{Partition, Topic, locked},
};
use crate::{LogError, Metrics, Position, Retention};

/// The most chunks removed in one write.
const AT_ONCE: usize = 4096;
/// After this many removed bytes the engine is made to give the space back.
const RECLAIM_BYTES: u64 = 64 * 1024 * 1024;

/// Runs [`retain`] by the period for as long as the log is open.
pub(crate) fn spawn(core: &Arc<Core>) {
    let period = core.options.retention_period;
    // The task must not keep a log open that nobody else holds.
    let open = Arc::downgrade(core);
    core.runtime.spawn(async move {
        loop {
            tokio::time::sleep(period).await;
            let Some(core) = Weak::upgrade(&open) else { return };
            if let Err(e) = retain(&core).await {
                tracing::warn!(error = %e, "retention could not do its work; it tries again");
            }
        }
    });
}

/// Takes what may go, of every topic.
pub(crate) async fn retain(core: &Arc<Core>) -> Result<(), LogError> {
    let mut removed = 0;
    for topic in core.all_topics() {
        let Retention::Delete { age, bytes } = topic.retention() else { continue };
        if age.is_none() && bytes.is_none() {
            continue;
        }
        for partition in &topic.partitions {
            removed += take(core, &topic, partition, Rule::Retain { age, bytes }).await?;
        }
    }
    if removed >= RECLAIM_BYTES {
        let engine = core.engine.clone();
        let reclaimed = tokio::task::spawn_blocking(move || engine.reclaim()).await;
        reclaimed.unwrap_or_else(|e| Err(LogError::Retry(e.to_string())))?;
    }
    Ok(())
}

/// What goes.
#[derive(Clone, Copy)]
pub(crate) enum Rule {
    /// What is older than the age, and what is more than the bytes.
    Retain { age: Option<Duration>, bytes: Option<u64> },
    /// What is before a position.
    Before(Position),
}

/// Takes what a rule lets go from a partition; answers how many bytes.
pub(crate) async fn take(
    core: &Arc<Core>,
    topic: &Arc<Topic>,
    partition: &Arc<Partition>,
    rule: Rule,
) -> Result<u64, LogError> {
    let mut removed = 0;
    loop {
        let now = core.options.clock.now();
        let (engine, of) = (core.engine.clone(), partition.clone());
        let due = tokio::task::spawn_blocking(move || due(&engine, &of, rule, now)).await;
        let due = due.unwrap_or_else(|e| Err(LogError::Retry(e.to_string())))?;
        let Some(start) = due.chunks.last().map(|last| last.next) else { return Ok(removed) };
        let more = due.chunks.len() == AT_ONCE;
        partition.trim(start);
        core.write(Write {
            meta: vec![(
                start_key(partition.topic_id, partition.index),
                start.to_be_bytes().to_vec(),
            )],
            size: due.chunks.len() * 64,
            removals: due.chunks,
            ..Write::default()
        })
        .await?;
        Metrics::of(&core.options.metrics.retention_bytes, &topic.name).inc_by(due.bytes);
        removed += due.bytes;
        topic.wake();
        if !more {
            return Ok(removed);
        }
    }
}

/// What may go from a partition.
struct Due {
    chunks: Vec<ChunkKey>,
    bytes: u64,
}

fn due(engine: &Engine, partition: &Partition, rule: Rule, now: i64) -> Result<Due, LogError> {
    let bounds = partition.bounds();
    let total = locked(&partition.cursor).bytes;
    let mut due = Due { chunks: Vec::new(), bytes: 0 };
    for chunk in engine.chunks_from(partition.topic_id, partition.index, bounds.start) {
        let chunk = chunk?;
        let after = chunk.header.bytes_before + chunk.len() as u64;
        let goes = match rule {
            Rule::Before(position) => chunk.key.next <= position,
            Rule::Retain { age, bytes } => {
                let aged = |age: Duration| {
                    let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
                    chunk.header.time <= now.saturating_sub(age)
                };
                age.is_some_and(aged)
                    || bytes.is_some_and(|keep| total.saturating_sub(after) >= keep)
            }
        };
        if chunk.key.next > bounds.end || !goes || due.chunks.len() == AT_ONCE {
            break;
        }
        due.bytes += chunk.len() as u64;
        due.chunks.push(chunk.key);
    }
    Ok(due)
}

fn start_key(topic: u32, partition: u32) -> Vec<u8> {
    let mut key = b"start/".to_vec();
    key.extend(topic.to_be_bytes());
    key.extend(partition.to_be_bytes());
    key
}

/// Where a partition starts.
pub(crate) fn load_start(
    engine: &Engine,
    topic: u32,
    partition: u32,
) -> Result<Position, LogError> {
    let Some(stored) = engine.meta(&start_key(topic, partition))? else { return Ok(0) };
    match stored.first_chunk::<8>() {
        Some(start) => Ok(u64::from_be_bytes(*start)),
        None => Err(engine.wrong("where a partition starts cannot be read")),
    }
}
