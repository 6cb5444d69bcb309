//! What the query service counts.

use std::time::Duration;

use axum::http::StatusCode;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

/// The metrics of the query service; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Requests answered, by route (`events`, `event`, `types`, `rollups`, `rollup`) and status.
    pub requests: Family<RequestLabels, Counter>,
    /// Seconds from the request's head to the finished answer, by route.
    pub duration: Family<RouteLabels, Histogram>,
    /// Events, groups or definitions in answers, by route.
    pub rows: Family<RouteLabels, Counter>,
}

/// Labels of [`Metrics::requests`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// The route.
    pub route: &'static str,
    /// The HTTP status.
    pub status: u16,
}

/// Labels of what is counted by route alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RouteLabels {
    /// The route.
    pub route: &'static str,
}

impl Metrics {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            duration: Family::new_with_constructor(|| {
                // 0.5 ms to 16 s: from one row in memory to past the deadline.
                Histogram::new(exponential_buckets(0.0005, 2.0, 16))
            }),
            rows: Family::default(),
        };
        registry.register(
            "penstock_query_requests",
            "Queries answered, by route and status",
            metrics.requests.clone(),
        );
        registry.register(
            "penstock_query_duration_seconds",
            "Time to answer a query, by route",
            metrics.duration.clone(),
        );
        registry.register(
            "penstock_query_rows",
            "Rows in answers to queries, by route",
            metrics.rows.clone(),
        );
        metrics
    }

    pub(super) fn answered(&self, route: &'static str, status: StatusCode, took: Duration) {
        self.requests.get_or_create(&RequestLabels { route, status: status.as_u16() }).inc();
        self.duration.get_or_create(&RouteLabels { route }).observe(took.as_secs_f64());
    }

    pub(super) fn served(&self, route: &'static str, rows: usize) {
        self.rows.get_or_create(&RouteLabels { route }).inc_by(rows as u64);
    }
}
