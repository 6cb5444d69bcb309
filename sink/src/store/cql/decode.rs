//! Rows as they come back.
//!
//! A cell that is missing, because its row is ageing away, makes the row missing, never an error.

use std::sync::Arc;

use bytes::Bytes;
use schemas::{Data, Event, Extensions, Timestamp, extension};
use scylla::{deserialize::value::MapIterator, response::query_result::QueryRowsResult};

use super::{
    client::unread,
    rows::{attribute, flag},
};
use crate::store::{Aggregate, EventRow, Origin, StoreError};

/// Epoch, partition and offset.
pub(super) type Place = (i32, i32, i64);

/// Count, sum, smallest and largest.
pub(super) type Measured = (i64, f64, f64, f64);

pub(super) fn origin((epoch, partition, offset): Place) -> Origin {
    Origin {
        epoch: epoch.cast_unsigned(),
        partition: partition.cast_unsigned(),
        offset: offset.cast_unsigned(),
    }
}

pub(super) fn measures(measures: Vec<Measured>) -> Vec<Aggregate> {
    let aggregate = |(count, sum, min, max): Measured| Aggregate {
        count: count.cast_unsigned(),
        sum,
        min,
        max,
    };
    measures.into_iter().map(aggregate).collect()
}

/// Numbers of buckets.
pub(super) fn buckets(found: &QueryRowsResult) -> Result<Vec<i64>, StoreError> {
    let rows = found.rows::<(i64,)>().map_err(unread)?;
    rows.map(|row| row.map(|(bucket,)| bucket).map_err(unread)).collect()
}

/// Rows of `events`, all of one type.
pub(super) fn events(
    found: &QueryRowsResult,
    namespace: &Arc<str>,
    kind: &str,
) -> Result<Vec<EventRow>, StoreError> {
    type Cells<'f> = (
        i64,
        &'f str,
        &'f str,
        Option<Place>,
        Option<MapIterator<'f, 'f, &'f str, &'f str>>,
        Option<i8>,
        Option<Bytes>,
        Option<i64>,
    );
    let mut rows = Vec::with_capacity(found.rows_num());
    for row in found.rows::<Cells<'_>>().map_err(unread)? {
        let (micros, source, id, place, attributes, flags, data, appended_at) =
            row.map_err(unread)?;
        let (Some(place), Some(attributes), Some(flags), Some(appended_at)) =
            (place, attributes, flags, appended_at)
        else {
            continue;
        };
        let mut event = Event {
            namespace: namespace.clone(),
            id: id.into(),
            source: source.into(),
            kind: kind.into(),
            subject: None,
            time: Timestamp { micros, text: String::new() },
            time_filled: flags & flag::TIME_FILLED != 0,
            data_content_type: None,
            data_schema: None,
            extensions: Extensions::new(),
            data: match data.unwrap_or_default() {
                data if flags & flag::JSON != 0 => Data::Json(data),
                data if flags & flag::BYTES != 0 => Data::Bytes(data),
                _ => Data::None,
            },
        };
        let mut extensions = Vec::new();
        for attribute in attributes {
            let (name, value) = attribute.map_err(unread)?;
            let value = value.to_owned();
            match name {
                attribute::TIME => event.time.text = value,
                attribute::SUBJECT => event.subject = Some(value),
                attribute::CONTENT_TYPE => event.data_content_type = Some(value),
                attribute::SCHEMA => event.data_schema = Some(value),
                _ => extensions.push((name.to_owned(), value)),
            }
        }
        event.extensions = extension::from_texts(extensions);
        rows.push(EventRow { event, appended_at, origin: origin(place) });
    }
    Ok(rows)
}
