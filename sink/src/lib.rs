//! The sink and the query: what persists events and rollups, and what reads them back.
//!
//! The claim of the sink: *the state of the store at position N is a function of the log up to N*.
//! Read in the order of a record's way:
//!
//! 1. [`Sink`] holds one subscription and one task for each partition (`run`); what an
//!    assignment means is in `assignment`, which life of the log it is in `epoch`.
//! 2. A partition's task (`partition`) takes records through `decode` (is it poison?), `dedup`
//!    with its `window` (is it new?) and `fold` (what does it add to which rollup?) into a buffer.
//! 3. A `flight` writes the buffer, dead letters first, and the position goes to the `board`, from
//!    where it is committed.
//! 4. `backfold` folds again what a rollup has not seen, and `retry` waits for a store that does
//!    not answer.
//!
//! [`store`] is the seam to the database; [`query`] reads from it and nothing else. Each is a process of
//! its own by [`run`] (`penstock-sink`) and [`query::run`] (`penstock-query`).

mod assignment;
mod backfold;
mod board;
mod decode;
mod dedup;
mod definitions;
mod epoch;
mod error;
mod flight;
mod fold;
mod group;
mod metrics;
mod partition;
pub mod query;
mod retry;
mod run;
mod server;
pub mod store;
#[cfg(test)]
mod testing;
mod window;

pub use definitions::{TYPES, definitions};
pub use error::SinkError;
pub use metrics::{Metrics, Outcome, OutcomeLabels, PartitionLabels};
pub use run::Sink;
pub use server::{Server, attend_store, group_name, open_store, run, spawn};
