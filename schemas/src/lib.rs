//! Schemas as contracts: the event model, its codec and the schema registry.
//!
//! Read in the order of an event's way:
//!
//! 1. [`event_from_json`] checks one structured CloudEvents JSON text and makes an [`Event`],
//!    [`event_from_binary`] does so with headers and a body; what is wrong comes back as [`Fault`]s, each with a JSON pointer.
//! 2. [`Codec::encode`] checks the event's data against the latest schema of its type and makes
//!    the record that travels: CloudEvents' Kafka binding, binary mode, Avro in Confluent framing.
//! 3. [`Codec::decode`] takes such a record back; [`identity_of`] reads only who it is.
//! 4. [`Fields`] and [`Extractor`] look into an event by [`Path`].
//! 5. [`dead_letter`] wraps what nobody could take.
//! 6. A service gets all of this, with the log, from [`Backbone::open`].
//!
//! Schemas live in the [`Registry`], a fold over one topic of the log, or in an [`External`] one of
//! another system; [`Lookup`] is either.
//!
//! Avro is spoken here and nowhere else; nobody outside sees a schema's tree or a datum. No text of
//! this crate that can reach a log or an answer holds a value of an event.

mod avro;
pub mod backbone;
mod binding;
pub mod bundled;
mod calendar;
mod codec;
mod dead_letter;
mod event;
pub mod extension;
mod external;
mod fault;
mod fields;
mod framed;
pub mod infer;
mod json;
mod lookup;
mod registry;
pub mod shapes;
mod structured;
#[cfg(test)]
mod test_log;
mod time;

// Fuzzers look at the codec of data alone.
#[cfg(fuzzing)]
pub use avro::Avro;
pub use backbone::Backbone;
pub use binding::{NAMESPACE_HEADER, TIME_FILLED_HEADER, identity_of};
pub use codec::{Codec, DecodeError, EncodeError, Unknown, UnknownFields, Wanted};
pub use dead_letter::dead_letter;
pub use event::{Data, Event, MAX_ATTRIBUTE_BYTES, Timestamp};
pub use extension::{Extension, Extensions};
pub use external::{External, Settings as ExternalSettings};
pub use fault::Fault;
pub use fields::{Extractor, Fields, Path, Scalar};
pub use lookup::Lookup;
pub use registry::{
    Against, Clash, Denied, Draft, Level, Mode, Reference, RegisterError, Registered, Registry,
    RegistryError, Show, State, VersionName, View,
};
pub use structured::{Defaults, Filled, event_from_binary, event_from_json, event_to_json};
pub use time::TimeError;

/// The tenant of everything, until there are API keys.
pub const DEFAULT_NAMESPACE: &str = "default";

/// The topics that every deployment has.
pub mod topics {
    /// What the door accepted.
    pub const RAW: &str = "events.raw";
    /// What the processors made of it, and the sink stores.
    pub const CLEAN: &str = "events.clean";
    /// What a processor or the sink could not take, with its original bytes.
    pub const DEAD_LETTERS: &str = "events.dlq";
    /// The schema registry's own topic: one partition, compacted.
    pub const SCHEMAS: &str = "penstock.schemas";
}
