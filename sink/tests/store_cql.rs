//! The contract of the store on a real CQL cluster, and what only that store promises.
//!
//! `PENSTOCK_TEST_CQL` names the nodes. Without it the tests are skipped, and on CI they fail.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "store_cql/ageing.rs"]
mod ageing;
#[path = "store_cql/away.rs"]
mod away;
#[path = "store_cql/cluster.rs"]
mod cluster;
#[path = "store_cql/opening.rs"]
mod opening;
#[path = "store_cql/reading.rs"]
mod reading;
#[path = "store_cql/sample.rs"]
mod sample;

mod contract {
    use crate::cluster::Shared;

    sink::store_contract!(if Shared::given());
}
