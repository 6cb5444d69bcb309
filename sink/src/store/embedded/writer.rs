//! The one writer: everything that changes the store goes through its thread.
//!
//! It takes all that waits, makes one atomic batch of it and syncs once (group commit), so that
//! partitions flushing at the same time share an fsync. Being alone, it can also judge what a
//! write must not do: go back behind a position, an epoch, a mark or a row that is later. The
//! answers go out only after the sync; nothing is visible to readers before it either.

use std::{
    collections::HashMap,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use eventlog::Position;
use fjall::{OwnedWriteBatch, PersistMode};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::{
    flush::{Encoded, Part},
    keys::{self, meta},
    space::Space,
    tables::Tables,
    values::{self, Locator},
};
use crate::store::{Definition, StoreError, TopicEpoch};

/// A batch is closed when it holds so many bytes; what waits then goes into the next.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// Bytes that may wait in memtables for the engine to sort them to disk: above it a write waits.
/// The engine's own brake counts memtables per table, which bounds nothing while a compaction
/// keeps its worker from rotating them.
const BUFFERED: u64 = 48 * 1024 * 1024;

/// After so long a write goes on regardless: a brake must not become a stop.
const BRAKE: Duration = Duration::from_secs(10);

pub(super) type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the writer is asked for.
pub(super) enum Job {
    Flush { flush: Box<Encoded>, budget: OwnedSemaphorePermit, answer: Answer<()> },
    BeginEpoch { topic: String, from: Option<u32>, next: TopicEpoch, answer: Answer<TopicEpoch> },
    Register { definition: Box<Definition>, answer: Answer<()> },
    Expire { removals: Removals, answer: Answer<()> },
}

/// Rows that retention takes, and where it goes on.
#[derive(Default)]
pub(super) struct Removals {
    pub(super) events: Vec<Vec<u8>>,
    pub(super) subjects: Vec<Vec<u8>>,
    pub(super) ids: Vec<Vec<u8>>,
    /// With the time of the write that is too old: a later one keeps the row.
    pub(super) rollups: Vec<(Vec<u8>, i64)>,
    pub(super) state: Vec<u8>,
}

/// Starts the thread. It ends, and lets go of the tables, when all senders are gone.
pub(super) fn start(
    tables: Tables,
    space: Space,
) -> std::io::Result<(mpsc::Sender<Job>, JoinHandle<()>)> {
    let (jobs, waiting) = mpsc::channel(256);
    let writer =
        Writer { tables, space, stored: HashMap::new(), epochs: HashMap::new(), failed: None };
    let thread = std::thread::Builder::new()
        .name("store-writer".into())
        .spawn(move || writer.run(waiting))?;
    Ok((jobs, thread))
}

struct Writer {
    tables: Tables,
    space: Space,
    /// As after the open batch; exact, since nobody else writes.
    stored: HashMap<Part, Position>,
    epochs: HashMap<String, Option<TopicEpoch>>,
    /// The first write that failed. The maps above may be ahead of the disk then; nothing is
    /// written any more.
    failed: Option<StoreError>,
}

/// Tells one who waits what became of the batch.
type Waiting = Box<dyn FnOnce(Result<(), StoreError>)>;

/// A batch that is being filled, and who waits for it.
struct Open {
    batch: OwnedWriteBatch,
    bytes: usize,
    parts: Vec<Part>,
    waiting: Vec<Waiting>,
    /// Kept until the batch is written: what is in flight counts as queued.
    budgets: Vec<OwnedSemaphorePermit>,
    /// Only makes room, so it may use the last of it.
    removes_only: bool,
}

impl Writer {
    fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(job) = jobs.blocking_recv() {
            let mut open = self.open();
            self.take(job, &mut open);
            while open.bytes < BATCH_BYTES
                && let Ok(job) = jobs.try_recv()
            {
                self.take(job, &mut open);
            }
            self.commit(open);
        }
    }

    fn open(&self) -> Open {
        Open {
            batch: self.tables.db.batch().durability(Some(PersistMode::SyncData)),
            bytes: 0,
            parts: Vec::new(),
            waiting: Vec::new(),
            budgets: Vec::new(),
            removes_only: true,
        }
    }

    fn commit(&mut self, open: Open) {
        let result = self.try_commit(open.batch, open.removes_only);
        for answer in open.waiting {
            answer(result.clone());
        }
    }

    fn try_commit(&mut self, batch: OwnedWriteBatch, removes: bool) -> Result<(), StoreError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if batch.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        let mut buffered = self.tables.db.write_buffer_size();
        while buffered > BUFFERED && began.elapsed() < BRAKE {
            std::thread::sleep(Duration::from_millis(2));
            buffered = self.tables.db.write_buffer_size();
        }
        if let Err(error) = self.space.check(Instant::now(), buffered, removes) {
            self.forget();
            return Err(error);
        }
        batch.commit().map_err(|e| {
            let error = self.tables.write_error(&e);
            self.failed = Some(error.clone());
            error
        })
    }

    /// Writes what is in the batch, so that reads see it.
    fn settle(&mut self, open: &mut Open) {
        if !open.batch.is_empty() || !open.waiting.is_empty() {
            let full = std::mem::replace(open, self.open());
            self.commit(full);
        }
    }

    /// Answers an error to all who wait for the batch, and writes none of it.
    fn abandon(&mut self, open: &mut Open, error: &StoreError) {
        let dropped = std::mem::replace(open, self.open());
        self.forget();
        for answer in dropped.waiting {
            answer(Err(error.clone()));
        }
    }

    /// Nothing of a batch was written: the disk knows what holds.
    fn forget(&mut self) {
        self.stored.clear();
        self.epochs.clear();
    }

    fn take(&mut self, job: Job, open: &mut Open) {
        match job {
            Job::Flush { flush, budget, answer } => {
                open.budgets.push(budget);
                if open.parts.contains(&flush.part) {
                    // Two writes of one key in one batch would have no order.
                    self.settle(open);
                }
                match self.put_flush(&flush, open) {
                    Ok(()) => open.waiting.push(Box::new(|result| drop(answer.send(result)))),
                    Err(error) => {
                        // Some of its rows may be in the batch, and a flush is whole or nothing.
                        self.abandon(open, &error);
                        drop(answer.send(Err(error)));
                    }
                }
            }
            Job::BeginEpoch { topic, from, next, answer } => {
                match self.begin_epoch(topic, from, next, open) {
                    Ok(epoch) => {
                        open.waiting.push(Box::new(move |r| drop(answer.send(r.map(|()| epoch)))))
                    }
                    Err(error) => drop(answer.send(Err(error))),
                }
            }
            Job::Register { definition, answer } => {
                self.settle(open);
                match self.register(&definition, open) {
                    Ok(()) => open.waiting.push(Box::new(|result| drop(answer.send(result)))),
                    Err(error) => drop(answer.send(Err(error))),
                }
                self.settle(open);
            }
            Job::Expire { removals, answer } => {
                self.settle(open);
                match self.put_removals(removals, open) {
                    Ok(()) => open.waiting.push(Box::new(|result| drop(answer.send(result)))),
                    Err(error) => {
                        self.abandon(open, &error);
                        drop(answer.send(Err(error)));
                    }
                }
                self.settle(open);
            }
        }
    }

    fn put_flush(&mut self, flush: &Encoded, open: &mut Open) -> Result<(), StoreError> {
        let Part { topic, epoch, partition } = &flush.part;
        let stored_to = self.stored_to(&flush.part)?;
        let current = self.epoch(topic)?;
        // A flush that moves its partition on in the current epoch was folded from the rows as
        // they are. Any other one may come from a replay or a slow former owner: then each row
        // is compared with the one it would replace.
        let late = flush.stored_to <= stored_to || current.is_some_and(|now| now.epoch > *epoch);
        if late {
            self.settle(open);
        }
        let batch = &mut open.batch;
        let tables = &self.tables;
        let mut known = vec![false; flush.count];
        if late {
            for row in flush.ids.iter() {
                known[row.event] = self.has_identity(&row.key)?;
            }
        }
        for (table, rows) in [
            (&tables.events, &flush.events),
            (&tables.by_id, &flush.ids),
            (&tables.by_subject, &flush.subjects),
        ] {
            for row in rows.iter().filter(|row| !known[row.event]) {
                batch.insert(table, row.key, row.value);
            }
        }
        for row in &flush.rollups {
            if late && self.rollup_age(&row.key)?.is_some_and(|(_, last)| last >= row.last_offset) {
                continue;
            }
            batch.insert(&tables.rollups, row.key.as_slice(), row.value.as_slice());
        }
        for mark in &flush.marks {
            let key = meta::mark(topic, *epoch, mark.version, *partition);
            let before = tables.meta.get(&key).map_err(|e| tables.read_error(&e))?;
            let before = match before {
                None => None,
                Some(value) => Some(
                    values::parse_mark(&value, mark.version)
                        .ok_or_else(|| tables.damaged(&tables.meta))?,
                ),
            };
            if before.is_none_or(|before| before.to <= mark.to && before != *mark) {
                batch.insert(&tables.meta, key, values::mark(mark));
            }
        }
        if flush.stored_to > stored_to {
            let key = meta::stored(topic, *epoch, *partition);
            batch.insert(&tables.meta, key, values::position(flush.stored_to));
            self.stored.insert(flush.part.clone(), flush.stored_to);
        }
        open.bytes += flush.size;
        open.parts.push(flush.part.clone());
        open.removes_only = false;
        Ok(())
    }

    fn stored_to(&mut self, part: &Part) -> Result<Position, StoreError> {
        if let Some(position) = self.stored.get(part) {
            return Ok(*position);
        }
        let position = stored_to(&self.tables, part)?;
        self.stored.insert(part.clone(), position);
        Ok(position)
    }

    fn epoch(&mut self, topic: &str) -> Result<Option<TopicEpoch>, StoreError> {
        if let Some(epoch) = self.epochs.get(topic) {
            return Ok(*epoch);
        }
        let epoch = epoch(&self.tables, topic)?;
        self.epochs.insert(topic.to_owned(), epoch);
        Ok(epoch)
    }

    /// The record that stored an identity first keeps it: an equal origin is a replay, whose
    /// rows are there; of any other one an earlier decision has been taken.
    fn has_identity(&self, key: &[u8]) -> Result<bool, StoreError> {
        let found = self.tables.by_id.get(key).map_err(|e| self.tables.read_error(&e))?;
        match found {
            None => Ok(false),
            Some(value) => Locator::parse(&value)
                .map(|_| true)
                .ok_or_else(|| self.tables.damaged(&self.tables.by_id)),
        }
    }

    /// When a rollup row was written, and the last offset in it.
    fn rollup_age(&self, key: &[u8]) -> Result<Option<(i64, u64)>, StoreError> {
        let found = self.tables.rollups.get(key).map_err(|e| self.tables.read_error(&e))?;
        found
            .map(|value| {
                values::rollup_age(&value).ok_or_else(|| self.tables.damaged(&self.tables.rollups))
            })
            .transpose()
    }

    fn begin_epoch(
        &mut self,
        topic: String,
        from: Option<u32>,
        next: TopicEpoch,
        open: &mut Open,
    ) -> Result<TopicEpoch, StoreError> {
        let current = self.epoch(&topic)?;
        if current.map(|epoch| epoch.epoch) != from {
            if let Some(current) = current {
                return Ok(current);
            }
            return Err(StoreError::Fatal(format!(
                "topic {topic}: an epoch was to follow {from:?}, but the store knows none"
            )));
        }
        // Its own batch: a failed one must not take the decision along.
        self.settle(open);
        open.batch.insert(&self.tables.meta, meta::epoch(&topic), values::epoch(&next));
        open.removes_only = false;
        self.epochs.insert(topic, Some(next));
        Ok(next)
    }

    fn register(&self, definition: &Definition, open: &mut Open) -> Result<(), StoreError> {
        let known = definitions(&self.tables)?;
        if known.contains(definition) {
            return Ok(());
        }
        let text = serde_json::to_vec(definition).map_err(|e| StoreError::Fatal(e.to_string()))?;
        let key = meta::definition(known.len() as u64);
        open.batch.insert(&self.tables.meta, key, text);
        open.removes_only = false;
        Ok(())
    }

    fn put_removals(&self, removals: Removals, open: &mut Open) -> Result<(), StoreError> {
        let tables = &self.tables;
        let Removals { events, subjects, ids, rollups, state } = removals;
        for (table, keys) in
            [(&tables.events, events), (&tables.by_subject, subjects), (&tables.by_id, ids)]
        {
            for key in keys {
                open.batch.remove(table, key);
            }
        }
        for (key, written_at) in rollups {
            if self.rollup_age(&key)?.is_some_and(|(now, _)| now == written_at) {
                open.batch.remove(&tables.rollups, key);
            }
        }
        open.batch.insert(&tables.meta, meta::EXPIRY, state);
        Ok(())
    }
}

/// How far a partition is stored.
pub(super) fn stored_to(tables: &Tables, part: &Part) -> Result<Position, StoreError> {
    let key = meta::stored(&part.topic, part.epoch, part.partition);
    match tables.meta.get(key).map_err(|e| tables.read_error(&e))? {
        None => Ok(0),
        Some(value) => values::parse_position(&value).ok_or_else(|| tables.damaged(&tables.meta)),
    }
}

/// A topic's current epoch.
pub(super) fn epoch(tables: &Tables, topic: &str) -> Result<Option<TopicEpoch>, StoreError> {
    let found = tables.meta.get(meta::epoch(topic)).map_err(|e| tables.read_error(&e))?;
    found
        .map(|value| values::parse_epoch(&value).ok_or_else(|| tables.damaged(&tables.meta)))
        .transpose()
}

/// All definitions, in the order they were first registered.
pub(super) fn definitions(tables: &Tables) -> Result<Vec<Definition>, StoreError> {
    tables
        .meta
        .prefix(keys::meta::DEFINITIONS)
        .map(|row| {
            let value = row.value().map_err(|e| tables.read_error(&e))?;
            serde_json::from_slice(&value).map_err(|_| tables.damaged(&tables.meta))
        })
        .collect()
}
