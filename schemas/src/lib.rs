//! Schemas as contracts: the event model, its codec and the registry.

mod event;

pub use event::{Data, Event, Timestamp};
