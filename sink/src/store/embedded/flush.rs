//! A flush as bytes: encoded by the task that brings it, so that the one writer only copies.
//!
//! The rows of a table share one buffer per flush. A buffer lives until the engine has moved the
//! table's rows to disk, so tables must not share one: the slowest would hold the memory of all.
//! They are sorted here: the engine's memtable takes neighbours at half the price of strangers.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use eventlog::Position;

use super::{keys, values, values::Locator};
use crate::store::{EventRow, Flush, FoldMark, StoreError};

/// Which partition's task a flush comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Part {
    pub(super) topic: Arc<str>,
    pub(super) epoch: u32,
    pub(super) partition: u32,
}

/// A key and a value in one buffer, and which event of the flush they belong to.
#[derive(Clone, Copy)]
struct Span {
    start: u32,
    key_end: u32,
    end: u32,
    event: u32,
}

/// A row as the engine takes it.
pub(super) struct Row {
    pub(super) event: usize,
    pub(super) key: Bytes,
    pub(super) value: Bytes,
}

/// Rows of one table, in the order of their keys.
#[derive(Default)]
pub(super) struct Rows {
    buffer: Bytes,
    spans: Vec<Span>,
}

impl Rows {
    pub(super) fn iter(&self) -> impl Iterator<Item = Row> {
        let slice = |range: Range<u32>| self.buffer.slice(range.start as usize..range.end as usize);
        self.spans.iter().map(move |span| Row {
            event: span.event as usize,
            key: slice(span.start..span.key_end),
            value: slice(span.key_end..span.end),
        })
    }
}

#[derive(Default)]
struct RowsBuilder {
    buffer: Vec<u8>,
    spans: Vec<Span>,
}

impl RowsBuilder {
    fn with_capacity(bytes: usize, rows: usize) -> Self {
        Self { buffer: Vec::with_capacity(bytes), spans: Vec::with_capacity(rows) }
    }

    fn push(
        &mut self,
        event: usize,
        key: impl FnOnce(&mut Vec<u8>),
        value: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), StoreError> {
        let start = self.buffer.len();
        key(&mut self.buffer);
        let key_end = self.buffer.len();
        if key_end - start > keys::MAX_KEY {
            return Err(StoreError::Fatal(format!(
                "a row's key would have {} bytes, and the store holds {}: attributes are limited \
                 to {} bytes each",
                key_end - start,
                keys::MAX_KEY,
                crate::store::MAX_ATTRIBUTE_BYTES,
            )));
        }
        value(&mut self.buffer);
        let whole = |at: usize| {
            u32::try_from(at)
                .map_err(|_| StoreError::Fatal("a flush of more than 4 GiB; flush earlier".into()))
        };
        self.spans.push(Span {
            start: whole(start)?,
            key_end: whole(key_end)?,
            end: whole(self.buffer.len())?,
            event: whole(event)?,
        });
        Ok(())
    }

    fn finish(mut self) -> Rows {
        let key = |span: &Span| &self.buffer[span.start as usize..span.key_end as usize];
        self.spans.sort_unstable_by(|a, b| key(a).cmp(key(b)));
        Rows { buffer: self.buffer.into(), spans: self.spans }
    }
}

/// What one rollup row adds.
pub(super) struct EncodedRollup {
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    pub(super) last_offset: u64,
}

/// A flush, ready to be written.
pub(super) struct Encoded {
    pub(super) part: Part,
    /// How many events: each has a row in `events`, one in `ids`, and one in `subjects` if it
    /// has a subject.
    pub(super) count: usize,
    pub(super) events: Rows,
    pub(super) ids: Rows,
    pub(super) subjects: Rows,
    pub(super) rollups: Vec<EncodedRollup>,
    pub(super) marks: Vec<FoldMark>,
    pub(super) stored_to: Position,
    /// Bytes it holds: what the queue's budget counts.
    pub(super) size: usize,
}

/// Room for the parts of a row that are not texts.
const OVERHEAD: usize = 64;

fn event_size(row: &EventRow) -> usize {
    let event = &row.event;
    let optional = [&event.subject, &event.data_content_type, &event.data_schema];
    OVERHEAD
        + event.data.size()
        + event.namespace.len()
        + event.kind.len()
        + event.source.len()
        + event.id.len()
        + event.time.text.len()
        + optional.iter().map(|text| text.as_ref().map_or(0, String::len)).sum::<usize>()
        + event
            .extensions
            .iter()
            .map(|(name, value)| name.len() + value.text().len() + 4)
            .sum::<usize>()
}

/// Encodes a flush; `now` is what its rollup rows are aged by.
pub(super) fn encode(flush: &Flush, now: i64) -> Result<Encoded, StoreError> {
    let count = flush.events.len();
    let identity_size =
        |row: &EventRow| row.event.namespace.len() + row.event.source.len() + row.event.id.len();
    let mut ids_size = 0;
    let mut subjects_size = 0;
    let mut events_size = 0;
    for row in &flush.events {
        events_size += event_size(row);
        ids_size += identity_size(row) + row.event.kind.len() + OVERHEAD;
        if let Some(subject) = &row.event.subject {
            subjects_size += identity_size(row) + subject.len() + row.event.kind.len() + 16;
        }
    }
    let mut events = RowsBuilder::with_capacity(events_size, count);
    let mut ids = RowsBuilder::with_capacity(ids_size, count);
    let mut subjects = RowsBuilder::with_capacity(subjects_size, count);
    for (index, row) in flush.events.iter().enumerate() {
        let event = &row.event;
        let time = event.time.micros;
        let kind = event.kind.as_str();
        events.push(
            index,
            |key| {
                keys::list_prefix(key, &event.namespace, kind);
                keys::list_rest(key, time, &event.source, &event.id);
            },
            |value| values::put_event(value, row),
        )?;
        let locator = Locator { origin: row.origin, appended_at: row.appended_at, time, kind };
        ids.push(
            index,
            |key| keys::identity(key, &event.namespace, &event.source, &event.id),
            |value| locator.put(value),
        )?;
        if let Some(subject) = &event.subject {
            subjects.push(
                index,
                |key| {
                    keys::list_prefix(key, &event.namespace, subject);
                    keys::list_rest(key, time, &event.source, &event.id);
                },
                |value| value.extend_from_slice(kind.as_bytes()),
            )?;
        }
    }
    let mut rollups = Vec::with_capacity(flush.rollups.len());
    let mut rollups_size = 0;
    for row in &flush.rollups {
        let key = keys::rollup(&row.key);
        if key.len() > keys::MAX_KEY {
            return Err(StoreError::Fatal(format!(
                "a row of rollup `{}` has a group of {} bytes, and the store holds {}",
                row.key.rollup,
                row.key.group.len(),
                crate::store::MAX_GROUP_BYTES,
            )));
        }
        let value = values::rollup(row, now);
        rollups_size += key.len() + value.len();
        rollups.push(EncodedRollup { key, value, last_offset: row.last_offset });
    }
    rollups.sort_unstable_by(|a: &EncodedRollup, b| a.key.cmp(&b.key));
    let (events, ids, subjects) = (events.finish(), ids.finish(), subjects.finish());
    let size = events.buffer.len() + ids.buffer.len() + subjects.buffer.len() + rollups_size;
    Ok(Encoded {
        part: Part { topic: flush.topic.clone(), epoch: flush.epoch, partition: flush.partition },
        count,
        events,
        ids,
        subjects,
        rollups,
        marks: flush.marks.clone(),
        stored_to: flush.stored_to,
        size,
    })
}
