//! The event: CloudEvents 1.0, with the tenant it belongs to.

use std::sync::Arc;

use bytes::Bytes;

use crate::Extensions;

/// Bytes that each of `type`, `source`, `id` and `subject` may have: the keys of logs and stores are made
/// of them (64 KiB is the most that a key of Cassandra or of the embedded engine can have).
pub const MAX_ATTRIBUTE_BYTES: usize = 8 * 1024;

/// One event. Its identity, everywhere, is (`namespace`, `source`, `id`).
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The tenant; given by the door from the API key, never by the body.
    pub namespace: Arc<str>,
    /// CloudEvents `id`.
    pub id: String,
    /// CloudEvents `source`, a URI reference.
    pub source: String,
    /// CloudEvents `type`.
    pub kind: String,
    /// CloudEvents `subject`: what order is kept by.
    pub subject: Option<String>,
    /// CloudEvents `time`.
    pub time: Timestamp,
    /// The door filled `time` in, so a retry may carry another one.
    pub time_filled: bool,
    /// CloudEvents `datacontenttype`; `None` means JSON in the structured forms.
    pub data_content_type: Option<String>,
    /// CloudEvents `dataschema`.
    pub data_schema: Option<String>,
    /// Extension attributes.
    pub extensions: Extensions,
    /// The payload.
    pub data: Data,
}

/// An instant as the producer wrote it, and as everyone computes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timestamp {
    /// Microseconds since the Unix epoch, rounded down.
    pub micros: i64,
    /// The RFC 3339 text it came as.
    pub text: String,
}

/// The payload of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// There is none.
    None,
    /// One JSON text, known to be well-formed UTF-8 JSON.
    Json(Bytes),
    /// Any other bytes; `data_content_type` says what they are.
    Bytes(Bytes),
}

impl Data {
    /// Its bytes.
    pub fn size(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Json(data) | Self::Bytes(data) => data.len(),
        }
    }
}
