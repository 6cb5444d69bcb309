//! What a store counts. Labels are names of calls and errors, never values.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// The metrics of a store that is spoken to over a network; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Seconds that each request took until it was answered, well or not, by kind; its count is
    /// the number of requests.
    pub request_seconds: Family<CallLabels, Histogram, fn() -> Histogram>,
    /// Requests that failed, by kind and error.
    pub errors: Family<ErrorLabels, Counter>,
    /// Requests that were made again.
    pub retries: Family<CallLabels, Counter>,
    /// Requests under way.
    pub in_flight: Gauge,
    /// How many requests may be under way: it follows the latency of the store.
    pub in_flight_limit: Gauge,
    /// Rows that were not written because they were past their retention already.
    pub expired: Counter,
}

/// Label of [`Metrics::request_seconds`] and [`Metrics::retries`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CallLabels {
    /// What was asked for.
    pub call: &'static str,
}

/// Label of [`Metrics::errors`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ErrorLabels {
    /// What was asked for.
    pub call: &'static str,
    /// What went wrong.
    pub error: &'static str,
}

fn seconds() -> Histogram {
    Histogram::new([0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0])
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            request_seconds: Family::new_with_constructor(seconds),
            errors: Family::default(),
            retries: Family::default(),
            in_flight: Gauge::default(),
            in_flight_limit: Gauge::default(),
            expired: Counter::default(),
        }
    }
}

impl Metrics {
    /// Makes the metrics and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let m = &metrics;
        let r = registry;
        r.register_with_unit(
            "penstock_store_request",
            "Time until a request was answered",
            Unit::Seconds,
            m.request_seconds.clone(),
        );
        r.register("penstock_store_errors", "Requests that failed", m.errors.clone());
        r.register("penstock_store_retries", "Requests made again", m.retries.clone());
        r.register("penstock_store_in_flight", "Requests under way", m.in_flight.clone());
        r.register(
            "penstock_store_in_flight_limit",
            "Requests that may be under way",
            m.in_flight_limit.clone(),
        );
        r.register(
            "penstock_store_expired_rows",
            "Rows past their retention before they were written",
            m.expired.clone(),
        );
        metrics
    }

    pub(super) fn answered(&self, call: &'static str, took: Duration) {
        self.request_seconds.get_or_create(&CallLabels { call }).observe(took.as_secs_f64());
    }

    pub(super) fn failed(&self, call: &'static str, error: &'static str) {
        self.errors.get_or_create(&ErrorLabels { call, error }).inc();
    }

    pub(super) fn retried(&self, call: &'static str) {
        self.retries.get_or_create(&CallLabels { call }).inc();
    }
}
