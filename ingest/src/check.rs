//! From the text of an event to a record, or to the faults that stand in the way.
//!
//! A pure function: the time, new ids and the encoding are arguments. Each event is encoded as
//! soon as it is parsed, so that a large batch is never in memory in three forms at once.
//!
//! What is refused for the schema of its type may only have a schema that is newer than what is known
//! here: those types are named as [`Checked::doubted`], for the caller to learn them and check again.

use std::collections::BTreeSet;

use bytes::Bytes;
use eventlog::Record;
use http::HeaderMap;
use schemas::{Defaults, EncodeError, Event, Fault, Filled};

use crate::{
    parse::Piece,
    tally::{TypeIndex, Types},
};

/// An id longer than this is not repeated in an answer.
const SHOWN_ID_BYTES: usize = 1024;

/// Which event of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// From 0.
    pub index: usize,
    /// In NDJSON, from 1.
    pub line: Option<usize>,
    /// Its id, as far as it is known.
    pub id: Option<String>,
    /// Its type, as far as it is known.
    pub kind: TypeIndex,
}

/// An event that can never be stored as it is.
#[derive(Clone, Debug)]
pub struct Rejected {
    /// Which one.
    pub place: Place,
    /// Why; at least one.
    pub faults: Vec<Fault>,
    /// Whether it is for the schema of its type.
    pub by_schema: bool,
}

/// The events of a request, each in one of `records`, `rejected` and `undecided`.
#[derive(Debug, Default)]
pub struct Checked {
    /// What to append, in the order of the request.
    pub records: Vec<Record>,
    /// Which events they are, in the same order.
    pub places: Vec<Place>,
    /// Those that can never be stored.
    pub rejected: Vec<Rejected>,
    /// Those of which nobody can tell now.
    pub undecided: Vec<Place>,
    /// Types for whose schema events were refused, or whose schema is not known.
    pub doubted: BTreeSet<String>,
    /// Whether any event got its id here.
    pub ids_filled: bool,
    /// The types of its events.
    pub types: Types,
}

impl Checked {
    /// How many events the request had.
    pub fn events(&self) -> usize {
        self.places.len() + self.rejected.len() + self.undecided.len()
    }

    /// The types in doubt cannot be learnt now: what was refused for their schemas is undecided.
    pub fn leave_undecided(&mut self) {
        let undecided = self.rejected.extract_if(.., |rejected| rejected.by_schema);
        self.undecided.extend(undecided.map(|rejected| rejected.place));
    }

    /// About how much memory the records hold.
    pub fn bytes(&self) -> usize {
        let fixed = size_of::<Record>() + size_of::<Place>();
        self.records.iter().map(|record| record.size() + fixed).sum()
    }
}

/// Checks and encodes events in structured form.
pub fn events(
    pieces: &[Piece<'_>],
    max_event_bytes: usize,
    defaults: &mut Defaults<'_>,
    encode: impl Fn(&Event) -> Result<Record, EncodeError>,
) -> Checked {
    let mut checked = Checked {
        records: Vec::with_capacity(pieces.len()),
        places: Vec::with_capacity(pieces.len()),
        ..Checked::default()
    };
    for (index, piece) in pieces.iter().enumerate() {
        let event = fits(piece.text.len(), max_event_bytes)
            .and_then(|()| schemas::event_from_json(piece.text, defaults));
        let known_id = || id_of(piece.text);
        checked.take(index, piece.line, event, known_id, &encode);
    }
    checked
}

/// Checks and encodes one event in binary mode.
pub fn binary(
    headers: &HeaderMap,
    body: Bytes,
    max_event_bytes: usize,
    defaults: &mut Defaults<'_>,
    encode: impl Fn(&Event) -> Result<Record, EncodeError>,
) -> Checked {
    let named = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let event = fits(body.len(), max_event_bytes)
        .and_then(|()| schemas::event_from_binary(named, body, defaults));
    let known_id = || shown_id(headers.get("ce-id")?.to_str().ok()?.to_owned());
    let mut checked = Checked::default();
    checked.take(0, None, event, known_id, encode);
    checked
}

impl Checked {
    fn take(
        &mut self,
        index: usize,
        line: Option<usize>,
        event: Result<(Event, Filled), Vec<Fault>>,
        known_id: impl FnOnce() -> Option<String>,
        encode: impl FnOnce(&Event) -> Result<Record, EncodeError>,
    ) {
        let (event, filled) = match event {
            Ok(event) => event,
            Err(faults) => {
                let place = Place { index, line, id: known_id(), kind: None };
                self.rejected.push(Rejected { place, faults, by_schema: false });
                return;
            }
        };
        let kind = self.types.index(&event.kind);
        let place = |id| Place { index, line, id, kind };
        match encode(&event) {
            Ok(record) => {
                self.ids_filled |= filled.id;
                self.records.push(record);
                self.places.push(place(Some(event.id)));
            }
            Err(EncodeError::Unresolved) => {
                self.undecided.push(place(Some(event.id)));
                self.doubted.insert(event.kind);
            }
            Err(EncodeError::Unfit(faults)) => {
                self.rejected.push(Rejected { place: place(known_id()), faults, by_schema: true });
                self.doubted.insert(event.kind);
            }
        }
    }
}

fn fits(bytes: usize, max_bytes: usize) -> Result<(), Vec<Fault>> {
    if bytes <= max_bytes {
        return Ok(());
    }
    Err(vec![Fault {
        code: "event_too_large",
        detail: format!("the event has {bytes} bytes; max_event_bytes allows {max_bytes}"),
        pointer: String::new(),
    }])
}

/// The id of an event that has faults, when it can be read at all.
fn id_of(text: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct OnlyId {
        id: String,
    }
    shown_id(serde_json::from_slice::<OnlyId>(text).ok()?.id)
}

fn shown_id(id: String) -> Option<String> {
    (id.len() <= SHOWN_ID_BYTES).then_some(id)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn check(texts: &[&str], fill: bool) -> Checked {
        let pieces: Vec<_> = texts
            .iter()
            .enumerate()
            .map(|(n, text)| Piece { line: Some(n + 1), text: text.as_bytes() })
            .collect();
        let namespace: Arc<str> = "default".into();
        let mut new_id = || "made".to_owned();
        let mut defaults = Defaults {
            namespace: &namespace,
            now: 0,
            fill_id: fill.then_some(&mut new_id as &mut dyn FnMut() -> String),
            fill_specversion: fill,
        };
        let encode = |event: &Event| match event.kind.as_str() {
            "bad" => Err(EncodeError::Unfit(vec![Fault {
                code: "schema_mismatch",
                detail: "no".into(),
                pointer: "/data/x".into(),
            }])),
            _ => Ok(Record { key: Some(event.id.clone().into()), ..Record::default() }),
        };
        events(&pieces, 100, &mut defaults, encode)
    }

    const GOOD: &str = r#"{"specversion":"1.0","id":"a","source":"s","type":"good"}"#;
    const BAD: &str = r#"{"specversion":"1.0","id":"b","source":"s","type":"bad"}"#;

    #[test]
    fn each_event_is_either_a_record_or_rejected_at_its_own_place() {
        let checked = check(&[GOOD, "{", BAD, GOOD], false);
        assert_eq!(checked.events(), 4);
        let kept: Vec<_> = checked.places.iter().map(|place| place.index).collect();
        assert_eq!(kept, [0, 3]);
        let rejected: Vec<_> =
            checked.rejected.iter().map(|r| (r.place.index, r.place.line)).collect();
        assert_eq!(rejected, [(1, Some(2)), (2, Some(3))]);
    }

    #[test]
    fn what_was_refused_for_a_schema_that_cannot_be_asked_for_is_undecided() {
        let mut checked = check(&[GOOD, "{", BAD], false);
        assert_eq!(checked.doubted, BTreeSet::from(["bad".to_owned()]));
        checked.leave_undecided();
        assert_eq!((checked.records.len(), checked.rejected.len()), (1, 1));
        assert_eq!(checked.undecided[0].index, 2);
        assert_eq!(checked.events(), 3);
    }

    #[test]
    fn a_rejected_event_is_named_by_its_id_when_that_can_be_read() {
        let checked = check(&[BAD, "{\"id\":\"c\""], false);
        let ids: Vec<_> = checked.rejected.iter().map(|r| r.place.id.as_deref()).collect();
        assert_eq!(ids, [Some("b"), None]);
    }

    #[test]
    fn an_event_over_its_limit_is_rejected_for_that() {
        let large = GOOD.replace("good", &"x".repeat(100));
        let checked = check(&[&large], false);
        assert_eq!(checked.rejected[0].faults[0].code, "event_too_large");
        assert_eq!(checked.rejected[0].place.id.as_deref(), Some("a"));
    }

    #[test]
    fn an_id_that_was_filled_in_is_reported() {
        let checked = check(&[r#"{"source":"s","type":"good"}"#], true);
        assert!(checked.ids_filled);
        assert_eq!(checked.places[0].id.as_deref(), Some("made"));
        assert!(!check(&[GOOD], true).ids_filled);
    }
}
