//! Definitions, rollup rows and marks.

use super::{Harness, NOON, World, mark};
use crate::store::{
    Aggregate, Definition, Flush, MAX_GROUP_BYTES, Measure, RollupKey, RollupQuery, RollupRow,
    VersionId,
};

const HOUR: i64 = 3_600_000_000;

/// A row of partition 0 in epoch 1, one that has folded every offset up to its last.
pub(super) fn row(world: &World, start: i64, group: &str, last_offset: u64) -> RollupRow {
    let mut measure = Aggregate::default();
    measure.add(0.5);
    measure.add(-(last_offset as f64));
    RollupRow {
        key: RollupKey {
            namespace: world.namespace.clone(),
            rollup: "r".into(),
            version: VersionId(u64::MAX),
            window: HOUR,
            start,
            group: group.into(),
            epoch: 1,
            partition: 0,
        },
        count: last_offset + 1,
        measures: vec![measure],
        last_offset,
    }
}

fn scan(world: &World) -> RollupQuery {
    RollupQuery {
        namespace: world.namespace.clone(),
        rollup: "r".into(),
        version: VersionId(u64::MAX),
        window: HOUR,
        from: i64::MIN,
        to: i64::MAX,
    }
}

async fn store_rows(world: &World, rows: &[RollupRow]) {
    let mut parts: Vec<(u32, u32)> =
        rows.iter().map(|row| (row.key.epoch, row.key.partition)).collect();
    parts.sort_unstable();
    parts.dedup();
    for (epoch, partition) in parts {
        let rollups: Vec<_> = rows
            .iter()
            .rev()
            .filter(|row| (row.key.epoch, row.key.partition) == (epoch, partition))
            .cloned()
            .collect();
        let end = rollups.iter().map(|row| row.last_offset + 1).max().unwrap_or(0);
        world.write(Flush { epoch, partition, rollups, ..world.flush(end) }).await;
    }
}

fn definition(name: &str, field: &str) -> Definition {
    Definition {
        name: name.into(),
        kind: Some("t".into()),
        windows: vec![0, HOUR],
        group_by: [("a".into(), "data.a".into())].into(),
        measures: [("m".into(), Measure { field: field.into(), of: vec!["sum".into()] })].into(),
    }
}

pub async fn definitions_keep_the_order_of_their_first_registration(harness: &impl Harness) {
    let world = World::new(harness).await;
    let name = |suffix: &str| format!("{}-{suffix}", world.topic);
    let wanted = [
        definition(&name("z"), "data.x"),
        definition(&name("a"), "data.x"),
        definition(&name("z"), "data.y"),
    ];
    for again in [&wanted[..], &wanted[1..], &wanted[..1]] {
        for definition in again {
            world.store.register(definition).await.unwrap();
        }
    }
    let mut known = world.store.definitions().await.unwrap();
    known.retain(|definition| definition.name.starts_with(&*world.topic));
    assert_eq!(known, wanted);
}

pub async fn rollup_rows_come_back_in_the_order_asked(harness: &impl Harness) {
    let world = World::new(harness).await;
    let rows =
        [row(&world, 0, "[\"b\"]", 1), row(&world, 0, "[\"a\"]", 2), row(&world, HOUR, "[]", 3)];
    store_rows(&world, &rows).await;
    let mut absent = rows[0].key.clone();
    absent.partition = 1;
    let asked = [&rows[1].key, &absent, &rows[2].key, &rows[0].key, &rows[1].key].map(Clone::clone);
    let [b, a, later] = rows.map(Some);
    let found = world.store.rollup_rows(&asked).await;
    assert_eq!(found, Ok(vec![a.clone(), None, later, b, a]));
    assert_eq!(world.store.rollup_rows(&[]).await, Ok(vec![]));
}

pub async fn a_rollup_row_is_replaced_by_a_later_one(harness: &impl Harness) {
    let world = World::new(harness).await;
    let (first, second) = (row(&world, 0, "[1]", 4), row(&world, 0, "[1]", 9));
    store_rows(&world, &[first]).await;
    store_rows(&world, std::slice::from_ref(&second)).await;
    let found = world.store.rollup_scan(&scan(&world), None, 10).await;
    assert_eq!(found, Ok(vec![second]));
}

pub async fn a_row_without_numbers_keeps_its_infinities(harness: &impl Harness) {
    let world = World::new(harness).await;
    let mut stored = row(&world, -HOUR, "[null]", u64::MAX >> 1);
    stored.count = u64::MAX >> 1;
    stored.measures.push(Aggregate::default());
    stored.measures.push(Aggregate { count: 1, sum: 0.1, min: 1e300, max: -1e-300 });
    store_rows(&world, std::slice::from_ref(&stored)).await;
    let found = world.store.rollup_rows(std::slice::from_ref(&stored.key)).await;
    assert_eq!(found, Ok(vec![Some(stored)]));
}

/// Rows of every start, group, epoch and partition, in the order of a scan.
async fn grid(world: &World) -> Vec<RollupRow> {
    world.store.begin_epoch(&world.topic, Some(1), world.epoch(2)).await.unwrap();
    let mut rows = Vec::new();
    for start in [-HOUR, 0, NOON, NOON + HOUR] {
        for group in ["[\"a\"]", "[\"a\",1]", "[\"b\"]"] {
            for epoch in [1, 2] {
                for partition in [0, 1, 300] {
                    let mut row = row(world, start, group, rows.len() as u64);
                    row.key.epoch = epoch;
                    row.key.partition = partition;
                    rows.push(row);
                }
            }
        }
    }
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    store_rows(world, &rows).await;
    rows
}

pub async fn a_scan_is_ordered_by_start_group_epoch_and_partition(harness: &impl Harness) {
    let world = World::new(harness).await;
    let rows = grid(&world).await;
    assert_eq!(world.store.rollup_scan(&scan(&world), None, 1000).await, Ok(rows));
}

pub async fn a_scan_goes_on_strictly_after_a_key(harness: &impl Harness) {
    let world = World::new(harness).await;
    let rows = grid(&world).await;
    for limit in [1, 7, rows.len()] {
        let mut seen: Vec<RollupRow> = Vec::new();
        loop {
            let after = seen.last().map(|row| row.key.clone());
            let page = world.store.rollup_scan(&scan(&world), after.as_ref(), limit).await.unwrap();
            let end = page.len() < limit;
            assert!(page.len() <= limit);
            seen.extend(page);
            assert!(seen.len() <= rows.len(), "a page moves on");
            if end {
                break;
            }
        }
        assert_eq!(seen, rows, "by {limit}");
    }
}

pub async fn a_scan_holds_one_window_length_version_and_range(harness: &impl Harness) {
    let world = World::new(harness).await;
    let wanted = [row(&world, HOUR, "[]", 1), row(&world, 2 * HOUR, "[]", 2)];
    let mut rows = wanted.to_vec();
    rows.push(row(&world, 0, "[]", 3));
    rows.push(row(&world, 3 * HOUR, "[]", 4));
    for change in [
        |key: &mut RollupKey| key.window = 0,
        |key: &mut RollupKey| key.version = VersionId(0),
        |key: &mut RollupKey| key.rollup = "rr".into(),
        |key: &mut RollupKey| key.namespace = format!("{}x", key.namespace).into(),
    ] {
        let mut row = row(&world, HOUR, "[]", 5);
        change(&mut row.key);
        rows.push(row);
    }
    store_rows(&world, &rows).await;
    let query = RollupQuery { from: HOUR, to: 3 * HOUR, ..scan(&world) };
    assert_eq!(world.store.rollup_scan(&query, None, 100).await, Ok(wanted.to_vec()));
    let inverted = RollupQuery { from: 3 * HOUR, to: HOUR, ..query.clone() };
    assert_eq!(world.store.rollup_scan(&inverted, None, 100).await, Ok(vec![]));
    // A key before the range does not widen it, and one behind it leaves nothing.
    let (before, behind) = (&rows[2].key, &rows[3].key);
    assert_eq!(world.store.rollup_scan(&query, Some(before), 100).await, Ok(wanted.to_vec()));
    assert_eq!(world.store.rollup_scan(&query, Some(behind), 100).await, Ok(vec![]));
}

pub async fn marks_come_from_every_partition_of_the_epoch(harness: &impl Harness) {
    let world = World::new(harness).await;
    world.store.begin_epoch(&world.topic, Some(1), world.epoch(2)).await.unwrap();
    for (epoch, partition, to) in [(1, 0, 10), (1, 2, 12), (2, 0, 20)] {
        let marks = vec![mark(1, 0, to), mark(2, 1, to)];
        world.write(Flush { epoch, partition, marks, ..world.flush(to) }).await;
    }
    let mut marks = world.store.marks(&world.topic, 1, VersionId(1)).await.unwrap();
    marks.sort_by_key(|(partition, _)| *partition);
    assert_eq!(marks, [(0, mark(1, 0, 10)), (2, mark(1, 0, 12))]);
    let mut both = world.store.partition(&world.topic, 1, 2).await.unwrap().marks;
    both.sort_by_key(|mark| mark.version);
    assert_eq!(both, [mark(1, 0, 12), mark(2, 1, 12)]);
}

pub async fn the_longest_group_is_held(harness: &impl Harness) {
    let world = World::new(harness).await;
    let stored = row(&world, 0, &"\u{1}".repeat(MAX_GROUP_BYTES), 0);
    store_rows(&world, std::slice::from_ref(&stored)).await;
    assert_eq!(world.store.rollup_scan(&scan(&world), None, 10).await, Ok(vec![stored]));
}
