//! Every event appears once and counts once, whatever is repeated, restarted, late or broken.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod duplicates;
mod faults;
mod histories;
mod holes;
mod model;
mod world;
