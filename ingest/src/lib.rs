//! The door of Penstock: `POST /v1/events`, and the schemas that it checks events against:
//! [`registry`].
//!
//! # The way of a request
//!
//! ```text
//! form      what the head says: form of the body, encoding, preference
//! body      read within its limit and the byte budget of all requests
//! decode    its encodings undone, within another limit and the same budget
//! parse     split into the texts of single events, or refused as a whole
//! check     each text becomes a record, or faults with a place
//! handler   one append of all records; the answer waits for it
//! answer    which status and which body that makes
//! ```
//!
//! The modules in the middle are pure functions; input and output happen in `handler` and `body`.
//! [`run`] is the whole service as a process of its own, `penstock-ingest`.
//!
//! # What must stay true
//!
//! * Nothing is appended before the whole body was read, parsed and checked, and nothing is
//!   acknowledged before the append has answered.
//! * Every event of a parsed body has exactly one outcome: accepted, rejected, unavailable or
//!   (in a strict request that failed) withheld; [`Metrics`] counts them.
//! * What a request holds in memory is charged to one budget until the log has let go of it;
//!   when the budget is spent, requests are turned away at once instead of waiting in line.
//! * Each error has its status in one place: [`refusal`] for a whole request, [`answer`] for the
//!   outcomes of events.

mod answer;
mod body;
mod budget;
mod check;
mod decode;
mod finish;
mod form;
mod handler;
mod ids;
mod metrics;
mod parse;
mod refusal;
mod registry;
mod server;
mod tally;

use std::sync::Arc;

use eventlog::Log;
use schemas::Codec;
use service::config::IngestConfig;
use utoipa_axum::{router::OpenApiRouter, routes};

pub use metrics::Metrics;
pub use registry::router as registry_router;
pub use server::{Server, door_of, run};

/// What the door needs.
pub struct Ingest {
    /// Its limits.
    pub config: IngestConfig,
    /// Where events go; the topic [`schemas::topics::RAW`] exists.
    pub log: Log,
    /// Validates and encodes them.
    pub codec: Codec,
    /// Counts them.
    pub metrics: Metrics,
}

/// The route `POST /v1/events`. One router is one byte budget.
pub fn router(ingest: Arc<Ingest>) -> OpenApiRouter {
    let door = Arc::new(handler::Door::new(ingest));
    OpenApiRouter::new().routes(routes!(handler::post_events)).with_state(door)
}
