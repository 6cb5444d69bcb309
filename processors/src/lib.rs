//! Processors: what happens to events between the door and the sink.
//!
//! # The way of an event
//!
//! ```text
//! events.raw   a batch of records is read                        runner
//!   decode     a record becomes an Event                         schemas::Codec
//!   steps      Event -> Emit(events) | Drop(reason) | Reject     chain, step, steps/*
//!   encode     each event becomes a record, checked against      schemas::Codec
//!              the schema of its type; it keeps the key that was read
//! events.clean the records and the position read up to are committed in one transaction
//! ```
//!
//! Every record that is read ends in exactly one counted outcome: *emitted* (as one event or
//! several), *dropped* (by a step, with a reason), or *dead-lettered*: its original key, value and
//! headers go to `events.dlq` with the step, the reason, a detail, and where it stood. A record is
//! all or nothing: if one of its events is rejected, or fits no schema, none goes out.
//!
//! # Where things are
//!
//! * [`Step`] is the one thing to implement for a new transformation; a built-in one is a file in
//!   `steps/` and a line in `steps.rs`. `remap` runs a program in the Vector Remap Language.
//! * [`Chain`] is the steps of one processor in order.
//! * [`Runner`] does all reading, writing, waiting and counting.
//! * [`run`] is processors as a process of their own, chosen by [`only`] for `penstock-processor` and by
//!   [`single`] for `penstock-remap`.
//!
//! # What must stay true
//!
//! * A step is pure: the same event gets the same verdict, always. An aborted transaction is made
//!   again from its input, and a retried event must yield the same children, under the same names,
//!   to be recognised as the same.
//! * Events keep the key of the record they came from, so that order holds and both copies of a
//!   retried event land on one partition. A program that gives events of different keys the same
//!   identity breaks that; re-keying is not the business of `remap`.
//! * A chain without steps copies records as they are: it never decodes them.
//! * What a step says of an event may quote it. It goes into the dead letter, never into a log line;
//!   only short reasons become metric labels, and of those only so many.

mod chain;
mod choose;
mod metrics;
mod runner;
mod server;
mod step;
mod steps;
#[cfg(test)]
mod testing;

use service::config::{DeliveryMode, ProcessorConfig};

pub use chain::{Chain, Decision, Outcome, StepError, Tally};
pub use choose::{Single, only, single};
pub use metrics::Metrics;
pub use runner::{Runner, group_name};
pub use server::{Planned, Server, plan, run, spawn, topics_of};
pub use step::{Context, Events, Reason, Step, Verdict};

/// The processors to run: those of the configuration, or, when it names none, `clean`, which
/// copies `events.raw` to `events.clean`, because the sink always reads the latter.
pub fn configured(processors: &[ProcessorConfig]) -> Vec<ProcessorConfig> {
    if !processors.is_empty() {
        return processors.to_vec();
    }
    vec![ProcessorConfig {
        name: "clean".into(),
        from: schemas::topics::RAW.into(),
        to: schemas::topics::CLEAN.into(),
        steps: Vec::new(),
        delivery: DeliveryMode::default(),
    }]
}
