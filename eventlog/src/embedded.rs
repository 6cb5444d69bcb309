//! The embedded log: everything in one directory, for one process at a time.
//!
//! ```text
//! append ──> queue ──> writer (one thread): batch ─> sync ─> show to readers ─> answer
//!                                                              │
//! read, subscribe <── memory (the last few MiB) <──────────────┘
//!                 <── engine (everything else)
//! ```
//!
//! * `chunk`: how records lie on disk; `engine`: the keyspaces they lie in; `directory`: lock,
//!   high-water file, free space.
//! * `core`: what all parts share; `prepare`: from records to writes; `queue` and `writer`: group
//!   commit; `topic`: what readers can see; `reader`: how they read it.
//! * `group` and `assign`: members, leases, positions; `subscription`: a member's side.
//! * `retention`: what goes, and when. A compacted topic keeps everything for now.
//!
//! What is promised: an append is answered when it is synced; a transaction is one batch, so all of
//! it is there or nothing; positions committed without outputs are in order but not synced, and may
//! fall back after a power loss, never after a crash of the process. What is found damaged is an
//! error, at opening or at the latest when it is read.

mod assign;
mod chunk;
mod core;
mod directory;
mod engine;
mod group;
mod prepare;
mod queue;
mod reader;
mod retention;
mod subscription;
mod topic;
mod writer;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use async_trait::async_trait;
use tokio::{runtime::Handle, sync::Notify};

use self::{
    core::Core,
    prepare::Prepared,
    queue::{Failure, Write},
    reader::{EmbeddedReader, Limits},
    subscription::Member,
    topic::locked,
};
use crate::{
    AppendAtError, AppendError, Appended, Bounds, LogDriver, LogError, Options, Position,
    ReadDriver, Record, SubscriptionDriver, TopicInfo, TopicSpec,
};

/// Opens the embedded log in a directory, which is made if need be.
pub async fn open(path: PathBuf, options: Options) -> Result<EmbeddedLog, LogError> {
    let runtime = Handle::current();
    let shown = path.display().to_string();
    // The engine may panic on files that are damaged in ways it does not expect.
    let opened = tokio::task::spawn_blocking(move || Core::open(path, options, runtime)).await;
    let (core, writer) = opened.unwrap_or_else(|panic| {
        Err(LogError::Fatal(format!(
            "the log in {shown} is damaged: opening it failed ({panic}). Restore the directory from a copy"
        )))
    })?;
    let core = Arc::new(core);
    retention::spawn(&core);
    Ok(EmbeddedLog(Arc::new(Running { core, writer: Mutex::new(Some(writer)) })))
}

/// A handle on an embedded log; clones share it, and the last one closes it.
#[derive(Clone)]
pub struct EmbeddedLog(Arc<Running>);

/// The log with its writer's thread, which ends with it.
struct Running {
    core: Arc<Core>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.core.queue.close();
        if let Some(writer) = locked(&self.writer).take() {
            let _ = writer.join(); // it has told of its failure already
        }
    }
}

impl EmbeddedLog {
    pub(crate) fn core(&self) -> &Core {
        &self.0.core
    }

    /// Takes now what retention may take, instead of waiting for the next period.
    pub async fn retain(&self) -> Result<(), LogError> {
        retention::retain(&self.0.core).await
    }

    /// Takes what is before a position of a partition, whatever its topic's retention says; whole
    /// chunks, so up to a chunk's records before it may stay.
    pub async fn take_before(
        &self,
        topic: &str,
        partition: u32,
        before: Position,
    ) -> Result<(), LogError> {
        let core = &self.0.core;
        let topic = core.find(topic)?;
        let partition = core.partition(&topic.name, partition)?;
        retention::take(core, &topic, &partition, retention::Rule::Before(before)).await?;
        Ok(())
    }
}

#[async_trait]
impl LogDriver for EmbeddedLog {
    async fn ensure_topics(&self, specs: &[TopicSpec]) -> Result<(), LogError> {
        let _one = self.core().making.lock().await;
        for spec in specs {
            self.core().ensure_topic(spec).await?;
        }
        Ok(())
    }

    async fn topic(&self, topic: &str) -> Result<TopicInfo, LogError> {
        Ok(self.core().find(topic)?.info())
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>, LogError> {
        Ok(self.core().all_topics().iter().map(|topic| topic.info()).collect())
    }

    async fn bounds(&self, topic: &str, partition: u32) -> Result<Bounds, LogError> {
        Ok(self.core().partition(topic, partition)?.bounds())
    }

    async fn position_at(
        &self,
        topic: &str,
        partition: u32,
        appended_at: i64,
    ) -> Result<Position, LogError> {
        let partition = self.core().partition(topic, partition)?;
        let engine = self.core().engine.clone();
        tokio::task::spawn_blocking(move || reader::position_at(&engine, &partition, appended_at))
            .await
            .unwrap_or_else(|e| Err(LogError::Fatal(format!("looking up a time failed: {e}"))))
    }

    async fn append(
        &self,
        topic: &str,
        records: Vec<Record>,
    ) -> Vec<Result<Appended, AppendError>> {
        let core = self.core();
        let topic = match core.find(topic) {
            Ok(topic) => topic,
            Err(e) => {
                let refused = AppendError::Refused(e.to_string());
                return records.iter().map(|_| Err(refused.clone())).collect();
            }
        };
        let mut prepared = Prepared::default();
        let places: Vec<_> = records
            .iter()
            .map(|record| core.fits(record).map(|()| prepared.push(&topic, record)))
            .collect();
        drop(records); // they are copied into the segments, and may be large
        let partitions = prepared.partitions();
        if partitions.is_empty() {
            return places.into_iter().map(|place| place.map(|_| nowhere())).collect();
        }
        let bases = core.written(prepared.into_write()).await;
        let result = |place: Result<(usize, u64), AppendError>| {
            let (part, at) = place?;
            let bases = bases.as_ref().map_err(|failure| AppendError::from(failure.clone()))?;
            Ok(Appended { partition: partitions[part], offset: bases[part] + at })
        };
        places.into_iter().map(result).collect()
    }

    async fn append_at(
        &self,
        topic: &str,
        expected_end: Position,
        records: Vec<Record>,
    ) -> Result<Position, AppendAtError> {
        let core = self.core();
        let refused = |why: String| AppendAtError::Append(AppendError::Refused(why));
        let topic = core.find(topic).map_err(|e| refused(e.to_string()))?;
        let [partition] = &topic.partitions[..] else {
            return Err(refused(format!(
                "{} has {} partitions; only a topic of one can be appended to at an expected end",
                topic.name,
                topic.partitions.len()
            )));
        };
        let mut prepared = Prepared::default();
        for record in &records {
            core.fits(record)?;
            prepared.push(&topic, record);
        }
        let count = records.len() as u64;
        if records.is_empty() {
            let end = partition.bounds().end;
            return if end == expected_end {
                Ok(end)
            } else {
                Err(AppendAtError::Conflict { end })
            };
        }
        // It counts as a transaction, as it is one on Kafka, and leaves a hole like one.
        let whole = prepared.into_write();
        let write = Write { expected_end: Some(expected_end), burn: true, ..whole };
        match core.written(write).await {
            Ok(bases) => Ok(bases.first().map_or(expected_end, |base| base + count + 1)),
            Err(Failure::Conflict(end)) => Err(AppendAtError::Conflict { end }),
            Err(failure) => Err(AppendAtError::Append(failure.into())),
        }
    }

    async fn read(
        &self,
        topic: &str,
        partition: u32,
        from: Position,
        to: Position,
    ) -> Result<Box<dyn ReadDriver>, LogError> {
        let core = self.core();
        let partition = core.partition(topic, partition)?;
        let bounds = partition.bounds();
        if from < bounds.start || from > bounds.end {
            return Err(reader::out_of_range(&partition, from, bounds));
        }
        Ok(Box::new(EmbeddedReader {
            _log: self.clone(),
            engine: core.engine.clone(),
            partition,
            at: from,
            to: to.min(bounds.end),
            limits: Limits::from(&core.options),
        }))
    }

    async fn subscribe(
        &self,
        group: &str,
        topics: &[&str],
    ) -> Result<Box<dyn SubscriptionDriver>, LogError> {
        let core = self.core();
        let topics: Vec<_> = topics.iter().map(|name| core.find(name)).collect::<Result<_, _>>()?;
        let group = core.group(group, &topics)?;
        let notify = Arc::new(Notify::new());
        topics.iter().for_each(|topic| topic.listen(&notify));
        let names = topics.iter().map(|topic| topic.name.clone()).collect();
        let id = group.join(names, notify.clone());
        Ok(Box::new(Member::new(self.clone(), group, id, notify)))
    }

    async fn committed(&self, group: &str, topic: &str) -> Result<Vec<Option<Position>>, LogError> {
        let topic = self.core().find(topic)?;
        Ok(self.core().group(group, std::slice::from_ref(&topic))?.committed(&topic))
    }

    fn status(&self) -> Result<(), LogError> {
        if let Some(why) = self.core().queue.failed.get() {
            return Err(LogError::Fatal(why.clone()));
        }
        let core = self.core();
        core.free.check(core.engine.unsorted()).map_err(LogError::Retry)
    }
}

/// Never given out: a record that was refused has no place.
fn nowhere() -> Appended {
    Appended { partition: 0, offset: 0 }
}
