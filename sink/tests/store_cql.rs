//! The contract of the store on a real CQL cluster.
//!
//! `PENSTOCK_TEST_CQL` names the nodes. Without it the tests are skipped, and on CI they fail.

#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "store_cql/cluster.rs"]
mod cluster;

mod contract {
    use crate::cluster::Shared;

    sink::store_contract!(if Shared::given());
}
