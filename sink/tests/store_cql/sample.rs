//! Rows for the tests.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use schemas::{Data, Event, Timestamp};
use sink::store::{
    Aggregate, EventRow, EventsQuery, Flush, Order, Origin, RollupKey, RollupRow, Selector, Store,
    TopicEpoch, VersionId,
};

pub const SECOND: i64 = 1_000_000;
pub const HOUR: i64 = 3_600 * SECOND;

pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_micros()).unwrap()
}

/// Names of its own on a store, and an epoch that began a minute ago.
pub struct Tenant {
    pub store: Store,
    pub name: Arc<str>,
    pub began: i64,
}

impl Tenant {
    pub async fn on(store: Store) -> Self {
        let name: Arc<str> = format!("t-{}", uuid::Uuid::new_v4().simple()).into();
        let began = now() - 60 * SECOND;
        let epoch = TopicEpoch { epoch: 1, started_at: began, incarnation: None };
        store.begin_epoch(&name, None, epoch).await.unwrap();
        Self { store, name, began }
    }

    /// An event of type `t` and subject `sub`, stored by the record at an offset a minute ago.
    pub fn event(&self, offset: u64, time: i64) -> EventRow {
        EventRow {
            event: Event {
                namespace: self.name.clone(),
                id: format!("{offset:06}"),
                source: "s".into(),
                kind: "t".into(),
                subject: Some("sub".into()),
                time: Timestamp::from_micros(time),
                time_filled: false,
                data_content_type: None,
                data_schema: None,
                extensions: BTreeMap::new(),
                data: Data::Json(Bytes::from_static(b"{}")),
            },
            appended_at: self.began + offset as i64,
            origin: Origin { epoch: 1, partition: 0, offset },
        }
    }

    pub fn rollup(&self, start: i64, partition: u32, last_offset: u64) -> RollupRow {
        RollupRow {
            key: RollupKey {
                namespace: self.name.clone(),
                rollup: "r".into(),
                version: VersionId(7),
                window: HOUR,
                start,
                group: "[]".into(),
                epoch: 1,
                partition,
            },
            count: 1,
            measures: vec![Aggregate::default()],
            last_offset,
        }
    }

    pub fn flush(&self, partition: u32, stored_to: u64) -> Flush {
        Flush {
            topic: self.name.clone(),
            epoch: 1,
            partition,
            events: Vec::new(),
            rollups: Vec::new(),
            marks: Vec::new(),
            stored_to,
        }
    }

    pub async fn store_events(&self, events: Vec<EventRow>) {
        let end = events.len() as u64;
        self.store.write(Arc::new(Flush { events, ..self.flush(0, end) })).await.unwrap();
    }

    pub fn list(&self, selector: Selector, order: Order, limit: usize) -> EventsQuery {
        EventsQuery {
            namespace: self.name.clone(),
            selector,
            source: None,
            from: i64::MIN,
            to: i64::MAX,
            order,
            after: None,
            limit,
        }
    }

    /// Ids of a query through all its pages, and how many pages.
    pub async fn ids(&self, mut query: EventsQuery) -> (Vec<String>, usize) {
        let (mut ids, mut pages) = (Vec::new(), 0);
        loop {
            let page = self.store.events(&query).await.unwrap();
            pages += 1;
            assert!(page.rows.len() <= query.limit);
            ids.extend(page.rows.into_iter().map(|row| row.event.id));
            query.after = page.next;
            if query.after.is_none() {
                return (ids, pages);
            }
        }
    }
}
