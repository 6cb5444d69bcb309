//! The tests of `exactly_once`, on a real CQL cluster.
//!
//! `PENSTOCK_TEST_CQL` names the nodes; without it they are skipped, and on CI they fail.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod backend;
#[path = "../store_cql/cluster.rs"]
mod cluster;
#[path = "../exactly_once/duplicates.rs"]
mod duplicates;
#[path = "../exactly_once/faults.rs"]
mod faults;
#[path = "../exactly_once/histories.rs"]
mod histories;
#[path = "../exactly_once/holes.rs"]
mod holes;
#[path = "../exactly_once/model.rs"]
mod model;
#[path = "../exactly_once/stalls.rs"]
mod stalls;
#[path = "../exactly_once/world.rs"]
mod world;

/// Whether the store ages rows by the clock that the tests give it.
const AGES_BY_OUR_CLOCK: bool = false;
