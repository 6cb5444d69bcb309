//! Values of the embedded tables.
//!
//! A value holds only what its key does not. Lengths and counts are varints, times and floats
//! fixed little-endian. Reading is total: bytes that are not a value give `None`, never a panic.

use std::sync::Arc;

use bytes::Bytes;
use eventlog::Position;
use schemas::{Data, Event, Timestamp, extension};

use crate::store::{
    Aggregate, EventKey, EventRow, FoldMark, Origin, RollupKey, RollupRow, TopicEpoch, VersionId,
};

mod flag {
    pub(super) const TIME_FILLED: u8 = 1;
    pub(super) const SUBJECT: u8 = 1 << 1;
    pub(super) const CONTENT_TYPE: u8 = 1 << 2;
    pub(super) const SCHEMA: u8 = 1 << 3;
    pub(super) const EXTENSIONS: u8 = 1 << 4;
    pub(super) const JSON: u8 = 1 << 5;
    pub(super) const BYTES: u8 = 1 << 6;
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_origin(out: &mut Vec<u8>, origin: Origin) {
    put_varint(out, origin.epoch.into());
    put_varint(out, origin.partition.into());
    put_varint(out, origin.offset);
}

/// Reads a value from its beginning; every step fails on what is too short or malformed.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn u32(&mut self) -> Option<u32> {
        self.varint()?.try_into().ok()
    }

    fn fixed(&mut self) -> Option<[u8; 8]> {
        let (bytes, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.fixed().map(i64::from_le_bytes)
    }

    fn f64(&mut self) -> Option<f64> {
        self.fixed().map(f64::from_le_bytes)
    }

    fn text(&mut self) -> Option<&'a str> {
        let len = usize::try_from(self.varint()?).ok()?;
        let (text, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    fn origin(&mut self) -> Option<Origin> {
        Some(Origin { epoch: self.u32()?, partition: self.u32()?, offset: self.varint()? })
    }
}

/// An event's row, as appended to a buffer.
pub(super) fn put_event(out: &mut Vec<u8>, row: &EventRow) {
    let event = &row.event;
    let mut flags = 0;
    let mut set = |on: bool, bit: u8| flags |= if on { bit } else { 0 };
    set(event.time_filled, flag::TIME_FILLED);
    set(event.subject.is_some(), flag::SUBJECT);
    set(event.data_content_type.is_some(), flag::CONTENT_TYPE);
    set(event.data_schema.is_some(), flag::SCHEMA);
    set(!event.extensions.is_empty(), flag::EXTENSIONS);
    set(matches!(event.data, Data::Json(_)), flag::JSON);
    set(matches!(event.data, Data::Bytes(_)), flag::BYTES);
    out.push(flags);
    out.extend_from_slice(&row.appended_at.to_le_bytes());
    put_origin(out, row.origin);
    put_bytes(out, event.time.text.as_bytes());
    for text in [&event.subject, &event.data_content_type, &event.data_schema].into_iter().flatten()
    {
        put_bytes(out, text.as_bytes());
    }
    if !event.extensions.is_empty() {
        put_varint(out, extension::to_texts(&event.extensions).count() as u64);
        for (name, value) in extension::to_texts(&event.extensions) {
            put_bytes(out, name.as_bytes());
            put_bytes(out, value.as_bytes());
        }
    }
    match &event.data {
        Data::None => {}
        Data::Json(data) | Data::Bytes(data) => out.extend_from_slice(data),
    }
}

/// An event's row from its value and what its key says.
pub(super) fn event(
    value: &Bytes,
    namespace: &Arc<str>,
    kind: &str,
    key: EventKey,
) -> Option<EventRow> {
    let mut input = Input(value);
    let flags = input.byte()?;
    let has = |bit: u8| flags & bit != 0;
    let appended_at = input.i64()?;
    let origin = input.origin()?;
    let time = Timestamp { micros: key.time, text: input.text()?.to_owned() };
    let optional = |bit: u8, input: &mut Input| {
        if has(bit) { input.text().map(|text| Some(text.to_owned())) } else { Some(None) }
    };
    let subject = optional(flag::SUBJECT, &mut input)?;
    let data_content_type = optional(flag::CONTENT_TYPE, &mut input)?;
    let data_schema = optional(flag::SCHEMA, &mut input)?;
    let mut extensions = Vec::new();
    if has(flag::EXTENSIONS) {
        for _ in 0..input.varint()? {
            extensions.push((input.text()?.to_owned(), input.text()?.to_owned()));
        }
    }
    let data = match (has(flag::JSON), has(flag::BYTES)) {
        (true, false) => Data::Json(value.slice_ref(input.0)),
        (false, true) => Data::Bytes(value.slice_ref(input.0)),
        _ => Data::None,
    };
    Some(EventRow {
        event: Event {
            namespace: namespace.clone(),
            id: key.id,
            source: key.source,
            kind: kind.to_owned(),
            subject,
            time,
            time_filled: has(flag::TIME_FILLED),
            data_content_type,
            data_schema,
            extensions: extension::from_texts(extensions),
            data,
        },
        appended_at,
        origin,
    })
}

/// What retention needs to know of an event's row: when it was appended, and its subject.
pub(super) fn event_age(value: &[u8]) -> Option<(i64, Option<&str>)> {
    let mut input = Input(value);
    let flags = input.byte()?;
    let appended_at = input.i64()?;
    input.origin()?;
    input.text()?;
    let subject = if flags & flag::SUBJECT == 0 { None } else { Some(input.text()?) };
    Some((appended_at, subject))
}

/// Where an identity's event is, and which record stored it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Locator<'a> {
    pub(super) origin: Origin,
    pub(super) appended_at: i64,
    pub(super) time: i64,
    pub(super) kind: &'a str,
}

impl<'a> Locator<'a> {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put_origin(out, self.origin);
        out.extend_from_slice(&self.appended_at.to_le_bytes());
        out.extend_from_slice(&self.time.to_le_bytes());
        out.extend_from_slice(self.kind.as_bytes());
    }

    pub(super) fn parse(value: &'a [u8]) -> Option<Self> {
        let mut input = Input(value);
        Some(Self {
            origin: input.origin()?,
            appended_at: input.i64()?,
            time: input.i64()?,
            kind: std::str::from_utf8(input.0).ok()?,
        })
    }
}

/// A rollup row, and when it was written.
pub(super) fn rollup(row: &RollupRow, written_at: i64) -> Vec<u8> {
    let mut out = Vec::with_capacity(24 + row.measures.len() * 27);
    out.extend_from_slice(&written_at.to_le_bytes());
    put_varint(&mut out, row.last_offset);
    put_varint(&mut out, row.count);
    put_varint(&mut out, row.measures.len() as u64);
    for measure in &row.measures {
        put_varint(&mut out, measure.count);
        for number in [measure.sum, measure.min, measure.max] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }
    out
}

/// When a rollup row was written, and the last offset folded into it.
pub(super) fn rollup_age(value: &[u8]) -> Option<(i64, u64)> {
    let mut input = Input(value);
    Some((input.i64()?, input.varint()?))
}

/// A rollup row from its value.
pub(super) fn parse_rollup(value: &[u8], key: RollupKey) -> Option<RollupRow> {
    let mut input = Input(value);
    input.i64()?;
    let last_offset = input.varint()?;
    let count = input.varint()?;
    let measures = (0..input.varint()?)
        .map(|_| {
            Some(Aggregate {
                count: input.varint()?,
                sum: input.f64()?,
                min: input.f64()?,
                max: input.f64()?,
            })
        })
        .collect::<Option<_>>()?;
    Some(RollupRow { key, count, measures, last_offset })
}

/// A topic's epoch.
pub(super) fn epoch(epoch: &TopicEpoch) -> Vec<u8> {
    let mut out = Vec::with_capacity(24);
    put_varint(&mut out, epoch.epoch.into());
    out.extend_from_slice(&epoch.started_at.to_le_bytes());
    if let Some(incarnation) = epoch.incarnation {
        put_varint(&mut out, incarnation);
    }
    out
}

/// A topic's epoch from its value.
pub(super) fn parse_epoch(value: &[u8]) -> Option<TopicEpoch> {
    let mut input = Input(value);
    Some(TopicEpoch {
        epoch: input.u32()?,
        started_at: input.i64()?,
        incarnation: if input.0.is_empty() { None } else { Some(input.varint()?) },
    })
}

/// A position.
pub(super) fn position(position: Position) -> Vec<u8> {
    position.to_le_bytes().to_vec()
}

/// A position from its value.
pub(super) fn parse_position(value: &[u8]) -> Option<Position> {
    value.try_into().ok().map(u64::from_le_bytes)
}

/// A mark, without its version.
pub(super) fn mark(mark: &FoldMark) -> Vec<u8> {
    let mut out = Vec::with_capacity(17);
    out.push(mark.complete.into());
    put_varint(&mut out, mark.from);
    put_varint(&mut out, mark.to);
    out
}

/// A mark from its value.
pub(super) fn parse_mark(value: &[u8], version: VersionId) -> Option<FoldMark> {
    let mut input = Input(value);
    let complete = input.byte()? != 0;
    Some(FoldMark { version, from: input.varint()?, to: input.varint()?, complete })
}

#[cfg(test)]
mod tests {
    use schemas::{Extension, Extensions};

    use super::*;

    fn row(event: Event) -> EventRow {
        EventRow {
            event,
            appended_at: -7,
            origin: Origin { epoch: 1, partition: u32::MAX, offset: u64::MAX },
        }
    }

    fn event_with(data: Data) -> Event {
        Event {
            namespace: "n".into(),
            id: "i".into(),
            source: "s".into(),
            kind: "k".into(),
            subject: None,
            time: Timestamp { micros: -1, text: "1969-12-31T23:59:59.999999Z".into() },
            time_filled: false,
            data_content_type: None,
            data_schema: None,
            extensions: Extensions::new(),
            data,
        }
    }

    fn round_trip(row: &EventRow) -> Option<EventRow> {
        let mut value = Vec::new();
        put_event(&mut value, row);
        let event = &row.event;
        let key = EventKey {
            time: event.time.micros,
            source: event.source.clone(),
            id: event.id.clone(),
        };
        super::event(&value.into(), &event.namespace, &event.kind, key)
    }

    #[test]
    fn an_event_with_every_attribute_comes_back_whole() {
        let row = row(Event {
            subject: Some("sub".into()),
            time_filled: true,
            data_content_type: Some("application/json".into()),
            data_schema: Some("urn:x".into()),
            extensions: [
                ("a".into(), Extension::Integer(1)),
                ("b".into(), Extension::Boolean(true)),
                ("traceparent".into(), "".into()),
            ]
            .into(),
            ..event_with(Data::Json(Bytes::from_static(b"{\"a\":1}")))
        });
        assert_eq!(round_trip(&row), Some(row));
    }

    #[test]
    fn absent_empty_json_and_binary_data_stay_different() {
        for data in [
            Data::None,
            Data::Bytes(Bytes::new()),
            Data::Json(Bytes::from_static(b"null")),
            Data::Bytes(Bytes::from_static(b"\xff\0")),
        ] {
            let row = row(event_with(data));
            assert_eq!(round_trip(&row), Some(row));
        }
    }

    #[test]
    fn a_value_cut_anywhere_is_no_value_rather_than_a_panic() {
        let row = row(Event {
            subject: Some("sub".into()),
            extensions: [("a".into(), "1".into())].into(),
            ..event_with(Data::None)
        });
        let mut value = Vec::new();
        put_event(&mut value, &row);
        let key = EventKey { time: 0, source: String::new(), id: String::new() };
        for len in 0..value.len() {
            let cut = Bytes::copy_from_slice(&value[..len]);
            assert_eq!(event(&cut, &"n".into(), "k", key.clone()), None, "cut at {len}");
        }
    }

    #[test]
    fn retention_reads_the_append_time_and_subject_that_were_written() {
        let row = row(Event { subject: Some("sub".into()), ..event_with(Data::None) });
        let mut value = Vec::new();
        put_event(&mut value, &row);
        assert_eq!(event_age(&value), Some((-7, Some("sub"))));
    }

    #[test]
    fn a_rollup_row_comes_back_with_its_infinities() {
        let key = RollupKey {
            namespace: "n".into(),
            rollup: "r".into(),
            version: VersionId(1),
            window: 0,
            start: 0,
            group: "[]".into(),
            epoch: 1,
            partition: 2,
        };
        let mut seen = Aggregate::default();
        seen.add(-0.5);
        let row = RollupRow {
            key: key.clone(),
            count: 300,
            measures: vec![seen, Aggregate::default()],
            last_offset: 1 << 40,
        };
        let value = rollup(&row, 99);
        assert_eq!(rollup_age(&value), Some((99, 1 << 40)));
        assert_eq!(parse_rollup(&value, key), Some(row));
    }
}
