//! The sink and the query: what persists events and rollups, and what reads them back.

pub mod query;
pub mod store;
