//! The rules that every implementation of the log keeps, as tests that any of them can run.
//!
//! An implementation gives a [`Harness`] and one line, `eventlog::contract_tests!(make_harness)`,
//! in a test file of its own; each rule becomes one test. `make_harness` answers
//! `None` where what the implementation stands on is not there, and the rules are skipped. The rules use names nobody used before,
//! so they can run on a shared cluster, beside each other. They assume neither that offsets are
//! contiguous nor how long things take; what never comes fails after [`PATIENCE`].

#![expect(clippy::unwrap_used, clippy::panic, reason = "these are tests, wherever they live")]

pub mod appending;
pub mod groups;
pub mod reading;
pub mod rebalancing;
pub mod transactions;

use std::{future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use uuid::Uuid;

use crate::{
    Assigned, Batch, Delivery, Lease, Log, LogError, Position, Record, Retention, Revocation,
    Stored, Subscription, TopicSpec, Transactor,
};

/// How long a rule waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What the suite needs of an implementation.
#[async_trait]
pub trait Harness: Send + Sync {
    /// A handle on the log.
    async fn log(&self) -> Log;
    /// Ends what `log` stands on, as the end of the process would, and opens it again.
    async fn reopen(&self, log: Log) -> Log;
    /// Makes retention take what is before a position, as far as the implementation can.
    async fn take_before(&self, log: &Log, topic: &str, partition: u32, before: Position);
    /// How long a revocation waits for its acknowledgement.
    fn revoke_deadline(&self) -> Duration;
}

/// Makes one test of each rule; the argument is a function that makes a [`Harness`], or answers `None`
/// to skip.
#[macro_export]
macro_rules! contract_tests {
    ($make:expr) => {
        $crate::contract_tests!(@ $make,
            appending: each_record_gets_its_own_result,
            appending: records_of_a_key_stay_in_order,
            appending: keys_go_where_java_clients_send_them,
            appending: records_without_a_key_are_spread,
            appending: records_come_back_as_they_were_appended,
            appending: append_times_never_go_back,
            appending: an_unknown_topic_refuses_records,
            appending: what_was_acknowledged_survives_reopening,
            appending: appending_at_the_end_succeeds_and_tells_the_new_end,
            appending: appending_elsewhere_conflicts_and_stores_nothing,
            appending: of_two_who_append_at_one_end_one_wins,
            appending: appending_at_an_end_needs_a_topic_of_one_partition,
            reading: topics_are_made_once_and_listed,
            reading: another_number_of_partitions_is_a_mismatch,
            reading: an_incarnation_outlives_reopening,
            reading: unknown_topics_and_partitions_are_told_as_such,
            reading: a_reader_reads_between_its_positions,
            reading: a_reader_refuses_positions_out_of_range,
            reading: a_reader_passes_holes_to_the_end,
            reading: a_time_leads_to_the_first_record_of_it,
            groups: a_new_group_starts_at_the_start,
            groups: nothing_is_read_before_the_assignment_is_answered,
            groups: a_dropped_assignment_resumes,
            groups: a_group_goes_on_where_it_committed,
            groups: committed_positions_survive_reopening,
            groups: groups_do_not_see_each_other,
            groups: a_warm_start_reads_again_below_the_committed_position,
            groups: a_waiting_member_wakes_for_an_append,
            groups: a_dropped_wait_loses_nothing,
            groups: a_position_that_is_gone_is_a_gap,
            groups: a_warm_start_below_the_start_is_no_gap,
            groups: a_start_beyond_the_end_is_refused,
            groups: a_batch_may_be_empty_and_still_advance,
            groups: a_paused_partition_holds_up_no_other_and_loses_nothing,
            rebalancing: a_paused_partition_can_be_revoked,
            rebalancing: two_members_share_and_nothing_is_read_twice,
            rebalancing: a_revoked_partition_takes_commits_until_acknowledged,
            rebalancing: a_stale_lease_cannot_commit,
            rebalancing: one_stale_lease_spoils_the_whole_commit,
            rebalancing: without_acknowledgement_the_deadline_fences,
            rebalancing: only_partitions_that_move_are_revoked,
            rebalancing: what_a_departed_member_held_goes_to_who_stays,
            transactions: outputs_and_positions_move_together,
            transactions: an_aborted_transaction_leaves_nothing_and_comes_again,
            transactions: a_transaction_leaves_a_hole_that_readers_pass,
            transactions: what_was_not_committed_is_done_again_once,
            transactions: a_transaction_spans_topics_and_partitions,
            transactions: a_committed_transaction_survives_reopening,
            transactions: a_later_transactor_fences_the_earlier,
        );
    };
    (@ $make:expr, $($area:ident: $rule:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $rule() {
                if let Some(harness) = ($make)() {
                    $crate::contract::$area::$rule(&harness).await;
                }
            }
        )*
    };
}

/// A name nobody used before.
fn fresh(what: &str) -> String {
    format!("contract-{what}-{}", Uuid::new_v4().simple())
}

/// Makes a topic nobody used before.
async fn fresh_topic(log: &Log, what: &str, partitions: u32) -> String {
    let name = fresh(what);
    log.ensure_topics(&[spec(&name, partitions)]).await.unwrap();
    name
}

fn spec(name: &str, partitions: u32) -> TopicSpec {
    let retention = Retention::Delete { age: None, bytes: None };
    TopicSpec { name: name.into(), partitions, replication: None, retention }
}

fn record(key: impl Into<String>, value: impl Into<String>) -> Record {
    let (key, value): (String, String) = (key.into(), value.into());
    Record { key: Some(key.into()), value: Some(value.into()), ..Record::default() }
}

fn text(record: &Record) -> String {
    String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned()
}

fn texts(records: &[Stored]) -> Vec<String> {
    records.iter().map(|stored| text(&stored.record)).collect()
}

/// A key for each partition, by trying.
fn key_for(partition: u32, partitions: u32) -> String {
    let mut keys = (0..).map(|i| format!("key-{i}"));
    keys.find(|key| crate::partition_for(key.as_bytes(), partitions) == partition).unwrap()
}

/// Appends one by one and expects each to be stored.
async fn append_all(log: &Log, topic: &str, records: impl IntoIterator<Item = Record>) {
    for record in records {
        patient(log.append(topic, vec![record])).await.remove(0).unwrap();
    }
}

/// Everything of a partition.
async fn read_all(log: &Log, topic: &str, partition: u32) -> Vec<Stored> {
    let bounds = log.bounds(topic, partition).await.unwrap();
    let mut reader = log.read(topic, partition, bounds.start, bounds.end).await.unwrap();
    let mut all = Vec::new();
    while let Some((records, _)) = patient(reader.next()).await.unwrap() {
        all.extend(records);
    }
    all
}

/// Waits, but not for ever.
async fn patient<T>(future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("nothing came within {PATIENCE:?}"),
    }
}

/// Subscription and transactor alike.
#[async_trait]
trait Receive: Send {
    async fn receive(&mut self) -> Result<Delivery, LogError>;

    async fn delivery(&mut self) -> Delivery {
        patient(self.receive()).await.unwrap()
    }

    /// The next delivery, which must be an assignment.
    async fn assigned(&mut self) -> Assigned {
        match self.delivery().await {
            Delivery::Assigned(assigned) => assigned,
            other => panic!("expected an assignment, got {other:?}"),
        }
    }

    /// The next delivery, which must be a revocation.
    async fn revoked(&mut self) -> Revocation {
        match self.delivery().await {
            Delivery::Revoked(revocation) => revocation,
            other => panic!("expected a revocation, got {other:?}"),
        }
    }

    /// The next delivery with records.
    async fn batch(&mut self) -> Batch {
        loop {
            match self.delivery().await {
                Delivery::Batch(batch) if batch.records.is_empty() => {}
                Delivery::Batch(batch) => return batch,
                other => panic!("expected records, got {other:?}"),
            }
        }
    }

    /// Reads so many records, resuming assignments and acknowledging revocations; also the lease
    /// and position of each partition after them.
    async fn records(&mut self, count: usize) -> (Vec<Stored>, Vec<(Lease, Position)>) {
        let (mut all, mut positions) = (Vec::new(), Vec::<(Lease, Position)>::new());
        while all.len() < count {
            match self.delivery().await {
                Delivery::Assigned(assigned) => assigned.resume(),
                Delivery::Revoked(revocation) => {
                    positions.retain(|(lease, _)| !revocation.leases.contains(lease));
                    revocation.acknowledge();
                }
                Delivery::Batch(batch) => {
                    all.extend(batch.records);
                    positions.retain(|(lease, _)| *lease != batch.lease);
                    positions.push((batch.lease, batch.next));
                }
                Delivery::Gap(gap) => panic!("unexpected {gap:?}"),
            }
        }
        (all, positions)
    }

    /// Nothing but empty batches comes within a moment.
    async fn expect_silence(&mut self) {
        let moment = Duration::from_millis(300);
        let until = tokio::time::Instant::now() + moment;
        loop {
            match tokio::time::timeout_at(until, self.receive()).await {
                Err(_) => return,
                Ok(Ok(Delivery::Batch(batch))) if batch.records.is_empty() => {}
                Ok(other) => panic!("expected nothing, got {other:?}"),
            }
        }
    }
}

#[async_trait]
impl Receive for Subscription {
    async fn receive(&mut self) -> Result<Delivery, LogError> {
        self.next().await
    }
}

#[async_trait]
impl Receive for Transactor {
    async fn receive(&mut self) -> Result<Delivery, LogError> {
        self.next().await
    }
}

/// A transactor of a group on one topic.
async fn transactor(log: &Log, group: &str, topic: &str, id: &str) -> Transactor {
    let subscription = log.subscribe(group, &[topic]).await.unwrap();
    subscription.into_transactional(id).await.unwrap()
}

/// The records, bound for a topic.
fn to(topic: &str, records: &[Stored]) -> Vec<(Arc<str>, Record)> {
    records.iter().map(|stored| (Arc::from(topic), stored.record.clone())).collect()
}
