//! A flush as requests: grouped by where rows lie, a bounded number under way, progress last.
//!
//! ```text
//! directories of new buckets -> events, locators, subjects, rollups -> marks and position
//! ```
//!
//! The invariants: a position is written only after every row below it is in, and every row is
//! written with a timestamp that follows from the record alone, so that a row that comes again
//! changes nothing and one that comes late loses:
//!
//! - events, locators and subjects: the append time of the storing record. A record of a newer
//!   epoch was appended later.
//! - rollups, marks and positions: the begin of the epoch + the offset + 1 microseconds. Always in
//!   the past, as no log takes more than a million records a second in a partition.

use std::{cmp::Ordering, collections::HashMap, ops::Range, time::Instant};

use scylla::serialize::row::SerializeRow;

use super::{
    Cql,
    client::{call, each},
    known, layout,
    retention::now,
    rows::{
        Change, EventInsert, LocatorInsert, ProgressUpdate, RollupInsert, SubjectInsert,
        event_bytes, key_bytes,
    },
    spread::Spread,
    statements::{BATCH_ROWS, Insert, Statements, unlogged},
};
use crate::store::{EventRow, Flush, Identity, StoreError};

/// Bytes of values in a batch of one partition.
const BATCH_BYTES: usize = 64 * 1024;

/// Bytes of a row of a directory, about.
const DIRECTORY_BYTES: usize = 100;

/// Fewer rows of a partition go into a batch with those of others.
const ALONE_ROWS: usize = 8;

/// Rows and bytes of values in a batch of several partitions. From 5 KiB on Cassandra warns of
/// every one in its log, and at 50 KiB it refuses them.
const SPREAD_ROWS: usize = 20;
const SPREAD_BYTES: usize = 4 * 1024;

/// A run of rows that go in one request.
#[derive(Debug)]
enum Job {
    Events(Range<usize>, usize),
    Locators(Range<usize>, usize),
    Subjects(Range<usize>, usize),
    Rollups(Range<usize>, usize),
}

/// The rows of a flush, sorted by where they lie.
#[derive(Default)]
struct Plan<'a> {
    events: Vec<EventInsert<'a>>,
    locators: Vec<LocatorInsert<'a>>,
    subjects: Vec<SubjectInsert<'a>>,
    rollups: Vec<RollupInsert<'a>>,
    jobs: Vec<Job>,
    /// Rows that are past their retention.
    expired: u64,
}

/// A row of a directory that has to be there first.
enum Directory<'a> {
    Bucket(&'a str, &'a str, i64),
    Subject(&'a str, i64),
    Rollup(&'a RollupInsert<'a>),
}

impl Cql {
    pub(super) async fn write_flush(&self, flush: &Flush) -> Result<(), StoreError> {
        let epochs = self.epochs(&flush.topic, flush.epoch).await?;
        // The task of an epoch that is over may meet what the current one stored.
        let taken = match epochs.current > flush.epoch {
            true => self.taken(&flush.events).await?,
            false => Vec::new(),
        };
        let plan = self.plan(flush, epochs.started_at, &taken);
        self.write_directories(&plan).await?;
        self.run(&plan).await?;
        self.write_progress(flush, epochs.started_at).await?;
        self.client.metrics.expired.inc_by(plan.expired);
        Ok(())
    }

    /// Which of these events another record stored.
    async fn taken(&self, events: &[EventRow]) -> Result<Vec<bool>, StoreError> {
        let identities: Vec<Identity> = events.iter().map(EventRow::identity).collect();
        let located = self.locate_all(&identities).await?;
        let other = |(row, origin): (&EventRow, Option<_>)| {
            origin.is_some_and(|origin| origin != row.origin)
        };
        Ok(events.iter().zip(located).map(other).collect())
    }

    fn plan<'a>(&self, flush: &'a Flush, started_at: i64, taken: &[bool]) -> Plan<'a> {
        let now = now();
        let mut plan = Plan {
            events: Vec::with_capacity(flush.events.len()),
            locators: Vec::with_capacity(flush.events.len()),
            ..Plan::default()
        };
        for (index, row) in flush.events.iter().enumerate() {
            if taken.get(index).is_some_and(|taken| *taken) {
                continue;
            }
            let event = &row.event;
            if let Some(ttl) = self.retention.identities.left(row.appended_at, now) {
                plan.locators.push(LocatorInsert { row, ttl, replicas: 0 });
            } else {
                plan.expired += 1;
            }
            let Some(ttl) = self.retention.events.left(row.appended_at, now) else {
                plan.expired += 1;
                continue;
            };
            let bucket = self.layout.bucket(event.time.micros);
            let sub = self.layout.sub(&event.source, &event.id);
            plan.events.push(EventInsert { row, bucket, sub, ttl, replicas: 0 });
            if let Some(subject) = &event.subject {
                let bucket = layout::subject_bucket(event.time.micros);
                plan.subjects.push(SubjectInsert { row, subject, bucket, ttl, replicas: 0 });
            }
        }
        plan.rollups.extend(flush.rollups.iter().map(|row| RollupInsert {
            row,
            bucket: layout::rollup_bucket(row.key.window, row.key.start),
            timestamp: position_time(started_at, row.last_offset),
            ttl: self.retention.rollups,
        }));
        plan.sort();
        if let Some(spread) = Spread::of(&self.client) {
            plan.gather(&spread, &self.statements);
        }
        plan.cut();
        plan
    }

    async fn write_directories(&self, plan: &Plan<'_>) -> Result<(), StoreError> {
        let mut scratch = Vec::new();
        let mut missing: HashMap<u128, Directory<'_>> = HashMap::new();
        let mut want = |fingerprint, directory| {
            if !self.known.has(fingerprint) {
                missing.insert(fingerprint, directory);
            }
        };
        for run in plan.events.chunk_by(|a, b| same_bucket(a, b)) {
            let (event, bucket) = (&run[0].row.event, run[0].bucket);
            let parts = [event.namespace.as_bytes(), event.kind.as_bytes(), &bucket.to_le_bytes()];
            want(
                layout::fingerprint(&mut scratch, parts),
                Directory::Bucket(&event.namespace, &event.kind, bucket),
            );
        }
        let same = |a: &SubjectInsert<'_>, b: &SubjectInsert<'_>| {
            a.bucket == b.bucket && a.row.event.namespace == b.row.event.namespace
        };
        for run in plan.subjects.chunk_by(same) {
            let (namespace, bucket) = (&*run[0].row.event.namespace, run[0].bucket);
            let parts = [namespace.as_bytes(), &bucket.to_le_bytes()];
            want(layout::fingerprint(&mut scratch, parts), Directory::Subject(namespace, bucket));
        }
        for run in plan.rollups.chunk_by(|a, b| rollup_order(a, b).is_eq()) {
            let key = &run[0].row.key;
            let parts: [&[u8]; 7] = [
                key.namespace.as_bytes(),
                key.rollup.as_bytes(),
                &key.version.0.to_le_bytes(),
                &key.window.to_le_bytes(),
                &run[0].bucket.to_le_bytes(),
                &key.epoch.to_le_bytes(),
                &key.partition.to_le_bytes(),
            ];
            want(layout::fingerprint(&mut scratch, parts), Directory::Rollup(&run[0]));
        }
        let missing: Vec<_> = missing.into_iter().collect();
        each(missing.len(), |index| {
            let (fingerprint, directory) = &missing[index];
            Box::pin(async move {
                let began = Instant::now();
                self.write_directory(directory).await?;
                self.known.add(*fingerprint, began);
                Ok(())
            })
        })
        .await
    }

    async fn write_directory(&self, directory: &Directory<'_>) -> Result<(), StoreError> {
        let statements = &self.statements;
        let (client, call) = (&self.client, call::WRITE_BUCKETS);
        let life = known::life(self.retention.events_life);
        match directory {
            Directory::Bucket(namespace, kind, bucket) => {
                let values = (*namespace, *kind, *bucket, life);
                client.execute(call, &statements.bucket, values, DIRECTORY_BYTES).await?;
            }
            Directory::Subject(namespace, bucket) => {
                let values = (*namespace, *bucket, life);
                client.execute(call, &statements.subject_bucket, values, DIRECTORY_BYTES).await?;
            }
            Directory::Rollup(row) => {
                let key = &row.row.key;
                let values = (
                    &*key.namespace,
                    &*key.rollup,
                    key.version.0.cast_signed(),
                    key.window,
                    row.bucket,
                    key.epoch.cast_signed(),
                    key.partition.cast_signed(),
                    known::life(self.retention.rollups),
                );
                client.execute(call, &statements.rollup_bucket, values, DIRECTORY_BYTES).await?;
            }
        }
        Ok(())
    }

    async fn run(&self, plan: &Plan<'_>) -> Result<(), StoreError> {
        let to = &self.statements;
        each(plan.jobs.len(), |index| match &plan.jobs[index] {
            Job::Events(rows, bytes) => {
                let rows = &plan.events[rows.clone()];
                Box::pin(self.insert(call::WRITE_EVENTS, &to.event, rows, *bytes))
            }
            Job::Locators(rows, bytes) => {
                let rows = &plan.locators[rows.clone()];
                Box::pin(self.insert(call::WRITE_LOCATORS, &to.locator, rows, *bytes))
            }
            Job::Subjects(rows, bytes) => {
                let rows = &plan.subjects[rows.clone()];
                Box::pin(self.insert(call::WRITE_SUBJECTS, &to.subject, rows, *bytes))
            }
            Job::Rollups(rows, bytes) => {
                let rows = &plan.rollups[rows.clone()];
                Box::pin(self.insert(call::WRITE_ROLLUPS, &to.rollup, rows, *bytes))
            }
        })
        .await
    }

    async fn insert<T: SerializeRow + Sync>(
        &self,
        call: &'static str,
        insert: &Insert,
        rows: &[T],
        bytes: usize,
    ) -> Result<(), StoreError> {
        match rows {
            [row] => self.client.execute(call, &insert.one, row, bytes).await.map(drop),
            _ => self.client.batch(call, insert.of(rows.len()), rows, bytes).await,
        }
    }

    /// Marks and position: one mutation of one row.
    async fn write_progress(&self, flush: &Flush, started_at: i64) -> Result<(), StoreError> {
        let update = |change, position| ProgressUpdate {
            topic: &flush.topic,
            epoch: flush.epoch,
            partition: flush.partition,
            timestamp: position_time(started_at, position),
            change,
        };
        let mut batch = unlogged();
        let mut updates = Vec::with_capacity(1 + flush.marks.len());
        batch.append_statement(self.statements.stored_to.clone());
        updates.push(update(Change::StoredTo(flush.stored_to), flush.stored_to));
        for mark in &flush.marks {
            batch.append_statement(self.statements.mark.clone());
            updates.push(update(Change::Mark(*mark), mark.to));
        }
        let bytes = updates.len() * 100;
        self.client.batch(call::WRITE_PROGRESS, &batch, &updates[..], bytes).await
    }
}

/// The timestamp of what a position says. See the module's invariants.
fn position_time(started_at: i64, position: u64) -> i64 {
    let position = i64::try_from(position).unwrap_or(i64::MAX);
    started_at.saturating_add(position).saturating_add(1)
}

fn event_order(a: &EventInsert<'_>, b: &EventInsert<'_>) -> Ordering {
    let (one, other) = (&a.row.event, &b.row.event);
    (a.bucket, a.sub)
        .cmp(&(b.bucket, b.sub))
        .then_with(|| one.kind.cmp(&other.kind))
        .then_with(|| one.namespace.cmp(&other.namespace))
}

fn same_bucket(a: &EventInsert<'_>, b: &EventInsert<'_>) -> bool {
    let (one, other) = (&a.row.event, &b.row.event);
    a.bucket == b.bucket && one.kind == other.kind && one.namespace == other.namespace
}

fn subject_order(a: &SubjectInsert<'_>, b: &SubjectInsert<'_>) -> Ordering {
    a.bucket
        .cmp(&b.bucket)
        .then_with(|| a.subject.cmp(b.subject))
        .then_with(|| a.row.event.namespace.cmp(&b.row.event.namespace))
}

fn rollup_order(a: &RollupInsert<'_>, b: &RollupInsert<'_>) -> Ordering {
    let (one, other) = (&a.row.key, &b.row.key);
    let numbers =
        |key: &crate::store::RollupKey| (key.version.0, key.window, key.epoch, key.partition);
    (a.bucket, numbers(one))
        .cmp(&(b.bucket, numbers(other)))
        .then_with(|| one.rollup.cmp(&other.rollup))
        .then_with(|| one.namespace.cmp(&other.namespace))
}

impl Plan<'_> {
    /// Brings rows of one partition together.
    fn sort(&mut self) {
        self.events.sort_unstable_by(event_order);
        self.subjects.sort_unstable_by(subject_order);
        self.rollups.sort_unstable_by(rollup_order);
    }

    /// Brings partitions of the same nodes together. Those of one partition stay so.
    fn gather(&mut self, spread: &Spread, to: &Statements) {
        for run in self.events.chunk_by_mut(|a, b| event_order(a, b).is_eq()) {
            let replicas = spread.replicas(&to.event.one, &run[0]);
            run.iter_mut().for_each(|row| row.replicas = replicas);
        }
        for run in self.subjects.chunk_by_mut(|a, b| subject_order(a, b).is_eq()) {
            let replicas = spread.replicas(&to.subject.one, &run[0]);
            run.iter_mut().for_each(|row| row.replicas = replicas);
        }
        for row in &mut self.locators {
            row.replicas = spread.replicas(&to.locator.one, row);
        }
        self.events.sort_by_key(|row| row.replicas);
        self.subjects.sort_by_key(|row| row.replicas);
        self.locators.sort_by_key(|row| row.replicas);
    }

    /// Cuts rows into requests.
    fn cut(&mut self) {
        let jobs = &mut self.jobs;
        requests(
            &self.events,
            |a, b| event_order(a, b).is_eq(),
            |a, b| a.replicas == b.replicas,
            |row| event_bytes(row.row),
            |rows, bytes| jobs.push(Job::Events(rows, bytes)),
        );
        requests(
            &self.locators,
            |_, _| false,
            |a, b| a.replicas == b.replicas,
            |row| key_bytes(row.row),
            |rows, bytes| jobs.push(Job::Locators(rows, bytes)),
        );
        requests(
            &self.subjects,
            |a, b| subject_order(a, b).is_eq(),
            |a, b| a.replicas == b.replicas,
            |row| key_bytes(row.row) + row.subject.len(),
            |rows, bytes| jobs.push(Job::Subjects(rows, bytes)),
        );
        requests(
            &self.rollups,
            |a, b| rollup_order(a, b).is_eq(),
            |_, _| false,
            |row| row.row.key.group.len() + 48 * row.row.measures.len() + 120,
            |rows, bytes| jobs.push(Job::Rollups(rows, bytes)),
        );
    }
}

/// Cuts sorted rows into requests: of one partition where rows of it are many, of several
/// partitions that lie near each other where they are few.
fn requests<T>(
    rows: &[T],
    together: impl Fn(&T, &T) -> bool,
    near: impl Fn(&T, &T) -> bool,
    bytes: impl Fn(&T) -> usize,
    mut request: impl FnMut(Range<usize>, usize),
) {
    // A request of several partitions that is being filled.
    let (mut open, mut open_bytes) = (0..0, 0);
    let mut begin = 0;
    for partition in rows.chunk_by(&together) {
        let run = begin..begin + partition.len();
        begin = run.end;
        let size: usize = partition.iter().map(&bytes).sum();
        let small = run.len() < ALONE_ROWS && size <= SPREAD_BYTES;
        let fits = small
            && open.len() + run.len() <= SPREAD_ROWS
            && open_bytes + size <= SPREAD_BYTES
            && (open.is_empty() || near(&rows[open.start], &partition[0]));
        if fits {
            open = if open.is_empty() { run } else { open.start..run.end };
            open_bytes += size;
            continue;
        }
        if !open.is_empty() {
            request(std::mem::take(&mut open), std::mem::take(&mut open_bytes));
        }
        if small {
            (open, open_bytes) = (run, size);
            continue;
        }
        let (mut first, mut sum) = (run.start, 0);
        for index in run.clone() {
            let size = bytes(&rows[index]);
            if index > first && (index - first >= BATCH_ROWS || sum + size > BATCH_BYTES) {
                request(first..index, sum);
                (first, sum) = (index, 0);
            }
            sum += size;
        }
        request(first..run.end, sum);
    }
    if !open.is_empty() {
        request(open, open_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows by partition and bytes; partitions of equal case are near each other.
    fn cut(rows: &[(char, usize)]) -> Vec<(Range<usize>, usize)> {
        let mut found = Vec::new();
        let near = |a: &(char, usize), b: &(char, usize)| a.0.is_lowercase() == b.0.is_lowercase();
        requests(rows, |a, b| a.0 == b.0, near, |row| row.1, |rows, sum| found.push((rows, sum)));
        found
    }

    fn many(partition: char, rows: usize, bytes: usize) -> Vec<(char, usize)> {
        vec![(partition, bytes); rows]
    }

    #[test]
    fn few_rows_of_near_partitions_share_a_request() {
        assert_eq!(cut(&[('a', 1), ('a', 2), ('b', 3), ('C', 4)]), [(0..3, 6), (3..4, 4)]);
        assert_eq!(cut(&[]), []);
    }

    #[test]
    fn many_rows_of_a_partition_go_without_others() {
        let rows = [many('a', 2, 1), many('b', ALONE_ROWS, 1), many('c', 1, 1)].concat();
        assert_eq!(cut(&rows), [(0..2, 2), (2..10, 8), (10..11, 1)]);
    }

    #[test]
    fn a_request_ends_at_its_rows_and_at_its_bytes() {
        let rows = many('a', BATCH_ROWS + 1, 1);
        assert_eq!(cut(&rows), [(0..BATCH_ROWS, BATCH_ROWS), (BATCH_ROWS..BATCH_ROWS + 1, 1)]);
        let half = BATCH_BYTES / 2;
        let rows = many('a', 3, half);
        assert_eq!(cut(&rows), [(0..2, BATCH_BYTES), (2..3, half)]);
        let rows: Vec<_> = ('a'..='z').map(|partition| (partition, 1)).collect();
        assert_eq!(cut(&rows), [(0..SPREAD_ROWS, SPREAD_ROWS), (20..26, 6)]);
        let rows = [('a', SPREAD_BYTES), ('b', 1), ('c', SPREAD_BYTES + 1), ('d', 1)];
        let alone = [(0..1, SPREAD_BYTES), (1..2, 1), (2..3, SPREAD_BYTES + 1), (3..4, 1)];
        assert_eq!(cut(&rows), alone);
    }

    #[test]
    fn a_later_position_has_a_later_time_than_the_one_before() {
        assert_eq!(position_time(1_000, 0), 1_001);
        assert_eq!(position_time(1_000, 9), 1_010);
        assert_eq!(position_time(1_000, u64::MAX), i64::MAX);
    }
}
