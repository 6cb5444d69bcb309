//! Lists of events: their order, their bounds, and how they are continued.

use super::{Harness, NOON, World};
use crate::store::{EventKey, EventRow, EventsQuery, Order, Selector};

/// Rows with equal times, sources and ids in every combination, in ascending order.
fn crowd(world: &World) -> Vec<EventRow> {
    let mut rows = Vec::new();
    for time in [NOON - 1, NOON, NOON + 1] {
        for source in ["a", "b"] {
            for id in ["1", "10", "2"] {
                let mut row = world.event_at(&format!("{id}!{time}"), rows.len() as u64, time);
                row.event.source = source.into();
                row.event.subject = Some("sub".into());
                rows.push(row);
            }
        }
    }
    rows.sort_by_key(EventRow::key);
    rows
}

async fn store_shuffled(world: &World, rows: &[EventRow]) {
    let (odd, even): (Vec<_>, Vec<_>) =
        rows.iter().cloned().partition(|row| row.origin.offset % 2 == 1);
    world.store_events(odd.into_iter().rev().chain(even).collect()).await;
}

fn ascending(query: EventsQuery) -> EventsQuery {
    EventsQuery { order: Order::Asc, ..query }
}

pub async fn lists_follow_time_source_and_id_in_both_orders(harness: &impl Harness) {
    let world = World::new(harness).await;
    let mut expected = crowd(&world);
    store_shuffled(&world, &expected).await;
    assert_eq!(world.rows(&ascending(world.list())).await, expected);
    expected.reverse();
    assert_eq!(world.rows(&world.list()).await, expected);
}

pub async fn times_before_1970_sort_before_later_ones(harness: &impl Harness) {
    let world = World::new(harness).await;
    let times = [-62_000_000_000_000_000, -1_000_001, -1, 0, 1, NOON];
    let rows = times
        .into_iter()
        .zip(0..)
        .map(|(time, offset)| world.event_at(&format!("{time}"), offset, time))
        .collect();
    world.store_events(rows).await;
    let query = EventsQuery { from: times[0], to: NOON + 1, ..ascending(world.list()) };
    let listed: Vec<i64> =
        world.rows(&query).await.iter().map(|row| row.event.time.micros).collect();
    assert_eq!(listed, times);
    let query = EventsQuery { from: -1_000_001, to: 0, ..query };
    assert_eq!(world.ids(&query).await, ["-1000001", "-1"]);
}

pub async fn pages_give_every_row_once_in_both_orders(harness: &impl Harness) {
    let world = World::new(harness).await;
    let rows = crowd(&world);
    store_shuffled(&world, &rows).await;
    for selector in [Selector::Type("t".into()), Selector::Subject("sub".into())] {
        for limit in [1, 2, 5, rows.len(), rows.len() + 1] {
            let query = EventsQuery { limit, selector: selector.clone(), ..world.list() };
            let mut listed = world.rows(&query).await;
            listed.reverse();
            assert_eq!(listed, rows, "descending by {limit}");
            assert_eq!(world.rows(&ascending(query)).await, rows, "ascending by {limit}");
        }
    }
}

pub async fn a_range_includes_its_beginning_and_not_its_end(harness: &impl Harness) {
    let world = World::new(harness).await;
    let rows = (0..4).map(|n| world.event_at(&n.to_string(), n, NOON + n as i64)).collect();
    world.store_events(rows).await;
    let query = EventsQuery { from: NOON + 1, to: NOON + 3, ..world.list() };
    assert_eq!(world.ids(&query).await, ["2", "1"]);
    assert_eq!(world.ids(&ascending(query)).await, ["1", "2"]);
}

pub async fn an_empty_or_inverted_range_lists_nothing(harness: &impl Harness) {
    let world = World::new(harness).await;
    world.store_events(vec![world.event("a", 0)]).await;
    for (from, to) in [(NOON, NOON), (NOON + 1, NOON), (NOON + 1, NOON + 2), (NOON - 2, NOON)] {
        let query = EventsQuery { from, to, ..world.list() };
        assert_eq!(world.ids(&query).await, [""; 0], "{from}..{to}");
        assert_eq!(world.ids(&ascending(query)).await, [""; 0], "{from}..{to}");
    }
}

pub async fn a_cursor_need_not_be_the_key_of_a_row(harness: &impl Harness) {
    let world = World::new(harness).await;
    world.store_events(vec![world.event("a", 0), world.event("c", 1)]).await;
    let after = Some(EventKey { time: NOON, source: "s".into(), id: "b".into() });
    let query = EventsQuery { after, ..world.list() };
    assert_eq!(world.ids(&query).await, ["a"]);
    assert_eq!(world.ids(&ascending(query)).await, ["c"]);
}

pub async fn a_cursor_outside_the_range_adds_nothing_to_it(harness: &impl Harness) {
    let world = World::new(harness).await;
    let rows = (0..5).map(|n| world.event_at(&n.to_string(), n, NOON + n as i64)).collect();
    world.store_events(rows).await;
    let query = EventsQuery { from: NOON + 1, to: NOON + 4, ..world.list() };
    let after = |time: i64| Some(EventKey { time, source: "s".into(), id: "x".into() });
    let before_it = EventsQuery { after: after(NOON - 5), ..query.clone() };
    let behind_it = EventsQuery { after: after(NOON + 9), ..query };
    assert_eq!(world.ids(&before_it).await, [""; 0]);
    assert_eq!(world.ids(&ascending(before_it)).await, ["1", "2", "3"]);
    assert_eq!(world.ids(&behind_it).await, ["3", "2", "1"]);
    assert_eq!(world.ids(&ascending(behind_it)).await, [""; 0]);
}

pub async fn a_source_filter_finds_its_rows_across_pages(harness: &impl Harness) {
    let world = World::new(harness).await;
    let rows = (0..200)
        .map(|n| {
            let mut row = world.event_at(&format!("{n:03}"), n, NOON + n as i64 / 3);
            row.event.source = if n % 50 == 0 { "rare".into() } else { "common".into() };
            row.event.subject = Some("sub".into());
            row
        })
        .collect();
    world.store_events(rows).await;
    for selector in [Selector::Type("t".into()), Selector::Subject("sub".into())] {
        for limit in [1, 3, 100] {
            let source = Some("rare".to_owned());
            let query = EventsQuery { source, limit, selector: selector.clone(), ..world.list() };
            assert_eq!(world.ids(&query).await, ["150", "100", "050", "000"]);
            assert_eq!(world.ids(&ascending(query)).await, ["000", "050", "100", "150"]);
        }
    }
}

pub async fn a_list_by_subject_holds_every_type(harness: &impl Harness) {
    let world = World::new(harness).await;
    let mut rows = Vec::new();
    for (kind, subject) in
        [("t", Some("x")), ("u", Some("x")), ("t", Some("y")), ("t", None), ("t", Some("xx"))]
    {
        let offset = rows.len() as u64;
        let mut row = world.event(&offset.to_string(), offset);
        row.event.kind = kind.into();
        row.event.subject = subject.map(str::to_owned);
        rows.push(row);
    }
    world.store_events(rows.clone()).await;
    let query = EventsQuery { selector: Selector::Subject("x".into()), ..world.list() };
    assert_eq!(world.rows(&ascending(query)).await, rows[..2]);
    assert_eq!(world.ids(&ascending(world.list())).await, ["0", "2", "3", "4"]);
}

pub async fn a_list_of_a_type_never_seen_is_empty(harness: &impl Harness) {
    let world = World::new(harness).await;
    world.store_events(vec![world.event("a", 0)]).await;
    for selector in [Selector::Type("tt".into()), Selector::Type(String::new())] {
        let query = EventsQuery { selector, ..world.list() };
        assert_eq!(world.ids(&query).await, [""; 0]);
    }
}
