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

use scylla::{
    routing::Token, serialize::row::SerializeRow, statement::prepared::PreparedStatement,
};

use super::{
    Cql,
    client::{call, each},
    known, layout,
    retention::now,
    rows::{
        Change, EventInsert, LocatorInsert, ProgressUpdate, RollupInsert, SubjectInsert,
        event_bytes, key_bytes,
    },
    statements::{BATCH_ROWS, Insert, unlogged},
};
use crate::store::{EventRow, Flush, Identity, StoreError};

/// Bytes of values in a batch of one partition.
const BATCH_BYTES: usize = 64 * 1024;

/// Partitions in a batch of several, and bytes of values: above 10 and 5 KiB Cassandra warns in
/// its log, and far above it refuses.
const SPREAD_ROWS: usize = 10;
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
        self.write_progress(flush, epochs.started_at).await
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
        let spread = self.spread();
        let mut expired = 0;
        for (index, row) in flush.events.iter().enumerate() {
            if taken.get(index).is_some_and(|taken| *taken) {
                continue;
            }
            let event = &row.event;
            if let Some(ttl) = self.retention.identities.left(row.appended_at, now) {
                let mut locator = LocatorInsert { row, ttl, replicas: 0 };
                locator.replicas = spread.of(&self.statements.locator.one, &locator);
                plan.locators.push(locator);
            } else {
                expired += 1;
            }
            let Some(ttl) = self.retention.events.left(row.appended_at, now) else {
                expired += 1;
                continue;
            };
            let bucket = self.layout.bucket(event.time.micros);
            let sub = self.layout.sub(&event.source, &event.id);
            plan.events.push(EventInsert { row, bucket, sub, ttl });
            if let Some(subject) = &event.subject {
                let bucket = layout::subject_bucket(event.time.micros);
                let mut subject = SubjectInsert { row, subject, bucket, ttl, replicas: 0 };
                subject.replicas = spread.of(&self.statements.subject.one, &subject);
                plan.subjects.push(subject);
            }
        }
        if expired > 0 {
            self.client.metrics.expired.inc_by(expired);
        }
        plan.rollups.extend(flush.rollups.iter().map(|row| RollupInsert {
            row,
            bucket: layout::rollup_bucket(row.key.window, row.key.start),
            timestamp: position_time(started_at, row.last_offset),
            ttl: self.retention.rollups,
        }));
        plan.group();
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
                client.execute(call, &statements.bucket, values).await?;
            }
            Directory::Subject(namespace, bucket) => {
                let values = (*namespace, *bucket, life);
                client.execute(call, &statements.subject_bucket, values).await?;
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
                client.execute(call, &statements.rollup_bucket, values).await?;
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
            [row] => self.client.execute(call, &insert.one, row).await.map(drop),
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

    fn spread(&self) -> Spread {
        let state = self.client.session.get_cluster_state();
        let copies =
            state.get_keyspace(&self.client.address.keyspace).map_or(0, |keyspace| match &keyspace
                .strategy
            {
                scylla::cluster::metadata::Strategy::NetworkTopologyStrategy {
                    datacenter_repfactors,
                } => datacenter_repfactors.values().sum(),
                _ => 0,
            });
        let everywhere = copies >= state.get_nodes_info().len();
        Spread {
            state: (!everywhere).then_some(state),
            keyspace: self.client.address.keyspace.clone(),
        }
    }
}

/// Tells which rows lie on the same nodes.
struct Spread {
    /// `None` when every node holds everything.
    state: Option<std::sync::Arc<scylla::cluster::ClusterState>>,
    keyspace: String,
}

impl Spread {
    /// Stands for the replicas of a row.
    fn of(&self, statement: &PreparedStatement, row: &impl SerializeRow) -> u64 {
        let Some(state) = &self.state else { return 0 };
        let token: Option<Token> = statement.calculate_token(row).ok().flatten();
        let (Some(token), Some(table)) = (token, statement.get_table_name()) else { return 0 };
        // In any order: a set of nodes is what matters.
        state
            .get_token_endpoints(&self.keyspace, table, token)
            .iter()
            .map(|(node, _)| node.host_id.as_u64_pair())
            .fold(0, |sum: u64, (high, low)| {
                sum.wrapping_add((high ^ low.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15))
            })
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
    (a.replicas, a.bucket)
        .cmp(&(b.replicas, b.bucket))
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
    /// Sorts rows by where they lie, and cuts them into requests.
    fn group(&mut self) {
        self.events.sort_unstable_by(event_order);
        self.locators.sort_unstable_by_key(|row| row.replicas);
        self.subjects.sort_unstable_by(subject_order);
        self.rollups.sort_unstable_by(rollup_order);
        let jobs = &mut self.jobs;
        runs(
            &self.events,
            |a, b| event_order(a, b).is_eq(),
            |row| event_bytes(row.row),
            (BATCH_ROWS, BATCH_BYTES),
            |rows, bytes| jobs.push(Job::Events(rows, bytes)),
        );
        let spread = (SPREAD_ROWS, SPREAD_BYTES);
        runs(
            &self.locators,
            |a, b| a.replicas == b.replicas,
            |row| key_bytes(row.row),
            spread,
            |rows, bytes| jobs.push(Job::Locators(rows, bytes)),
        );
        runs(
            &self.subjects,
            |a, b| a.replicas == b.replicas,
            |row| key_bytes(row.row) + row.subject.len(),
            spread,
            |rows, bytes| jobs.push(Job::Subjects(rows, bytes)),
        );
        runs(
            &self.rollups,
            |a, b| rollup_order(a, b).is_eq(),
            |row| row.row.key.group.len() + 48 * row.row.measures.len() + 120,
            (BATCH_ROWS, BATCH_BYTES),
            |rows, bytes| jobs.push(Job::Rollups(rows, bytes)),
        );
    }
}

/// Cuts sorted rows into runs of those that belong together, within so many rows and bytes; a row
/// of more bytes goes alone.
fn runs<T>(
    rows: &[T],
    together: impl Fn(&T, &T) -> bool,
    bytes: impl Fn(&T) -> usize,
    (most_rows, most_bytes): (usize, usize),
    mut run: impl FnMut(Range<usize>, usize),
) {
    let (mut begin, mut sum) = (0, 0);
    for (index, row) in rows.iter().enumerate() {
        let size = bytes(row);
        let full = index - begin >= most_rows || sum + size > most_bytes;
        if index > begin && (full || !together(&rows[begin], row)) {
            run(begin..index, sum);
            (begin, sum) = (index, 0);
        }
        sum += size;
    }
    if begin < rows.len() {
        run(begin..rows.len(), sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(rows: &[(char, usize)], most: (usize, usize)) -> Vec<(Range<usize>, usize)> {
        let mut found = Vec::new();
        runs(rows, |a, b| a.0 == b.0, |row| row.1, most, |rows, bytes| found.push((rows, bytes)));
        found
    }

    #[test]
    fn rows_that_do_not_belong_together_part() {
        let rows = [('a', 1), ('a', 1), ('b', 1), ('a', 1)];
        assert_eq!(cut(&rows, (9, 9)), [(0..2, 2), (2..3, 1), (3..4, 1)]);
        assert_eq!(cut(&[], (9, 9)), []);
    }

    #[test]
    fn a_run_ends_at_its_rows_and_at_its_bytes() {
        let rows = [('a', 4), ('a', 4), ('a', 4), ('a', 90), ('a', 1)];
        assert_eq!(cut(&rows, (2, 100)), [(0..2, 8), (2..4, 94), (4..5, 1)]);
        assert_eq!(cut(&rows, (9, 8)), [(0..2, 8), (2..3, 4), (3..4, 90), (4..5, 1)]);
    }

    #[test]
    fn a_later_position_has_a_later_time_than_the_one_before() {
        assert_eq!(position_time(1_000, 0), 1_001);
        assert_eq!(position_time(1_000, 9), 1_010);
        assert_eq!(position_time(1_000, u64::MAX), i64::MAX);
    }
}
