//! The contract of the store, as checks that every implementation must pass.
//!
//! An implementation gives a [`Harness`] and calls [`store_contract!`](crate::store_contract) in
//! a test module: each rule becomes a test of its own name. The checks take nothing for granted
//! but the seam: they use names of their own, so that they may run at once on one store that
//! already holds other data. How a store ages its data is its own matter and not checked here.

#![expect(
    clippy::unwrap_used,
    missing_docs,
    reason = "a suite of tests, whose names say what they check"
)]

mod identities;
mod lists;
mod rollups;
mod writes;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use bytes::Bytes;
use eventlog::Position;
use schemas::{Data, Event, Timestamp};

pub use self::{identities::*, lists::*, rollups::*, writes::*};
use super::{
    EventRow, EventsQuery, Flush, FoldMark, Identity, Order, Origin, RollupRow, Selector, Store,
    StoreError, TopicEpoch, VersionId,
};

/// What the checks need of an implementation.
#[async_trait]
pub trait Harness: Send + Sync {
    /// A store that can be written to.
    async fn open(&self) -> Store;
    /// The same data, opened again after every handle on it was let go.
    async fn reopen(&self, store: Store) -> Store;
}

/// Makes a test of every check of the store's contract, each with a harness of its own.
#[macro_export]
macro_rules! store_contract {
    // A harness that may be missing: each test is skipped then, which the harness has to say.
    (if $harness:expr) => {
        $crate::store_contract! { @all $harness }
    };
    (@all $harness:expr) => {
        $crate::store_contract! { @each $harness;
            a_topic_never_begun_has_no_epoch
            the_first_epoch_begins_once
            an_epoch_begins_only_after_the_one_it_names
            of_many_who_begin_an_epoch_at_once_all_learn_the_same
            a_partition_never_written_is_stored_to_nothing
            a_flush_is_there_whole_when_it_is_answered
            a_flush_written_again_changes_nothing
            a_flush_of_a_position_alone_moves_its_partition_on
            what_was_answered_is_there_after_reopening
            partitions_flushing_at_once_all_arrive
            the_stored_position_never_goes_back
            each_topic_epoch_and_partition_has_a_position_of_its_own
            a_mark_never_goes_back
            a_rollup_row_of_a_slow_former_owner_loses
            a_rollup_row_of_a_late_fold_loses_at_an_equal_position
            a_flush_of_an_older_epoch_leaves_a_newer_record_of_an_identity
            a_replay_gives_back_the_same_event
            an_event_comes_back_as_it_was_stored
            data_of_every_form_comes_back
            two_sources_with_one_id_at_one_time_are_two_events
            identities_of_any_text_are_kept_apart
            namespaces_do_not_see_each_other
            an_identity_never_stored_is_not_found
            identities_are_located_in_the_order_asked
            the_longest_attributes_are_held
            lists_follow_time_source_and_id_in_both_orders
            times_before_1970_sort_before_later_ones
            pages_give_every_row_once_in_both_orders
            a_range_includes_its_beginning_and_not_its_end
            an_empty_or_inverted_range_lists_nothing
            a_cursor_need_not_be_the_key_of_a_row
            a_cursor_outside_the_range_adds_nothing_to_it
            a_source_filter_finds_its_rows_across_pages
            a_list_by_subject_holds_every_type
            a_list_of_a_type_never_seen_is_empty
            definitions_keep_the_order_of_their_first_registration
            rollup_rows_come_back_in_the_order_asked
            a_rollup_row_is_replaced_by_a_later_one
            a_row_without_numbers_keeps_its_infinities
            a_scan_is_ordered_by_start_group_epoch_and_partition
            a_scan_goes_on_strictly_after_a_key
            a_scan_holds_one_window_length_version_and_range
            marks_come_from_every_partition_of_the_epoch
            the_longest_group_is_held
        }
    };
    (@each $harness:expr; $($check:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                if let Some(harness) = $harness {
                    $crate::store::contract::$check(&harness).await;
                }
            }
        )*
    };
    ($harness:expr) => {
        $crate::store_contract! { @all Some($harness) }
    };
}

/// When events of the checks happen, unless they say otherwise: 2026-01-01, in microseconds.
const NOON: i64 = 1_767_225_600_000_000;

/// A store, and names that no other check uses.
struct World {
    store: Store,
    namespace: Arc<str>,
    topic: Arc<str>,
    /// A recent append time, microseconds: a store may age rows by it.
    appended_at: i64,
}

impl World {
    async fn new(harness: &impl Harness) -> Self {
        Self::on(harness.open().await).await
    }

    async fn on(store: Store) -> Self {
        let own = uuid::Uuid::new_v4().simple().to_string();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
        let world = Self {
            store,
            namespace: format!("ns-{own}").into(),
            topic: format!("topic-{own}").into(),
            appended_at: i64::try_from(now).unwrap() - 60_000_000,
        };
        world.store.begin_epoch(&world.topic, None, world.epoch(1)).await.unwrap();
        world
    }

    fn epoch(&self, epoch: u32) -> TopicEpoch {
        let started_at = self.appended_at - 1_000_000 + i64::from(epoch) * 1_000;
        TopicEpoch { epoch, started_at, incarnation: None }
    }

    fn identity(&self, source: &str, id: &str) -> Identity {
        Identity { namespace: self.namespace.clone(), source: source.into(), id: id.into() }
    }

    /// An event of type `t` from source `s` at [`NOON`], stored by the record at an offset.
    fn event(&self, id: &str, offset: u64) -> EventRow {
        EventRow {
            event: Event {
                namespace: self.namespace.clone(),
                id: id.into(),
                source: "s".into(),
                kind: "t".into(),
                subject: None,
                time: Timestamp { micros: NOON, text: "2026-01-01T00:00:00Z".into() },
                time_filled: false,
                data_content_type: None,
                data_schema: None,
                extensions: BTreeMap::new(),
                data: Data::Json(Bytes::from(format!("{{\"id\":{offset}}}"))),
            },
            appended_at: self.appended_at + i64::try_from(offset).unwrap(),
            origin: Origin { epoch: 1, partition: 0, offset },
        }
    }

    fn event_at(&self, id: &str, offset: u64, micros: i64) -> EventRow {
        let mut row = self.event(id, offset);
        row.event.time.micros = micros;
        row
    }

    /// A flush of partition 0 in epoch 1 that reaches a position.
    fn flush(&self, stored_to: Position) -> Flush {
        Flush {
            topic: self.topic.clone(),
            epoch: 1,
            partition: 0,
            events: Vec::new(),
            rollups: Vec::new(),
            marks: Vec::new(),
            stored_to,
        }
    }

    async fn write(&self, flush: Flush) {
        self.store.write(Arc::new(flush)).await.unwrap();
    }

    /// Stores events as one flush, after everything before.
    async fn store_events(&self, events: Vec<EventRow>) {
        let end = events.iter().map(|row| row.origin.offset + 1).max().unwrap_or(0);
        self.write(Flush { events, ..self.flush(end) }).await;
    }

    /// All of type `t`, whenever, newest first, in one page.
    fn list(&self) -> EventsQuery {
        EventsQuery {
            namespace: self.namespace.clone(),
            selector: Selector::Type("t".into()),
            source: None,
            from: NOON - 1_000_000_000,
            to: NOON + 1_000_000_000,
            order: Order::Desc,
            after: None,
            limit: 1000,
        }
    }

    /// The rows of a query, through all its pages.
    async fn rows(&self, query: &EventsQuery) -> Vec<EventRow> {
        let mut query = query.clone();
        let mut rows = Vec::new();
        loop {
            let page = self.store.events(&query).await.unwrap();
            assert!(page.rows.len() <= query.limit, "a page holds at most its limit");
            rows.extend(page.rows);
            match page.next {
                None => return rows,
                Some(next) => {
                    assert_ne!(query.after.as_ref(), Some(&next), "a page moves on");
                    query.after = Some(next);
                }
            }
        }
    }

    async fn ids(&self, query: &EventsQuery) -> Vec<String> {
        self.rows(query).await.into_iter().map(|row| row.event.id).collect()
    }
}

fn mark(version: u64, from: Position, to: Position) -> FoldMark {
    FoldMark { version: VersionId(version), from, to, complete: true }
}

fn offsets(rows: &[Option<RollupRow>]) -> Vec<Option<u64>> {
    rows.iter().map(|row| row.as_ref().map(|row| row.last_offset)).collect()
}
