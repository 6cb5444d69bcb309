//! The one thread that writes: group commit.
//!
//! It takes every write that waits, puts them into one batch of the engine, syncs once, shows the
//! new records to readers and answers everyone. The invariant: nothing is answered as stored, and
//! nothing is seen by a reader, before the sync that made it durable has returned. After a failed
//! commit the thread never writes again, because what the disk holds is no longer known.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Instant,
};

use super::{
    chunk::{CHUNK_BYTES, Chunk, ChunkHeader, ChunkKey, Segment, encode},
    directory::{Directory, FreeSpace},
    engine::Engine,
    queue::{Answer, Bases, Failure, Queue, Touched, Write, finish, refuse},
    topic::{Cursor, Partition, locked},
};
use crate::{Options, Position};

/// The thread's state.
pub(crate) struct Writer {
    pub engine: Arc<Engine>,
    pub directory: Arc<Directory>,
    pub queue: Arc<Queue>,
    pub options: Options,
    /// The number of the last commit.
    pub commit: u64,
    free: FreeSpace,
    /// Whose chunks are in memory, oldest first.
    tail: VecDeque<(Arc<Partition>, usize)>,
    tail_bytes: usize,
}

/// A partition's part of one commit.
struct Open {
    partition: Arc<Partition>,
    segments: Vec<Segment>,
    bytes: usize,
    count: u32,
    base: Position,
    closed: Vec<(ChunkKey, ChunkHeader, bytes::Bytes)>,
}

impl Writer {
    pub fn new(
        engine: Arc<Engine>,
        directory: Arc<Directory>,
        queue: Arc<Queue>,
        options: Options,
        commit: u64,
    ) -> Self {
        let free = FreeSpace::new(directory.path(), options.min_free_bytes);
        Self {
            engine,
            directory,
            queue,
            options,
            commit,
            free,
            tail: VecDeque::new(),
            tail_bytes: 0,
        }
    }

    /// [`Writer::run`], with a panic of the engine turned into a failed log instead of silence.
    pub fn run_guarded(self) {
        let queue = self.queue.clone();
        let run = std::panic::AssertUnwindSafe(|| self.run());
        if std::panic::catch_unwind(run).is_err() {
            queue.fail("the log's writer broke down; nothing is taken until it is opened again");
        }
    }

    /// Writes until the queue closes.
    fn run(mut self) {
        while let Some(writes) = self.queue.take() {
            let bytes = writes.iter().map(|(write, _)| write.size).sum();
            self.write(writes);
            self.queue.release(bytes);
        }
    }

    fn write(&mut self, writes: Vec<(Write, Answer)>) {
        let begun = Instant::now();
        if let Some(why) = self.queue.failed.get() {
            return refuse(writes, &Failure::Retry(why.clone()));
        }
        let full = match writes.iter().any(|(write, _)| !write.parts.is_empty()) {
            // Once to the journal, once to a table.
            true => {
                let bytes: usize = writes.iter().map(|(write, _)| write.size).sum();
                self.free.check(self.engine.unsorted() + 2 * bytes as u64).err()
            }
            false => None,
        };
        let mut open = HashMap::new();
        let mut accepted = Vec::with_capacity(writes.len());
        let mut conflicts = Vec::new();
        for (mut write, answer) in writes {
            if let Some(why) = full.as_ref().filter(|_| !write.parts.is_empty()) {
                self.options.metrics.deferred.inc();
                finish((write, answer), Err(Failure::Retry(why.clone())));
                continue;
            }
            match self.place(&mut write, &mut open) {
                Ok(bases) => accepted.push((write, answer, bases)),
                // Told only once the end it speaks of is durable.
                Err(conflict) => conflicts.push((write, answer, conflict)),
            }
        }
        let sync = accepted.iter().any(|(write, ..)| write.sync) || !conflicts.is_empty();
        let outcome = self.commit(&accepted, &mut open, sync);
        match outcome {
            Ok(()) => {
                self.options.metrics.commit_seconds.observe(begun.elapsed().as_secs_f64());
                self.publish(open);
                for (write, answer, bases) in accepted {
                    for Touched { topic, records, bytes } in &write.topics {
                        let metrics = &self.options.metrics;
                        metrics.appended(&topic.name, *records, *bytes);
                        topic.wake();
                    }
                    finish((write, answer), Ok(bases));
                }
                for (write, answer, conflict) in conflicts {
                    finish((write, answer), Err(conflict));
                }
            }
            Err(failure) => {
                let rest = conflicts.into_iter().map(|(write, answer, _)| (write, answer));
                let all =
                    accepted.into_iter().map(|(write, answer, _)| (write, answer)).chain(rest);
                refuse(all.collect(), &failure);
            }
        }
    }

    /// Gives the records of a write their offsets.
    fn place(
        &self,
        write: &mut Write,
        open: &mut HashMap<(u32, u32), Open>,
    ) -> Result<Bases, Failure> {
        if let (Some(expected), Some(part)) = (write.expected_end, write.parts.first()) {
            let end = locked(&part.partition.cursor).next;
            if end != expected {
                return Err(Failure::Conflict(end));
            }
        }
        let now = self.options.clock.now();
        let mut bases = Vec::with_capacity(write.parts.len());
        for part in &mut write.parts {
            let partition = &part.partition;
            let open = open.entry((partition.topic_id, partition.index)).or_insert_with(|| Open {
                partition: partition.clone(),
                segments: Vec::new(),
                bytes: 0,
                count: 0,
                base: locked(&partition.cursor).next,
                closed: Vec::new(),
            });
            bases.push(open.base + u64::from(open.count));
            for segment in part.segments.drain(..) {
                if open.bytes > 0 && open.bytes + segment.payload.len() > CHUNK_BYTES {
                    open.close(now, 0);
                }
                open.bytes += segment.payload.len();
                open.count += segment.count;
                open.segments.push(segment);
            }
            if write.burn {
                open.close(now, 1);
            }
            locked(&partition.cursor).next = open.base + u64::from(open.count);
        }
        Ok(bases)
    }

    fn commit(
        &mut self,
        accepted: &[(Write, Answer, Bases)],
        open: &mut HashMap<(u32, u32), Open>,
        sync: bool,
    ) -> Result<(), Failure> {
        if accepted.is_empty() {
            return Ok(());
        }
        let now = self.options.clock.now();
        let mut changes = self.engine.changes();
        for open in open.values_mut() {
            open.close(now, 0);
            for (key, _, value) in &open.closed {
                self.engine.put_chunk(&mut changes, *key, value.clone());
            }
            // Kept apart from the chunks, so that missing ones are noticed.
            let cursor = Cursor { next: open.base, ..*locked(&open.partition.cursor) };
            let key = Cursor::key_of(open.partition.topic_id, open.partition.index);
            self.engine.put_meta(&mut changes, &key, &cursor.to_bytes());
        }
        for (write, ..) in accepted {
            for (key, value) in &write.meta {
                self.engine.put_meta(&mut changes, key, value);
            }
            for key in &write.removals {
                self.engine.remove_chunk(&mut changes, *key);
            }
        }
        let committed = self.engine.commit(changes, self.commit + 1, sync).map_err(|e| match e {
            // It said no before it touched the journal.
            fjall::Error::Poisoned => (e, true),
            e => (e, false),
        });
        let path = self.directory.path().display();
        if let Err((e, refused)) = committed {
            let why =
                format!("the log in {path} failed and takes nothing until it is opened again: {e}");
            tracing::error!(error = %e, %path, "the log failed");
            let why = self.queue.failed.get_or_init(|| why).clone();
            return Err(if refused { Failure::Retry(why) } else { Failure::Unknown(why) });
        }
        self.commit += 1;
        if sync {
            self.options.metrics.syncs.inc();
            if let Err(e) = self.directory.acknowledge(self.commit) {
                tracing::warn!(error = %e, %path, "cannot write the log's high-water file");
            }
        }
        Ok(())
    }

    fn publish(&mut self, open: HashMap<(u32, u32), Open>) {
        for open in open.into_values() {
            for (key, header, value) in open.closed {
                self.tail_bytes += value.len();
                self.tail.push_back((open.partition.clone(), value.len()));
                open.partition.publish(Chunk::fresh(key, header, value));
            }
        }
        while self.tail_bytes > self.options.tail_bytes {
            let Some((partition, bytes)) = self.tail.pop_front() else { break };
            partition.cool();
            self.tail_bytes -= bytes;
        }
    }
}

impl Open {
    /// Ends the chunk that is being filled, if it has anything or leaves a hole.
    fn close(&mut self, now: i64, hole: u64) {
        if self.count == 0 && hole == 0 {
            return;
        }
        let mut cursor = locked(&self.partition.cursor);
        cursor.time = cursor.time.max(now);
        let key = ChunkKey {
            topic: self.partition.topic_id,
            partition: self.partition.index,
            base: self.base,
            next: self.base + u64::from(self.count) + hole,
        };
        let header =
            ChunkHeader { count: self.count, time: cursor.time, bytes_before: cursor.bytes };
        let value = encode(&key, header, &self.segments);
        cursor.bytes += value.len() as u64;
        self.closed.push((key, header, value));
        self.segments.clear();
        (self.bytes, self.count, self.base) = (0, 0, key.next);
    }
}
