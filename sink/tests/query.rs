//! The query service over real HTTP: what is in the store comes back whole, in order, once; and
//! what cannot be answered is refused with what to do.

#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "query/memory.rs"]
mod memory;
#[path = "query/server.rs"]
mod server;

#[path = "query/callers.rs"]
mod callers;
#[path = "query/events.rs"]
mod events;
#[path = "query/manners.rs"]
mod manners;
#[path = "query/openapi.rs"]
mod openapi;
#[path = "query/rollups.rs"]
mod rollups;
