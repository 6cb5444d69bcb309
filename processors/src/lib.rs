//! Processors: the transform steps, and the chains they are put into.

mod chain;
mod step;
mod steps;
#[cfg(test)]
mod testing;

pub use chain::{Chain, Decision, Outcome, StepError, Tally};
pub use step::{Context, Events, Reason, Step, Verdict};
