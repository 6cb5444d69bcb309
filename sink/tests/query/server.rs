//! The real query service on a free port, and what is written to its store.

use std::{collections::BTreeMap, sync::Arc};

use eventlog::Position;
use prometheus_client::registry::Registry;
use schemas::{Data, Event, Timestamp};
use serde_json::Value;
use service::{
    auth::{Caller, Gate, Scope},
    http::HttpOptions,
};
use sink::{
    query::{Limits, Metrics, Query, router},
    store::{
        embedded::{Embedded, EmbeddedOptions},
        *,
    },
};
use tokio_util::sync::{CancellationToken, DropGuard};

pub const TOPIC: &str = "events.clean";
pub const PARTITIONS: u32 = 3;
pub const HOUR: i64 = 3_600_000_000;
/// What `now` is in these tests: 2026-01-01T00:30:00Z.
pub const NOW: i64 = 1_767_227_400_000_000;

/// A store, and the folder it is in for as long as somebody uses it.
#[derive(Clone)]
pub struct Kept {
    store: Store,
    _folder: Option<Arc<tempfile::TempDir>>,
}

impl From<Store> for Kept {
    fn from(store: Store) -> Self {
        Self { store, _folder: None }
    }
}

impl std::ops::Deref for Kept {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

/// An empty embedded store.
pub async fn embedded() -> Kept {
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(folder.path(), EmbeddedOptions::default()).await.unwrap();
    Kept { store: Arc::new(store), _folder: Some(Arc::new(folder)) }
}

pub struct Server {
    pub url: String,
    pub registry: Arc<Registry>,
    client: reqwest::Client,
    _store: Kept,
    _stop: DropGuard,
}

pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    /// The code of a problem, which must be one.
    pub fn code(&self) -> String {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{}", self.text);
        let problem = self.json();
        assert_eq!(problem["status"], self.status);
        problem["code"].as_str().unwrap().to_owned()
    }
}

impl Server {
    pub async fn start(store: impl Into<Kept>) -> Self {
        Self::start_with(store, Limits::default()).await
    }

    pub async fn start_with(store: impl Into<Kept>, limits: Limits) -> Self {
        Self::start_query(store.into(), "default", limits, || NOW).await
    }

    pub async fn start_at(store: Kept, clock: fn() -> i64) -> Self {
        Self::start_query(store, "default", Limits::default(), clock).await
    }

    pub async fn start_for(store: Kept, namespace: &str) -> Self {
        Self::start_query(store, namespace, Limits::default(), || NOW).await
    }

    /// For whoever the gate lets in.
    pub async fn start_behind(store: Kept, gate: Gate) -> Self {
        Self::start_gated(store, gate, Limits::default(), || NOW).await
    }

    async fn start_query(store: Kept, namespace: &str, limits: Limits, clock: fn() -> i64) -> Self {
        let gate = Gate::open_to(Caller::new("reader", namespace, [Scope::Read]));
        Self::start_gated(store, gate, limits, clock).await
    }

    async fn start_gated(store: Kept, gate: Gate, limits: Limits, clock: fn() -> i64) -> Self {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let mut query = Query::new(store.store.clone(), PARTITIONS, metrics).with_limits(limits);
        query.clock = clock;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let serving = service::http::serve(
            listener,
            router(Arc::new(query)),
            HttpOptions { gate, ..HttpOptions::default() },
            stop.clone(),
        );
        tokio::spawn(serving);
        Self {
            url,
            registry: Arc::new(registry),
            client: reqwest::Client::new(),
            _store: store,
            _stop: stop.drop_guard(),
        }
    }

    pub async fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.text().await.unwrap(),
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[]).await
    }

    /// The JSON of a path that must answer 200.
    pub async fn json(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.json()
    }

    /// All pages of a list, by following `next`. The path must have a query string.
    pub async fn pages(&self, path: &str, list: &str) -> Vec<Vec<Value>> {
        let mut pages = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.json(&format!("{path}{cursor}")).await;
            pages.push(page[list].as_array().unwrap().clone());
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return pages,
            }
            assert!(pages.len() < 10_000, "paging does not end");
        }
    }
}

/// Percent-encodes everything that is not plainly a letter or digit.
pub fn encode(text: &str) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric();
    text.bytes()
        .map(|b| if plain(&b) { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

pub fn event(kind: &str, source: &str, id: &str, micros: i64) -> Event {
    Event {
        namespace: "default".into(),
        id: id.into(),
        source: source.into(),
        kind: kind.into(),
        subject: None,
        time: Timestamp::from_micros(micros),
        time_filled: false,
        data_content_type: None,
        data_schema: None,
        extensions: BTreeMap::new(),
        data: Data::Json(r#"{"n":1}"#.into()),
    }
}

/// Writes events as one partition's flush would.
pub async fn put_events(store: &Store, events: Vec<Event>) {
    begin(store).await;
    let rows = events.into_iter().enumerate().map(|(offset, event)| EventRow {
        event,
        appended_at: NOW,
        origin: Origin { epoch: 1, partition: 0, offset: offset as u64 },
    });
    let events: Vec<EventRow> = rows.collect();
    let stored_to = events.len() as Position;
    let flush = Flush { events, ..flush(0, stored_to) };
    store.write(Arc::new(flush)).await.unwrap();
}

pub async fn begin(store: &Store) {
    let epoch = TopicEpoch { epoch: 1, started_at: NOW - HOUR, incarnation: None };
    store.begin_epoch(TOPIC, None, epoch).await.unwrap();
}

pub fn flush(partition: u32, stored_to: Position) -> Flush {
    Flush {
        topic: TOPIC.into(),
        epoch: 1,
        partition,
        events: Vec::new(),
        rollups: Vec::new(),
        marks: Vec::new(),
        stored_to,
    }
}

pub fn mark(definition: &Definition, to: Position, complete: bool) -> FoldMark {
    FoldMark { version: definition.version(), from: 0, to, complete }
}

/// Departures by carrier and gate, per hour and day.
pub fn departures() -> Definition {
    let of = ["sum", "min", "max", "avg"].map(str::to_owned).to_vec();
    Definition {
        name: "departures".into(),
        kind: Some("flight.departed".into()),
        windows: vec![HOUR, 24 * HOUR],
        group_by: [("carrier", "data.carrier"), ("gate", "data.gate")]
            .map(|(alias, path)| (alias.to_owned(), path.to_owned()))
            .into(),
        measures: [("delay".to_owned(), Measure { field: "data.dep_delay".into(), of })].into(),
    }
}

pub fn types() -> Definition {
    let of = ["min", "max"].map(str::to_owned).to_vec();
    Definition {
        name: "_types".into(),
        kind: None,
        windows: vec![0],
        group_by: [("type".to_owned(), "type".to_owned())].into(),
        measures: [("time".to_owned(), Measure { field: "time".into(), of })].into(),
    }
}

/// What one partition has folded of one window and group.
pub fn row(
    definition: &Definition,
    window: i64,
    start: i64,
    group: &str,
    partition: u32,
    count: u64,
    numbers: &[f64],
) -> RollupRow {
    let mut aggregate = Aggregate::default();
    numbers.iter().for_each(|number| aggregate.add(*number));
    RollupRow {
        key: RollupKey {
            namespace: "default".into(),
            rollup: definition.name.clone(),
            version: definition.version(),
            window,
            start,
            group: group.into(),
            epoch: 1,
            partition,
        },
        count,
        measures: vec![aggregate],
        last_offset: 0,
    }
}

/// Writes rollup rows, each in its partition's flush, with complete marks.
pub async fn put_rollups(store: &Store, definition: &Definition, rows: Vec<RollupRow>) {
    begin(store).await;
    store.register(definition).await.unwrap();
    for partition in 0..PARTITIONS {
        let rollups = rows.iter().filter(|row| row.key.partition == partition).cloned().collect();
        let flush =
            Flush { rollups, marks: vec![mark(definition, 10, true)], ..flush(partition, 10) };
        store.write(Arc::new(flush)).await.unwrap();
    }
}
