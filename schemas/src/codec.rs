//! Between an event and the record that travels.

use std::sync::Arc;

use bytes::Bytes;
use eventlog::Record;
use serde::de::IgnoredAny;

use crate::{
    Data, Event, Fault, Lookup, Registry, RegistryError,
    binding::{self, Form},
    json,
    lookup::Latest,
};

/// What happens to an event whose type has no schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unknown {
    /// It is taken, its data as it came.
    #[default]
    Accept,
    /// It is refused.
    Reject,
}

/// What happens to a field that the schema of its type does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownFields {
    /// The event is refused.
    #[default]
    Reject,
    /// It is left out.
    Drop,
}

/// What to [`Codec::learn`] before an event or a record is given up: another replica may have
/// registered it a moment ago.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// The schema with an id.
    Id(u32),
    /// The latest schema of a type.
    Type {
        /// The tenant.
        namespace: Arc<str>,
        /// The event type.
        kind: String,
    },
}

impl Wanted {
    /// What an event's encoding stands on.
    pub fn of(event: &Event) -> Self {
        Self::Type { namespace: event.namespace.clone(), kind: event.kind.clone() }
    }
}

/// Why an event has no record, by what the caller can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// It does not fit what is known of its type, for at least one reason: learn that type once
    /// and try again before refusing it.
    Unfit(Vec<Fault>),
    /// Which schema its type has is not known: learn that type and try again. It is neither taken nor
    /// refused on a guess.
    Unresolved,
}

/// Why a record is no event, by what the caller can do.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecodeError {
    /// Nothing is known of the schema with this id: learn it once and try again before
    /// giving up.
    #[error("no schema has the id {0}")]
    UnknownSchema(u32),
    /// No reader will make an event of it.
    #[error("{0}")]
    Malformed(String),
}

/// Encodes and decodes events; clones share what is known of schemas.
#[derive(Clone)]
pub struct Codec {
    lookup: Lookup,
    unknown: Unknown,
    unknown_fields: UnknownFields,
}

impl Codec {
    /// A codec over a registry.
    pub fn new(lookup: impl Into<Lookup>, unknown: Unknown) -> Self {
        Self { lookup: lookup.into(), unknown, unknown_fields: UnknownFields::Reject }
    }

    /// The same, with another answer to fields that a schema does not know.
    #[must_use]
    pub fn with_unknown_fields(self, unknown_fields: UnknownFields) -> Self {
        Self { unknown_fields, ..self }
    }

    /// Where it looks schemas up.
    pub fn lookup(&self) -> &Lookup {
        &self.lookup
    }

    /// Penstock's own registry, if that is where it looks.
    pub fn registry(&self) -> Option<&Registry> {
        match &self.lookup {
            Lookup::Own(registry) => Some(registry),
            Lookup::External(_) => None,
        }
    }

    /// Asks the registry as it is now.
    pub async fn learn(&self, wanted: &[Wanted]) -> Result<(), RegistryError> {
        self.lookup.learn(wanted).await
    }

    /// Checks an event's data against the latest schema of its type and makes its record. The
    /// key is `subject`, or `id` without one.
    pub fn encode(&self, event: &Event) -> Result<Record, EncodeError> {
        match self.lookup.latest(&event.namespace, &event.kind) {
            Latest::Is(schema) => {
                let datum = schema.encode(&event.data, self.unknown_fields);
                Ok(binding::to_record(event, Some(datum.map_err(EncodeError::Unfit)?)))
            }
            Latest::Unresolved => Err(EncodeError::Unresolved),
            Latest::None if self.unknown == Unknown::Reject => {
                let detail = "its type has no schema, and the configuration asks for one";
                Err(EncodeError::Unfit(vec![Fault::at("unknown_type", "type", detail)]))
            }
            Latest::None => Ok(binding::to_record(event, None)),
        }
    }

    /// Makes the event of a record.
    pub fn decode(&self, record: &Record) -> Result<Event, DecodeError> {
        let (mut event, form) = binding::from_record(record)?;
        event.data = match (&record.value, form) {
            (None, _) => Data::None,
            (Some(value), Form::Bytes) => Data::Bytes(value.clone()),
            (Some(value), Form::Json) => Data::Json(checked(value)?),
            (Some(value), Form::Avro) => self.decode_avro(value)?,
        };
        Ok(event)
    }

    fn decode_avro(&self, value: &[u8]) -> Result<Data, DecodeError> {
        let malformed =
            || DecodeError::Malformed("the value is not Avro in Confluent framing".into());
        let ([0, id @ ..], datum) = value.split_first_chunk::<5>().ok_or_else(malformed)? else {
            return Err(malformed());
        };
        let id = u32::from_be_bytes(*id);
        let schema = self.lookup.by_id(id).ok_or(DecodeError::UnknownSchema(id))?;
        schema.decode(datum)
    }
}

/// Anyone may have written the record, so that it is JSON must be seen, not believed.
fn checked(value: &Bytes) -> Result<Bytes, DecodeError> {
    let malformed = |detail: String| DecodeError::Malformed(detail);
    let text =
        std::str::from_utf8(value).map_err(|_| malformed("the value is not UTF-8".into()))?;
    serde_json::from_str::<IgnoredAny>(text)
        .map_err(|e| malformed(format!("the value is not JSON: {e}")))?;
    json::check_skimmed(text).map_err(|unfit| malformed(unfit.detail().into()))?;
    Ok(value.clone())
}

#[cfg(test)]
pub(crate) mod tests;
