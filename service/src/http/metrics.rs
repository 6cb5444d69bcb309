//! What is counted of a listener.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::auth;

/// Counts of one listener; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Answers by status code.
    answers: Family<Status, Counter>,
    /// Seconds from a request's head to its answer's head.
    seconds: Arc<Histogram>,
    /// Connections open now.
    pub(super) connections: Gauge,
    /// Connections answered with 503 at once because too many were open.
    pub(super) shed: Counter,
    /// Connections that did not get as far as TLS.
    pub(super) handshakes_failed: Counter,
    /// Of the gate.
    pub(crate) auth: auth::Metrics,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Status {
    status: u16,
}

impl Default for Metrics {
    fn default() -> Self {
        let bounds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
        Self {
            answers: Family::default(),
            seconds: Arc::new(Histogram::new(bounds)),
            connections: Gauge::default(),
            shed: Counter::default(),
            handshakes_failed: Counter::default(),
            auth: auth::Metrics::default(),
        }
    }
}

impl Metrics {
    /// Adds the counts of the public listener to a registry.
    pub fn register(registry: &mut Registry) -> Self {
        let this = Self { auth: auth::Metrics::register(registry), ..Self::default() };
        registry.register(
            "penstock_http_answers",
            "HTTP answers by status code",
            this.answers.clone(),
        );
        registry.register(
            "penstock_http_answer_seconds",
            "Time from a request's head to its answer's head",
            (*this.seconds).clone(),
        );
        registry.register(
            "penstock_http_connections",
            "HTTP connections open now",
            this.connections.clone(),
        );
        registry.register(
            "penstock_http_connections_shed",
            "HTTP connections answered with 503 because too many were open",
            this.shed.clone(),
        );
        registry.register(
            "penstock_http_tls_handshakes_failed",
            "Connections that ended before TLS was agreed on",
            this.handshakes_failed.clone(),
        );
        this
    }

    pub(super) fn answered(&self, status: StatusCode, took: Duration) {
        self.answers.get_or_create(&Status { status: status.as_u16() }).inc();
        self.seconds.observe(took.as_secs_f64());
    }
}
