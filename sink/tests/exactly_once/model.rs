//! What the store must hold, computed plainly from the log: the first record of each identity is
//! the event, and every event counts once.

use std::{collections::BTreeMap, fmt::Debug};

use schemas::{Event, topics};
use sink::store::{Definition, EventsQuery, Order, RollupQuery, Selector};

use crate::world::{HOUR, World, departures_definition};

/// Count, sum and maximum of the delays.
type Delays = (u64, i64, i64);

/// All that a reader could see.
#[derive(Debug, Default, PartialEq)]
pub struct Picture {
    /// Identity to time, data and the record that stored it.
    pub events: BTreeMap<(String, String), (i64, String, u32, u64)>,
    /// Window, start and group of `departures`, all partitions added up.
    pub departures: BTreeMap<(i64, i64, String), Delays>,
    /// Counts by type.
    pub types: BTreeMap<String, u64>,
}

impl Picture {
    /// Compares with what it must be, and shows no more than the first difference.
    #[track_caller]
    pub fn must_be(&self, expected: &Self, when: &str) {
        differs("events", &self.events, &expected.events, when);
        differs("types", &self.types, &expected.types, when);
        differs("departures", &self.departures, &expected.departures, when);
    }
}

#[track_caller]
fn differs<K: Ord + Debug, V: PartialEq + Debug>(
    what: &str,
    found: &BTreeMap<K, V>,
    expected: &BTreeMap<K, V>,
    when: &str,
) {
    let mut keys = expected.keys().chain(found.keys());
    if let Some(key) = keys.find(|key| found.get(key) != expected.get(key)) {
        let (found, expected) = (found.get(key), expected.get(key));
        panic!("{what} {key:?}: found {found:?}, expected {expected:?} ({when})");
    }
}

/// The picture that the log's records give.
pub async fn expected(world: &World) -> Picture {
    let mut picture = Picture::default();
    for (partition, stored) in world.records(topics::CLEAN).await {
        let Ok(event) = world.codec.decode(&stored.record) else { continue };
        let key = (event.source.clone(), event.id.clone());
        if picture.events.contains_key(&key) {
            continue;
        }
        picture.events.insert(key, shown(&event, partition, stored.offset));
        *picture.types.entry(format!("[\"{}\"]", event.kind)).or_default() += 1;
        let data: serde_json::Value = serde_json::from_str(&data(&event)).unwrap();
        let delay = data["dep_delay"].as_i64().unwrap();
        for window in [HOUR, 24 * HOUR] {
            let start = event.time.micros.div_euclid(window) * window;
            let group = format!("[{}]", data["carrier"]);
            let row = picture.departures.entry((window, start, group)).or_insert((0, 0, i64::MIN));
            *row = (row.0 + 1, row.1 + delay, row.2.max(delay));
        }
    }
    picture
}

/// The picture that the store gives. Of `departures` nothing, unless it is folded.
pub async fn found(world: &World) -> Picture {
    let mut picture = Picture::default();
    let query = EventsQuery {
        namespace: "default".into(),
        selector: Selector::Type("flight.departed".into()),
        source: None,
        from: i64::MIN,
        to: i64::MAX,
        order: Order::Asc,
        after: None,
        limit: 1_000_000,
    };
    let mut after = None;
    loop {
        let page = world
            .store
            .events(&EventsQuery { after: after.take(), ..query.clone() })
            .await
            .unwrap();
        for row in page.rows {
            let key = (row.event.source.clone(), row.event.id.clone());
            let row = shown(&row.event, row.origin.partition, row.origin.offset);
            assert!(picture.events.insert(key, row).is_none(), "an event is listed twice");
        }
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    for (key, count, delays) in rows(world, &departures_definition()).await {
        let row = picture.departures.entry(key).or_insert((0, 0, i64::MIN));
        *row = (row.0 + count, row.1 + delays.0, row.2.max(delays.1));
    }
    for (key, count, _) in rows(world, &sink::definitions(&[]).unwrap()[0]).await {
        *picture.types.entry(key.2).or_default() += count;
    }
    picture
}

async fn rows(
    world: &World,
    definition: &Definition,
) -> Vec<((i64, i64, String), u64, (i64, i64))> {
    let mut all = Vec::new();
    for &window in &definition.windows {
        let query = RollupQuery {
            namespace: "default".into(),
            rollup: definition.name.clone(),
            version: definition.version(),
            window,
            from: i64::MIN,
            to: i64::MAX,
        };
        for row in world.store.rollup_scan(&query, None, 1_000_000).await.unwrap() {
            let delay = row.measures[0];
            all.push((
                (window, row.key.start, row.key.group),
                row.count,
                (delay.sum as i64, delay.max as i64),
            ));
        }
    }
    all
}

fn shown(event: &Event, partition: u32, offset: u64) -> (i64, String, u32, u64) {
    (event.time.micros, data(event), partition, offset)
}

fn data(event: &Event) -> String {
    match &event.data {
        schemas::Data::Json(text) => String::from_utf8(text.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}
