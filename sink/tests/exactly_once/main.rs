//! Every event appears once and counts once, whatever is repeated, restarted, late or broken.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod backend;
mod duplicates;
mod faults;
mod histories;
mod holes;
mod model;
mod stalls;
mod world;

/// Whether the store ages rows by the clock that the tests give it.
const AGES_BY_OUR_CLOCK: bool = true;
