//! What unit tests of this crate share.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use prometheus_client::registry::Registry;
use schemas::{Data, Event, Timestamp};
use service::health::Health;

use crate::{
    metrics::Metrics,
    retry::{Patient, Status},
    store::{
        Definition, EventRow, EventsPage, EventsQuery, Flush, FoldMark, Identity, Measure, Origin,
        PartitionState, RollupKey, RollupQuery, RollupRow, StoreDriver, StoreError, TopicEpoch,
        VersionId,
    },
};

/// An event of type `flight.departed` at time 0.
pub(crate) fn event(id: &str) -> Event {
    Event {
        namespace: "default".into(),
        id: id.into(),
        source: "/test".into(),
        kind: "flight.departed".into(),
        subject: None,
        time: Timestamp { micros: 0, text: "1970-01-01T00:00:00Z".into() },
        time_filled: false,
        data_content_type: Some("application/json".into()),
        data_schema: None,
        extensions: BTreeMap::new(),
        data: Data::None,
    }
}

/// A flight of a carrier with a delay.
pub(crate) fn flight(id: &str, time: i64, carrier: &str, delay: f64) -> Event {
    let data = serde_json::json!({ "carrier": carrier, "dep_delay": delay }).to_string();
    Event {
        time: Timestamp { micros: time, text: format!("{time} us") },
        data: Data::Json(Bytes::from(data)),
        ..event(id)
    }
}

/// Delays of flights by carrier and hour.
pub(crate) fn definition() -> Definition {
    let delay = Measure { field: "data.dep_delay".into(), of: vec!["sum".into()] };
    Definition {
        name: "departures".into(),
        kind: Some("flight.departed".into()),
        windows: vec![3_600_000_000],
        group_by: [("carrier".to_owned(), "data.carrier".to_owned())].into(),
        measures: [("delay".to_owned(), delay)].into(),
    }
}

/// A handle on a store that is never reached, and the health it reports to.
pub(crate) fn patient() -> (Patient, Health) {
    let health = Health::default();
    let part = health.part("sink");
    part.ready();
    let metrics = Metrics::register(&mut Registry::default());
    (Patient { store: Arc::new(NoStore), metrics, status: Status::new(part) }, health)
}

struct NoStore;

fn unreached<T>() -> Result<T, StoreError> {
    Err(StoreError::Fatal("this test has no store".into()))
}

#[async_trait]
impl StoreDriver for NoStore {
    async fn epoch(&self, _: &str) -> Result<Option<TopicEpoch>, StoreError> {
        unreached()
    }
    async fn begin_epoch(
        &self,
        _: &str,
        _: Option<u32>,
        _: TopicEpoch,
    ) -> Result<TopicEpoch, StoreError> {
        unreached()
    }
    async fn partition(&self, _: &str, _: u32, _: u32) -> Result<PartitionState, StoreError> {
        unreached()
    }
    async fn locate(&self, _: &[Identity]) -> Result<Vec<Option<Origin>>, StoreError> {
        unreached()
    }
    async fn rollup_rows(&self, _: &[RollupKey]) -> Result<Vec<Option<RollupRow>>, StoreError> {
        unreached()
    }
    async fn write(&self, _: Arc<Flush>) -> Result<(), StoreError> {
        unreached()
    }
    async fn register(&self, _: &Definition) -> Result<(), StoreError> {
        unreached()
    }
    async fn definitions(&self) -> Result<Vec<Definition>, StoreError> {
        unreached()
    }
    async fn marks(
        &self,
        _: &str,
        _: u32,
        _: VersionId,
    ) -> Result<Vec<(u32, FoldMark)>, StoreError> {
        unreached()
    }
    async fn events(&self, _: &EventsQuery) -> Result<EventsPage, StoreError> {
        unreached()
    }
    async fn event(&self, _: &Identity) -> Result<Option<EventRow>, StoreError> {
        unreached()
    }
    async fn rollup_scan(
        &self,
        _: &RollupQuery,
        _: Option<&RollupKey>,
        _: usize,
    ) -> Result<Vec<RollupRow>, StoreError> {
        unreached()
    }
    async fn expire(&self, _: i64) -> Result<bool, StoreError> {
        unreached()
    }
}
