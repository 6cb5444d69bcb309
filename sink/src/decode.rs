//! From records to events, or to the reason why a record is none.
//!
//! The verdict is pure: the registry is asked for a schema's id that is not known before the record
//! counts as poison, and a registry that does not answer is waited for.

use eventlog::{Record, Stored};
use schemas::{Codec, DecodeError, Event, RegistryError, Wanted};

use crate::{SinkError, retry::Patient, store::holdable};

/// Why a record can never be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Poison {
    /// A stable word.
    pub(crate) reason: &'static str,
    /// A sentence, without any value of the event.
    pub(crate) detail: String,
}

/// Bytes of data decoded at once, and one event's more: a record of a kilobyte may unfold to megabytes.
const AT_ONCE: usize = 512 * 1024;

/// Decodes records, in order: at least the first, and no more when there is much to hold.
pub(crate) async fn decode(
    codec: &Codec,
    patient: &Patient,
    records: &[Stored],
) -> Result<Vec<Result<Event, Poison>>, SinkError> {
    let mut asked = None;
    let mut decoded = Vec::with_capacity(records.len());
    let mut bytes = 0;
    for stored in records {
        if bytes >= AT_ONCE {
            break;
        }
        let mut event = codec.decode(&stored.record);
        if let Err(DecodeError::UnknownSchema(id)) = event
            && asked != Some(id)
        {
            learn(codec, patient, Wanted::Id(id)).await?;
            asked = Some(id);
            event = codec.decode(&stored.record);
        }
        bytes += event.as_ref().map_or(0, |event| event.data.size());
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

async fn learn(codec: &Codec, patient: &Patient, wanted: Wanted) -> Result<(), SinkError> {
    let wanted = [wanted];
    patient
        .until(
            || codec.learn(&wanted),
            |error| match error {
                RegistryError::Retry(why) => Ok(format!("the schema registry: {why}")),
                RegistryError::Fatal(_) => Err(SinkError::Registry(error)),
            },
        )
        .await
}
