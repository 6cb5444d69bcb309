//! The door as a function: from a request's head and body to its answer.

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body};
use eventlog::Record;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use http_body_util::BodyExt;
use ingest::{Ingest, Metrics};
use prometheus_client::metrics::gauge::Gauge;
use schemas::Codec;
use serde_json::Value;
use service::{auth::Caller, config::IngestConfig};
use tokio::runtime::Runtime;
use tower::ServiceExt;

use crate::{Memory, assert_reads_back, codec, head};

/// Bytes that a body may have, once decompressed, and that all may have together.
#[derive(Clone, Copy)]
pub struct Limits {
    /// `ingest.max_decompressed_bytes`
    pub decompressed: usize,
    /// `ingest.max_in_flight_bytes`
    pub in_flight: usize,
}

/// A door.
pub struct Door {
    runtime: Runtime,
    router: Router,
    log: Memory,
    codec: Codec,
    in_flight: Gauge,
}

/// What it said.
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body.
    pub json: Value,
    /// What it appended.
    pub records: Vec<Record>,
}

impl Door {
    /// A door with these limits.
    pub fn new(limits: Limits) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .max_blocking_threads(1)
            .build()
            .expect("a runtime can be made");
        let log = Memory::default();
        let codec = runtime.block_on(codec(&log));
        let metrics = Metrics::register(&mut Default::default());
        let in_flight = metrics.in_flight_bytes.clone();
        let config = IngestConfig {
            max_decompressed_bytes: limits.decompressed,
            max_in_flight_bytes: limits.in_flight,
            max_event_bytes: 16 * 1024,
            max_batch_events: 50,
            timeout: Duration::from_secs(60),
            ..IngestConfig::default()
        };
        let ingest = Ingest { config, log: log.handle(), codec: codec.clone(), metrics };
        let (router, _) = ingest::router(Arc::new(ingest)).split_for_parts();
        Self { runtime, router, log, codec, in_flight }
    }

    /// Posts, and insists on what is true of every answer.
    pub fn post(&self, headers: HeaderMap, body: &[u8]) -> Answer {
        let mut request = Request::post("/v1/events")
            .extension(Caller::anyone())
            .body(Body::from(body.to_vec()))
            .expect("the path is good");
        *request.headers_mut() = headers;
        let (status, text) = self.runtime.block_on(async {
            let Ok(response) = self.router.clone().oneshot(request).await;
            let status = response.status().as_u16();
            (status, response.into_body().collect().await.expect("it is in memory").to_bytes())
        });
        let json = serde_json::from_slice(&text).expect("every answer is JSON");
        let answer = Answer { status, json, records: self.log.take() };
        self.check(&answer);
        answer
    }

    fn check(&self, answer: &Answer) {
        let Answer { status, json, records } = answer;
        assert!(matches!(status, 202 | 207 | 400 | 413 | 415 | 422 | 503), "{status} {json}");
        assert_eq!(self.in_flight.get(), 0, "bytes are still charged after the answer");
        let number = |name: &str| json[name].as_u64().unwrap_or(0) as usize;
        assert_eq!(number("accepted"), records.len(), "{json}");
        if let Some(errors) = json["errors"].as_array() {
            let pointed = |error: &Value| {
                error["pointer"].as_str().is_some_and(|at| at.is_empty() || at.starts_with('/'))
            };
            assert!(errors.iter().all(pointed), "{json}");
            assert_eq!(errors.len(), number("rejected"), "{json}");
        }
        for record in records {
            let event = self.codec.decode(record).expect("what was accepted can be read");
            assert_reads_back(&event);
        }
    }
}

/// Reads the head of a request and the body behind it; `None` where that is no head.
pub fn message(text: &[u8]) -> Option<(HeaderMap, &[u8])> {
    let mut headers = HeaderMap::new();
    let body = head(text, |name, value| {
        let name = HeaderName::from_bytes(name).ok()?;
        let value = HeaderValue::from_bytes(value.trim_ascii()).ok()?;
        headers.try_append(name, value).ok().map(drop)
    })?;
    Some((headers, body))
}
