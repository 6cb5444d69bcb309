//! From records to events, or to the reason why a record is none.
//!
//! The verdict is pure: an id of a schema that is not known is read for up to the registry's end
//! before the record counts as poison, and a registry that does not answer is waited for.

use eventlog::{Record, Stored};
use schemas::{Codec, DecodeError, Event, RegistryError};

use crate::{SinkError, retry::Patient, store::holdable};

/// Why a record can never be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Poison {
    /// A stable word.
    pub(crate) reason: &'static str,
    /// A sentence, without any value of the event.
    pub(crate) detail: String,
}

/// Decodes records, in order.
pub(crate) async fn decode(
    codec: &Codec,
    patient: &Patient,
    records: &[Stored],
) -> Result<Vec<Result<Event, Poison>>, SinkError> {
    let mut refreshed = false;
    let mut decoded = Vec::with_capacity(records.len());
    for stored in records {
        let mut event = codec.decode(&stored.record);
        if matches!(event, Err(DecodeError::UnknownSchema(_))) && !refreshed {
            refresh(codec, patient).await?;
            refreshed = true;
            event = codec.decode(&stored.record);
        }
        decoded.push(judged(event, &stored.record));
    }
    Ok(decoded)
}

fn judged(decoded: Result<Event, DecodeError>, record: &Record) -> Result<Event, Poison> {
    match decoded {
        Ok(event) => match holdable(&event) {
            Ok(()) => Ok(event),
            Err(detail) => Err(Poison { reason: "too_large", detail }),
        },
        Err(error @ DecodeError::UnknownSchema(_)) => {
            Err(Poison { reason: "unknown_schema", detail: error.to_string() })
        }
        Err(DecodeError::Malformed(detail)) => {
            tracing::debug!(bytes = record.size(), "a record cannot be decoded");
            Err(Poison { reason: "malformed", detail })
        }
    }
}

async fn refresh(codec: &Codec, patient: &Patient) -> Result<(), SinkError> {
    patient
        .until(
            || codec.refresh(),
            |error| match error {
                RegistryError::Retry(why) => Ok(format!("the schema registry: {why}")),
                RegistryError::Fatal(_) => Err(SinkError::Registry(error)),
            },
        )
        .await
}
