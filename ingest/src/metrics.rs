//! What the door counts. Labels come from fixed sets of words, but for the names of keys and the
//! types of events, of which [`Keyed`] lets in a bounded number.

mod keyed;

use std::time::Duration;

use axum::http::StatusCode;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use self::keyed::Keyed;
use crate::answer::{EventError, Outcome};

/// The counters of the door; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Requests answered, by status.
    pub requests: Family<Status, Counter>,
    /// Events of parsed requests, each in exactly one outcome.
    pub events: Family<EventOutcome, Counter>,
    /// Events by the key that posted them, their type and their outcome.
    keyed: Keyed,
    /// Bytes of bodies that were read to their end, as sent.
    pub body_bytes: Counter,
    /// Bytes of bodies and records that requests hold now.
    pub in_flight_bytes: Gauge,
    /// From the head of a request to its answer.
    pub request_seconds: Histogram,
    /// From the append of a request's records until all are durable or failed.
    pub append_seconds: Histogram,
}

/// Label: the status of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Status {
    /// Such as 202.
    pub status: u32,
}

/// Labels: what became of an event.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EventOutcome {
    /// `accepted`, `rejected`, `unavailable` or `withheld`.
    pub outcome: &'static str,
    /// The first fault's code; empty when there is none.
    pub code: &'static str,
}

impl Metrics {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        // 0.5 ms to 65 s, doubling: an append takes milliseconds, a request may take its timeout.
        let histogram = || Histogram::new(exponential_buckets(0.0005, 2.0, 18));
        let metrics = Self {
            requests: Family::default(),
            events: Family::default(),
            keyed: Keyed::default(),
            body_bytes: Counter::default(),
            in_flight_bytes: Gauge::default(),
            request_seconds: histogram(),
            append_seconds: histogram(),
        };
        let registry = registry.sub_registry_with_prefix("penstock_ingest");
        registry.register("requests", "Requests answered, by status", metrics.requests.clone());
        registry.register(
            "events",
            "Events of parsed requests, by outcome and by the code of the first fault",
            metrics.events.clone(),
        );
        registry.register(
            "key_events",
            "Events of parsed requests, by key, type (of at most 64 for each key) and outcome",
            metrics.keyed.family(),
        );
        registry.register_with_unit(
            "body",
            "Bodies that were read to their end, as sent",
            Unit::Bytes,
            metrics.body_bytes.clone(),
        );
        registry.register_with_unit(
            "in_flight",
            "Bodies and records that requests hold now",
            Unit::Bytes,
            metrics.in_flight_bytes.clone(),
        );
        registry.register_with_unit(
            "request_duration",
            "From the head of a request to its answer",
            Unit::Seconds,
            metrics.request_seconds.clone(),
        );
        registry.register_with_unit(
            "append_duration",
            "From the append of a request's records until all are durable or failed",
            Unit::Seconds,
            metrics.append_seconds.clone(),
        );
        metrics
    }

    /// Counts an answer.
    pub fn answered(&self, status: StatusCode, took: Duration) {
        let status = Status { status: u32::from(status.as_u16()) };
        self.requests.get_or_create(&status).inc();
        self.request_seconds.observe(took.as_secs_f64());
    }

    /// Counts what became of the events of a request that this key posted.
    pub fn decided(&self, key: &str, outcome: &Outcome) {
        self.keyed.count(key, &outcome.tally);
        self.count("accepted", "", outcome.accepted);
        self.count("withheld", "", outcome.withheld);
        self.count_errors("rejected", &outcome.rejected);
        self.count_errors("unavailable", &outcome.unavailable);
    }

    fn count(&self, outcome: &'static str, code: &'static str, events: usize) {
        if events > 0 {
            self.events.get_or_create(&EventOutcome { outcome, code }).inc_by(events as u64);
        }
    }

    fn count_errors(&self, outcome: &'static str, errors: &[EventError]) {
        for error in errors {
            self.count(outcome, error.fault.code, 1);
        }
    }
}
