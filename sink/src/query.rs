//! The query service: what is in the store, over HTTP.
//!
//! It reads and never writes, and it knows no database: everything comes through the store seam.
//! The way of a request: `params` refuses what it does not know, `time` and `cursor` make
//! a range and a place to continue of it, `events` or `rollups` read a bounded page, and this page
//! gives it a slot, a deadline and a count.
//!
//! The invariants: a page is bounded in rows, bytes and time, whatever is asked and stored; a
//! cursor only ever says *where to go on* in the query that made it, never *what may be read*;
//! and a rollup is answered from a version that holds every stored event, or not at all.

mod accept;
mod cursor;
mod events;
mod failure;
mod metrics;
mod page;
mod params;
mod rollups;
mod routes;
mod scan;
mod server;
mod serving;
mod shapes;
mod slots;
mod time;
mod window;

use std::{ops::Deref, sync::Arc, time::Duration};

use axum::{
    http::{HeaderMap, HeaderValue, Uri, header},
    response::{IntoResponse, Response},
};
use failure::Failure;
pub use metrics::Metrics;
use params::Params;
pub use routes::router;
pub use server::{Server, routes_of, run};
use service::auth::{Caller, Scope};
use slots::Slots;
use tokio::time::Instant;

use crate::store::Store;

/// What the query service stands on.
pub struct Query {
    /// Where everything is read from.
    pub store: Store,
    /// The topic that the sink reads: rollups are judged complete by its partitions.
    pub topic: Arc<str>,
    /// How many partitions that topic has.
    pub partitions: u32,
    /// What is counted.
    pub metrics: Metrics,
    /// Microseconds since the Unix epoch; what `now` means in a time.
    pub clock: fn() -> i64,
    limits: Limits,
    slots: Slots,
}

/// The bounds of a request and of all of them together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// When a request is answered with a problem instead. Default 10 s.
    pub deadline: Duration,
    /// When a page that found something is closed early, with `next`. Default 2 s.
    pub page_time: Duration,
    /// When a page is closed early for its size, with `next`. Default 8 MiB.
    pub page_bytes: usize,
    /// Requests that read the store at once, of one key three quarters of it; one more is told to come back.
    /// Default 64.
    pub concurrent: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(10),
            page_time: Duration::from_secs(2),
            page_bytes: 8 * 1024 * 1024,
            concurrent: 64,
        }
    }
}

impl Query {
    /// Reads `store`, as filled from the clean topic of `partitions` partitions.
    pub fn new(store: Store, partitions: u32, metrics: Metrics) -> Self {
        let limits = Limits::default();
        Self {
            store,
            topic: schemas::topics::CLEAN.into(),
            partitions,
            metrics,
            clock: || chrono::Utc::now().timestamp_micros(),
            limits,
            slots: Slots::new(limits.concurrent),
        }
    }

    /// The same with other bounds.
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, slots: Slots::new(limits.concurrent), ..self }
    }
}

/// The query service as one tenant sees it.
struct Tenant<'a> {
    query: &'a Query,
    /// The tenant whose data is read.
    namespace: &'a Arc<str>,
}

impl Deref for Tenant<'_> {
    type Target = Query;

    fn deref(&self) -> &Query {
        self.query
    }
}
/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Events,
    Event,
    Types,
    Rollups,
    Rollup,
}

impl Route {
    fn label(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Event => "event",
            Self::Types => "types",
            Self::Rollups => "rollups",
            Self::Rollup => "rollup",
        }
    }
}

/// A finished body, and how many rows are in it.
struct Answer {
    json: Vec<u8>,
    rows: usize,
}

async fn answer(
    query: &Query,
    route: Route,
    caller: &Caller,
    uri: &Uri,
    headers: &HeaderMap,
) -> Response {
    let started = Instant::now();
    let response = match bounded(query, route, caller, uri, headers, started).await {
        Ok(answer) => {
            query.metrics.served(route.label(), answer.rows);
            json(answer.json)
        }
        Err(failure) => failure.into_response(),
    };
    query.metrics.answered(route.label(), response.status(), started.elapsed());
    response
}

async fn bounded(
    query: &Query,
    route: Route,
    caller: &Caller,
    uri: &Uri,
    headers: &HeaderMap,
    started: Instant,
) -> Result<Answer, Failure> {
    caller.require(Scope::Read)?;
    accept::json(headers)?;
    let params = Params::parse(uri.query())?;
    let _slot = query.slots.take(caller).ok_or_else(Failure::busy)?;
    let page = Page { closes: started + query.limits.page_time, bytes: query.limits.page_bytes };
    let tenant = &Tenant { query, namespace: &caller.namespace };
    let reading = async {
        match route {
            Route::Events => events::list(tenant, params, page).await,
            Route::Event => events::one(tenant, params).await,
            Route::Types => rollups::types(tenant, params, page).await,
            Route::Rollups => rollups::definitions(tenant, params).await,
            Route::Rollup => rollups::rows(tenant, uri.path(), params, page).await,
        }
    };
    tokio::time::timeout_at(started + query.limits.deadline, reading)
        .await
        .unwrap_or_else(|_| Err(Failure::deadline(query.limits.deadline)))
}

/// When a page is closed before it has all the rows asked for.
#[derive(Clone, Copy, Debug)]
struct Page {
    closes: Instant,
    bytes: usize,
}

impl Page {
    fn is_over(&self, bytes: usize) -> bool {
        bytes >= self.bytes || Instant::now() >= self.closes
    }
}

fn json(body: Vec<u8>) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
