//! Rows as the driver sends them: borrowed from the flush, written straight into the request.
//!
//! The order of values is that of the statement in `statements`; types are those of the tables in
//! `schema`. Nothing here allocates for a row.

use std::borrow::Cow;

use scylla::serialize::{
    SerializationError,
    row::{RowSerializationContext, SerializeRow},
    writers::RowWriter,
};

use schemas::{Data, Event, extension};

use crate::store::{Aggregate, EventRow, FoldMark, Origin, RollupRow};

/// Which form `data` has, in `flags`.
pub(super) mod flag {
    pub(in super::super) const JSON: i8 = 1;
    pub(in super::super) const BYTES: i8 = 2;
    pub(in super::super) const TIME_FILLED: i8 = 4;
}

/// Attributes that the tables keep in the map beside extensions, by their CloudEvents names.
pub(super) mod attribute {
    pub(in super::super) const TIME: &str = "time";
    pub(in super::super) const SUBJECT: &str = "subject";
    pub(in super::super) const CONTENT_TYPE: &str = "datacontenttype";
    pub(in super::super) const SCHEMA: &str = "dataschema";
}

/// Writes values in the order of a statement's markers.
struct Values<'a, 'b>(&'a mut RowWriter<'b>);

type Written = Result<(), SerializationError>;

impl Values<'_, '_> {
    fn bytes(&mut self, bytes: &[u8]) -> Written {
        self.0.make_cell_writer().set_value(bytes).map_err(SerializationError::new)?;
        Ok(())
    }

    fn text(&mut self, text: &str) -> Written {
        self.bytes(text.as_bytes())
    }

    fn bigint(&mut self, number: i64) -> Written {
        self.bytes(&number.to_be_bytes())
    }

    fn int(&mut self, number: i32) -> Written {
        self.bytes(&number.to_be_bytes())
    }

    fn origin(&mut self, origin: Origin) -> Written {
        let mut tuple = [0; 28];
        tuple[3] = 4;
        tuple[4..8].copy_from_slice(&origin.epoch.to_be_bytes());
        tuple[11] = 4;
        tuple[12..16].copy_from_slice(&origin.partition.to_be_bytes());
        tuple[19] = 8;
        tuple[20..].copy_from_slice(&origin.offset.to_be_bytes());
        self.bytes(&tuple)
    }

    fn attributes(&mut self, event: &Event) -> Written {
        let own = [
            (attribute::TIME, Some(&event.time.text)),
            (attribute::SUBJECT, event.subject.as_ref()),
            (attribute::CONTENT_TYPE, event.data_content_type.as_ref()),
            (attribute::SCHEMA, event.data_schema.as_ref()),
        ];
        let own =
            own.iter().filter_map(|(name, value)| Some((*name, Cow::from(value.as_deref()?))));
        let all = || own.clone().chain(extension::to_texts(&event.extensions));
        let mut map = self.0.make_cell_writer().into_value_builder();
        map.append_bytes(&(all().count() as i32).to_be_bytes());
        for (name, value) in all() {
            for text in [name, &*value] {
                let cell = map.make_sub_writer();
                cell.set_value(text.as_bytes()).map_err(SerializationError::new)?;
            }
        }
        map.finish().map_err(SerializationError::new)?;
        Ok(())
    }

    fn measures(&mut self, measures: &[Aggregate]) -> Written {
        let mut list = self.0.make_cell_writer().into_value_builder();
        list.append_bytes(&(measures.len() as i32).to_be_bytes());
        for measure in measures {
            // A tuple of four values of eight bytes.
            let mut tuple = [0; 48];
            let values = [
                measure.count.to_be_bytes(),
                measure.sum.to_be_bytes(),
                measure.min.to_be_bytes(),
                measure.max.to_be_bytes(),
            ];
            for (place, value) in tuple.chunks_exact_mut(12).zip(values) {
                place[3] = 8;
                place[4..].copy_from_slice(&value);
            }
            list.make_sub_writer().set_value(&tuple).map_err(SerializationError::new)?;
        }
        list.finish().map_err(SerializationError::new)?;
        Ok(())
    }
}

/// Implements the driver's trait by a closure over [`Values`].
macro_rules! row {
    ($type:ident, |$row:ident, $values:ident| $body:block) => {
        impl SerializeRow for $type<'_> {
            fn serialize(
                &self,
                _: &RowSerializationContext<'_>,
                writer: &mut RowWriter,
            ) -> Result<(), SerializationError> {
                let $row = self;
                let mut $values = Values(writer);
                $body
            }

            fn is_empty(&self) -> bool {
                false
            }
        }
    };
}

/// A row of `events`.
#[derive(Clone, Copy, Debug)]
pub(super) struct EventInsert<'a> {
    pub(super) row: &'a EventRow,
    pub(super) bucket: i64,
    pub(super) sub: i16,
    pub(super) ttl: i32,
    /// Which nodes hold it: rows of equal replicas may share batches.
    pub(super) replicas: u64,
}

row!(EventInsert, |this, values| {
    let event = &this.row.event;
    let (form, data): (i8, &[u8]) = match &event.data {
        Data::None => (0, &[]),
        Data::Json(data) => (flag::JSON, data),
        Data::Bytes(data) => (flag::BYTES, data),
    };
    let flags = form | if event.time_filled { flag::TIME_FILLED } else { 0 };
    values.text(&event.namespace)?;
    values.text(&event.kind)?;
    values.bigint(this.bucket)?;
    values.bytes(&this.sub.to_be_bytes())?;
    values.bigint(event.time.micros)?;
    values.text(&event.source)?;
    values.text(&event.id)?;
    values.origin(this.row.origin)?;
    values.attributes(event)?;
    values.bytes(&flags.to_be_bytes())?;
    values.bytes(data)?;
    values.bigint(this.row.appended_at)?;
    values.int(this.ttl)
});

/// A row of `events_by_id`.
#[derive(Clone, Copy, Debug)]
pub(super) struct LocatorInsert<'a> {
    pub(super) row: &'a EventRow,
    pub(super) ttl: i32,
    /// Which nodes hold it.
    pub(super) replicas: u64,
}

row!(LocatorInsert, |this, values| {
    let event = &this.row.event;
    values.text(&event.namespace)?;
    values.text(&event.source)?;
    values.text(&event.id)?;
    values.origin(this.row.origin)?;
    values.text(&event.kind)?;
    values.bigint(event.time.micros)?;
    values.bigint(this.row.appended_at)?;
    values.int(this.ttl)
});

/// A row of `events_by_subject`.
#[derive(Clone, Copy, Debug)]
pub(super) struct SubjectInsert<'a> {
    pub(super) row: &'a EventRow,
    pub(super) subject: &'a str,
    pub(super) bucket: i64,
    pub(super) ttl: i32,
    /// Which nodes hold it.
    pub(super) replicas: u64,
}

row!(SubjectInsert, |this, values| {
    let event = &this.row.event;
    values.text(&event.namespace)?;
    values.text(this.subject)?;
    values.bigint(this.bucket)?;
    values.bigint(event.time.micros)?;
    values.text(&event.source)?;
    values.text(&event.id)?;
    values.text(&event.kind)?;
    values.bigint(this.row.appended_at)?;
    values.int(this.ttl)
});

/// A row of `rollups`.
#[derive(Clone, Copy, Debug)]
pub(super) struct RollupInsert<'a> {
    pub(super) row: &'a RollupRow,
    pub(super) bucket: i64,
    pub(super) timestamp: i64,
    pub(super) ttl: i32,
}

row!(RollupInsert, |this, values| {
    let key = &this.row.key;
    values.text(&key.namespace)?;
    values.text(&key.rollup)?;
    values.bytes(&key.version.0.to_be_bytes())?;
    values.bigint(key.window)?;
    values.bigint(this.bucket)?;
    values.bytes(&key.epoch.to_be_bytes())?;
    values.bytes(&key.partition.to_be_bytes())?;
    values.bigint(key.start)?;
    values.text(&key.group)?;
    values.bytes(&this.row.count.to_be_bytes())?;
    values.bytes(&this.row.last_offset.to_be_bytes())?;
    values.measures(&this.row.measures)?;
    values.bigint(this.timestamp)?;
    values.int(this.ttl)
});

/// A change of a row of `progress`.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProgressUpdate<'a> {
    pub(super) topic: &'a str,
    pub(super) epoch: u32,
    pub(super) partition: u32,
    pub(super) timestamp: i64,
    pub(super) change: Change,
}

/// What of it changes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    StoredTo(u64),
    Mark(FoldMark),
}

row!(ProgressUpdate, |this, values| {
    values.bigint(this.timestamp)?;
    match &this.change {
        Change::StoredTo(position) => values.bytes(&position.to_be_bytes())?,
        Change::Mark(mark) => {
            // Of two with one timestamp the server keeps the greater value, byte by byte: one that
            // is not complete must win, so it comes first and as a one.
            let mut tuple = [0; 29];
            tuple[3] = 1;
            tuple[4] = u8::from(!mark.complete);
            tuple[8] = 8;
            tuple[9..17].copy_from_slice(&mark.from.to_be_bytes());
            tuple[20] = 8;
            tuple[21..].copy_from_slice(&mark.to.to_be_bytes());
            values.bytes(&mark.version.0.to_be_bytes())?;
            values.bytes(&tuple)?;
        }
    }
    values.text(this.topic)?;
    values.bytes(&this.epoch.to_be_bytes())?;
    values.bytes(&this.partition.to_be_bytes())
});

/// About how many bytes an event has in `events`, as a server counts them.
pub(super) fn event_bytes(row: &EventRow) -> usize {
    let event = &row.event;
    let extensions: usize =
        event.extensions.iter().map(|(k, v)| k.len() + v.text().len() + 8).sum();
    event.data.size()
        + extensions
        + key_bytes(row)
        + event.subject.as_ref().map_or(0, String::len)
        + event.time.text.len()
        + 120
}

/// About how many bytes an event has in the tables that point at it, as a server counts them.
pub(super) fn key_bytes(row: &EventRow) -> usize {
    let event = &row.event;
    event.namespace.len() + event.kind.len() + event.source.len() + event.id.len() + 110
}
