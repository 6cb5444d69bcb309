//! The task of one partition, for as long as one lease lasts.
//!
//! ```text
//! records below `work` -> window
//! records above it     -> decode -> deduplicate -> fold -> buffer -> flush -> board (to commit)
//!                            \ poison -> dead letters, before the flush that passes them
//! ```
//!
//! One flush at most is in flight while the next fills. All state dies with the task. The
//! invariant: a position is reported only when everything below it is durable, rows, rollups, marks
//! and dead letters alike.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use eventlog::{Batch, Gap, Log, Position, Record, Stored};
use schemas::Codec;
use service::config::SinkConfig;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use crate::{
    SinkError,
    assignment::{Start, micros},
    backfold::Backfold,
    board::Board,
    decode::decode,
    dedup::{Candidate, Deduplicator, Verdict},
    flight::{Counts, Flight},
    fold::{Folder, Plan},
    metrics::PartitionLabels,
    retry::Patient,
    store::{EventRow, Flush, FoldMark, Origin},
};

/// A flush is started at this many rows or bytes; twice as much may wait behind one in flight.
const FLUSH_ROWS: usize = 2_048;
const FLUSH_BYTES: usize = 2 * 1024 * 1024;
/// Time between two flushes of a busy partition; an idle one is flushed at once.
const FLUSH_EVERY: Duration = Duration::from_millis(20);
/// The same when nothing but the position moved.
const FLUSH_POSITION_EVERY: Duration = Duration::from_millis(500);
/// Time between two looks at how long a flush is under way.
const SHOW_EVERY: Duration = Duration::from_secs(1);
/// Records worked on before others get a turn on the thread.
const CHUNK: usize = 512;

/// What every partition's task shares.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) log: Log,
    pub(crate) codec: Codec,
    pub(crate) patient: Patient,
    pub(crate) config: SinkConfig,
    pub(crate) plans: Arc<[Arc<Plan>]>,
    /// Named in dead letters.
    pub(crate) group: Arc<str>,
    pub(crate) board: Board,
    pub(crate) clock: Clock,
}

/// Microseconds since the Unix epoch.
pub(crate) type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// What the loop passes on from the subscription.
#[derive(Debug)]
pub(crate) enum Input {
    Batch(Batch),
    Gap(Gap),
}

impl Input {
    /// The position after it.
    pub(crate) fn next(&self) -> Position {
        match self {
            Self::Batch(batch) => batch.next,
            Self::Gap(gap) => gap.to,
        }
    }
}

/// How a task is told to end.
pub(crate) struct Ends {
    /// It is to write what it has.
    pub(crate) finish: CancellationToken,
    /// It is to write no more than what is under way.
    pub(crate) lost: CancellationToken,
}

/// Works until `inputs` ends or it is told to finish, then writes what it has and reports it.
pub(crate) async fn run(
    context: Context,
    start: Start,
    mut inputs: mpsc::Receiver<Input>,
    ends: Ends,
) -> Result<(), SinkError> {
    let mut task = tokio::select! {
        () = ends.finish.cancelled() => return Ok(()),
        task = Task::new(context, start) => task?,
    };
    let mut shown = tokio::time::interval(SHOW_EVERY);
    shown.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let flush_at = task.flush_at();
        let room = task.has_room();
        tokio::select! {
            biased;
            () = ends.finish.cancelled() => break,
            landed = Flight::landed(&mut task.flight), if task.flight.is_some() => {
                landed?;
                task.land();
            }
            _ = shown.tick() => task.show(),
            () = tokio::time::sleep_until(flush_at.unwrap_or_else(Instant::now)), if flush_at.is_some() => {
                task.take_off();
            }
            () = tokio::task::yield_now(), if room && task.batch.is_some() => task.work().await?,
            input = inputs.recv(), if room && task.batch.is_none() => match input {
                None => break,
                Some(Input::Batch(batch)) => task.open(batch).await?,
                Some(Input::Gap(gap)) => task.gap(gap.from, gap.to),
            },
        }
    }
    task.finish(&ends.lost).await
}

struct Task {
    context: Context,
    start: Start,
    labels: PartitionLabels,
    dedup: Deduplicator,
    folder: Folder,
    marks: Vec<FoldMark>,
    /// The batch being worked on, and the position after it.
    batch: Option<(VecDeque<Stored>, Position)>,
    /// Whether the first batch is still to come.
    first: bool,
    /// Everything below was worked on.
    position: Position,
    /// Everything below is in the store, whoever wrote it.
    stored_to: Position,
    buffer: Buffer,
    flight: Option<Flight>,
    /// Bytes of it.
    flying: usize,
    took_off: Option<Instant>,
}

impl Drop for Task {
    /// Another process shows the partition from now on, or nobody does.
    fn drop(&mut self) {
        let metrics = &self.context.patient.metrics;
        metrics.visible_seconds.remove(&self.labels);
        metrics.pending_bytes.remove(&self.labels);
        metrics.window_records.remove(&self.labels);
    }
}

/// What the next flush takes.
#[derive(Default)]
struct Buffer {
    events: Vec<EventRow>,
    letters: Vec<Record>,
    bytes: usize,
    counts: Counts,
    /// Append time of the last record.
    appended_at: Option<i64>,
    /// The position or a mark moved.
    moved: bool,
}

impl Task {
    async fn new(context: Context, start: Start) -> Result<Self, SinkError> {
        let lease = &start.assignment.lease;
        let (epoch, partition) = (start.epoch.epoch, lease.partition);
        let mut marks = start.marks(context.plans.iter().map(|plan| plan.version));
        let backfold = Backfold {
            log: &context.log,
            codec: &context.codec,
            patient: &context.patient,
            start: &start,
            plans: &context.plans,
        };
        backfold.run(&mut marks).await?;
        let skew = micros(context.config.clock_skew);
        let known = |mark: &FoldMark| start.state.marks.contains(mark);
        let buffer = Buffer { moved: !marks.iter().all(known), ..Buffer::default() };
        let mut task = Self {
            dedup: Deduplicator::new(epoch, partition, start.window(&context.config), skew),
            folder: Folder::new(context.plans.clone(), epoch, partition),
            labels: PartitionLabels { partition },
            marks,
            batch: None,
            first: true,
            position: start.begin.work,
            stored_to: start.state.stored_to,
            buffer,
            flight: None,
            flying: 0,
            took_off: None,
            context,
            start,
        };
        if let Some((from, to)) = task.start.begin.lost {
            task.gap(from, to);
        }
        Ok(task)
    }

    /// Takes a batch to work on.
    async fn open(&mut self, batch: Batch) -> Result<(), SinkError> {
        if std::mem::take(&mut self.first) {
            self.check_first(&batch).await?;
        }
        self.batch = Some((batch.records.into(), batch.next));
        Ok(())
    }

    /// Retention may have taken records between the plan and the first read.
    async fn check_first(&mut self, batch: &Batch) -> Result<(), SinkError> {
        let lease = &self.start.assignment.lease;
        let (log, patient) = (&self.context.log, &self.context.patient);
        let bounds = patient.log(|| log.bounds(&lease.topic, lease.partition)).await?;
        if bounds.start > self.start.begin.read {
            self.dedup.lose_sight();
        }
        let first = batch.records.first().map_or(batch.next, |stored| stored.offset);
        if bounds.start > self.position && first >= bounds.start {
            self.gap(self.position, bounds.start);
        }
        Ok(())
    }

    /// Works on some records of the batch.
    async fn work(&mut self) -> Result<(), SinkError> {
        let Some((mut records, next)) = self.batch.take() else { return Ok(()) };
        let most = records.len().min(CHUNK);
        if self.buffer.events.is_empty() {
            // Rows that grow by doubling are copied over and over.
            self.buffer.events.reserve(records.len().min(2 * FLUSH_ROWS));
        }
        let chunk = &records.make_contiguous()[..most];
        let begin = self.start.begin.work;
        let fresh = chunk.partition_point(|stored| stored.offset < begin);
        chunk[..fresh].iter().for_each(|stored| self.dedup.warm(stored));
        // A record that was worked on already would look like its own duplicate.
        let again = chunk.partition_point(|stored| stored.offset < self.position);
        let known = fresh.max(again);
        let done = known + self.store(&chunk[known..]).await?;
        let last = records.drain(..done).next_back();
        if records.is_empty() {
            self.advance(next);
        } else {
            self.batch = Some((records, next));
            if let Some(last) = last {
                self.advance(last.offset + 1);
            }
        }
        self.context
            .patient
            .metrics
            .window_records
            .get_or_create(&self.labels)
            .set(self.dedup.window_records() as i64);
        Ok(())
    }

    /// Decodes, judges and folds the first of these records into the buffer; how many.
    async fn store(&mut self, records: &[Stored]) -> Result<usize, SinkError> {
        let patient = self.context.patient.clone();
        let decoded = decode(&self.context.codec, &patient, records).await?;
        let records = &records[..decoded.len()];
        let Some(last) = records.last() else { return Ok(0) };
        let lease = &self.start.assignment.lease;
        let buffer = &mut self.buffer;
        let mut candidates = Vec::with_capacity(records.len());
        for (stored, decoded) in records.iter().zip(decoded) {
            let unfolded = decoded.as_ref().map_or(0, |event| event.data.size());
            buffer.bytes += stored.record.size().max(unfolded);
            match decoded {
                Ok(event) => candidates.push(Candidate {
                    event,
                    offset: stored.offset,
                    appended_at: stored.appended_at,
                }),
                Err(poison) => {
                    buffer.counts.dead_lettered += 1;
                    buffer.letters.push(schemas::dead_letter(
                        stored,
                        &lease.topic,
                        lease.partition,
                        &self.context.group,
                        "sink",
                        poison.reason,
                        &poison.detail,
                    ));
                }
            }
        }
        buffer.appended_at = Some(last.appended_at);

        let wanted = self.dedup.look_ups(&candidates);
        let located = patient.locate(&wanted).await?;
        let verdicts = self.dedup.settle(&candidates, located);
        let (epoch, partition) = (self.start.epoch.epoch, lease.partition);
        let stored_before = self.start.state.stored_to;
        for (candidate, verdict) in candidates.into_iter().zip(verdicts) {
            match verdict {
                // The window may not remember that the store has it.
                Verdict::New if candidate.offset >= stored_before => {
                    self.buffer.counts.stored += 1;
                }
                Verdict::New | Verdict::Replay => self.buffer.counts.replayed += 1,
                Verdict::Duplicate => {
                    self.buffer.counts.duplicate += 1;
                    continue;
                }
            }
            self.folder.add(&candidate.event, candidate.offset);
            self.buffer.events.push(EventRow {
                event: candidate.event,
                appended_at: candidate.appended_at,
                origin: Origin { epoch, partition, offset: candidate.offset },
            });
        }
        let missing = self.folder.missing();
        if !missing.is_empty() {
            let found = patient.rollup_rows(&missing).await?;
            self.folder.load(found);
        }
        self.folder.fold();
        Ok(records.len())
    }

    /// Notes what retention took before it was read.
    fn gap(&mut self, from: Position, to: Position) {
        let from = from.max(self.stored_to); // below, the store has what the log has not
        if to > from {
            let lease = &self.start.assignment.lease;
            let text = format!("{}/{} lost {from}..{to} unread", lease.topic, lease.partition);
            tracing::warn!(topic = %lease.topic, partition = lease.partition, from, to, "records were taken by retention before they were stored; rollups are incomplete");
            let patient = &self.context.patient;
            patient.metrics.gaps.inc();
            patient.status.part().note(text);
            self.marks.iter_mut().for_each(|mark| mark.complete = false);
            self.buffer.moved = true;
        }
        self.advance(to);
    }

    fn advance(&mut self, position: Position) {
        if position > self.position {
            self.position = position;
            self.buffer.moved = true;
        }
    }

    /// When the buffer is due, if it is and nothing is in flight.
    fn flush_at(&self) -> Option<Instant> {
        if self.flight.is_some() || !self.buffer.moved {
            return None;
        }
        let (buffer, now) = (&self.buffer, Instant::now());
        let rows = buffer.events.len().max(buffer.letters.len()).max(self.folder.dirty_rows());
        if rows >= FLUSH_ROWS || buffer.bytes >= FLUSH_BYTES {
            return Some(now);
        }
        let pause = if rows > 0 { FLUSH_EVERY } else { FLUSH_POSITION_EVERY };
        Some(self.took_off.map_or(now, |then| then + pause))
    }

    fn has_room(&self) -> bool {
        let buffer = &self.buffer;
        let rows = buffer.events.len().max(buffer.letters.len()).max(self.folder.dirty_rows());
        rows < 2 * FLUSH_ROWS && buffer.bytes < 2 * FLUSH_BYTES
    }

    /// Starts to write the buffer.
    fn take_off(&mut self) {
        let lease = &self.start.assignment.lease;
        let buffer = std::mem::take(&mut self.buffer);
        let position = self.position;
        self.marks.iter_mut().for_each(|mark| mark.to = mark.to.max(position));
        let flush = Flush {
            topic: lease.topic.clone(),
            epoch: self.start.epoch.epoch,
            partition: lease.partition,
            events: buffer.events,
            rollups: self.folder.snapshot(),
            marks: self.marks.clone(),
            stored_to: self.stored_to.max(position),
        };
        self.stored_to = flush.stored_to;
        self.dedup.take_off();
        self.took_off = Some(Instant::now());
        self.flying = buffer.bytes;
        let flight = Flight::start(
            self.context.log.clone(),
            self.context.patient.clone(),
            buffer.letters,
            flush,
            buffer.counts,
        );
        self.flight = Some(flight.carrying(position, buffer.appended_at));
        self.show();
    }

    /// The flush in flight is durable.
    fn land(&mut self) {
        let Some(flight) = self.flight.take() else { return };
        self.dedup.land();
        self.folder.forget();
        self.flying = 0;
        self.context.board.stored(&self.start.assignment.lease, flight.position);
        self.show_age(flight.appended_at);
        self.show();
    }

    /// Shows what is not stored yet, and how old it is: a store that hangs must not look like one that is quick.
    fn show(&self) {
        let pending = self.flying + self.buffer.bytes;
        let metrics = &self.context.patient.metrics;
        metrics.pending_bytes.get_or_create(&self.labels).set(pending as i64);
        self.show_age(self.flight.as_ref().and_then(|flight| flight.appended_at));
    }

    fn show_age(&self, appended_at: Option<i64>) {
        let Some(appended_at) = appended_at else { return };
        let age = ((self.context.clock)() - appended_at).max(0) as f64 / 1e6;
        self.context.patient.metrics.visible_seconds.get_or_create(&self.labels).set(age);
    }

    /// Writes what there is, before the lease is given back; of a lost one only what is under way.
    async fn finish(mut self, lost: &CancellationToken) -> Result<(), SinkError> {
        loop {
            if self.flight.is_some() {
                Flight::landed(&mut self.flight).await?;
                self.land();
            }
            if !self.buffer.moved || lost.is_cancelled() {
                return Ok(());
            }
            self.take_off();
        }
    }
}
