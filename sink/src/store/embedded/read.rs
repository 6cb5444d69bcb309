//! Reads: each from one snapshot, so that a pointer and what it points at agree.
//!
//! Every page is bounded three ways: by rows, by bytes held, and by rows looked at. A page that
//! met a bound carries the key to go on from, even when it is empty.

use std::{ops::Bound, sync::Arc};

use bytes::Bytes;
use fjall::{Readable, Snapshot};

use super::{
    keys::{self, meta},
    tables::Tables,
    values::{self, Locator},
};
use crate::store::{
    EventKey, EventRow, EventsPage, EventsQuery, FoldMark, Identity, Order, Origin, PartitionState,
    RollupKey, RollupQuery, RollupRow, Selector, StoreError, VersionId,
};

/// Rows that a page looks at: what a filter that matches little may cost.
pub(super) const LOOK: usize = 10_000;

/// Bytes of values that a page holds.
const PAGE_BYTES: usize = 8 * 1024 * 1024;

/// A page of events.
pub(super) fn events(tables: &Tables, query: &EventsQuery) -> Result<EventsPage, StoreError> {
    let snapshot = tables.db.snapshot();
    let (table, name) = match &query.selector {
        Selector::Type(kind) => (&tables.events, kind),
        Selector::Subject(subject) => (&tables.by_subject, subject),
    };
    let mut prefix = Vec::new();
    keys::list_prefix(&mut prefix, &query.namespace, name);
    let mut page = EventsPage { rows: Vec::new(), next: None };
    let Some(range) = list_range(&prefix, query) else {
        return Ok(page);
    };
    let mut rows = snapshot.range::<Vec<u8>, _>(table, range);
    let mut step = || match query.order {
        Order::Asc => rows.next(),
        Order::Desc => rows.next_back(),
    };
    let (mut looked, mut bytes) = (0, 0);
    let mut last = None;
    while let Some(row) = step() {
        if page.rows.len() >= query.limit.max(1) || looked >= LOOK || bytes >= PAGE_BYTES {
            page.next = last;
            break;
        }
        let (key, value) = row.into_inner().map_err(|e| tables.read_error(&e))?;
        let key = key
            .get(prefix.len()..)
            .and_then(keys::parse_list_rest)
            .ok_or_else(|| tables.damaged(table))?;
        looked += 1;
        last = Some(key.clone());
        if query.source.as_ref().is_some_and(|source| *source != key.source) {
            continue;
        }
        let row = match &query.selector {
            Selector::Type(kind) => Some(event_row(tables, &query.namespace, kind, key, value)?),
            Selector::Subject(_) => {
                let kind = std::str::from_utf8(&value).map_err(|_| tables.damaged(table))?;
                follow(tables, &snapshot, &query.namespace, kind, key)?
            }
        };
        if let Some(row) = row {
            bytes += row.event.data.size();
            page.rows.push(row);
        }
    }
    Ok(page)
}

type KeyRange = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// The part of a list that a query asks for; `None` when it is empty.
fn list_range(prefix: &[u8], query: &EventsQuery) -> Option<KeyRange> {
    let at_time = |time: i64| {
        let mut key = prefix.to_vec();
        keys::put_signed(&mut key, time);
        key
    };
    let mut from = Bound::Included(at_time(query.from));
    let mut to = Bound::Excluded(at_time(query.to));
    if query.from >= query.to {
        return None;
    }
    if let Some(after) = &query.after {
        let mut key = prefix.to_vec();
        keys::list_rest(&mut key, after.time, &after.source, &after.id);
        match query.order {
            Order::Asc if after.time >= query.to => return None,
            Order::Asc if after.time >= query.from => from = Bound::Excluded(key),
            Order::Desc if after.time < query.from => return None,
            Order::Desc if after.time < query.to => to = Bound::Excluded(key),
            _ => {}
        }
    }
    // An engine may refuse a range whose ends meet; nothing lies between two equal keys.
    match (&from, &to) {
        (Bound::Included(a) | Bound::Excluded(a), Bound::Excluded(b)) if a >= b => None,
        _ => Some((from, to)),
    }
}

fn event_row(
    tables: &Tables,
    namespace: &Arc<str>,
    kind: &str,
    key: EventKey,
    value: fjall::UserValue,
) -> Result<EventRow, StoreError> {
    values::event(&Bytes::from(value), namespace, kind, key)
        .ok_or_else(|| tables.damaged(&tables.events))
}

/// The event that a pointer names. Both go at once, so one snapshot holds both or neither.
fn follow(
    tables: &Tables,
    snapshot: &Snapshot,
    namespace: &Arc<str>,
    kind: &str,
    key: EventKey,
) -> Result<Option<EventRow>, StoreError> {
    let mut at = Vec::new();
    keys::list_prefix(&mut at, namespace, kind);
    keys::list_rest(&mut at, key.time, &key.source, &key.id);
    match tables.get(snapshot, &tables.events, &at)? {
        None => Ok(None),
        Some(value) => event_row(tables, namespace, kind, key, value).map(Some),
    }
}

/// One event.
pub(super) fn event(tables: &Tables, identity: &Identity) -> Result<Option<EventRow>, StoreError> {
    let snapshot = tables.db.snapshot();
    let found = tables.get(&snapshot, &tables.by_id, &keys::identity_key(identity))?;
    let Some(value) = found else {
        return Ok(None);
    };
    let locator = Locator::parse(&value).ok_or_else(|| tables.damaged(&tables.by_id))?;
    let key =
        EventKey { time: locator.time, source: identity.source.clone(), id: identity.id.clone() };
    follow(tables, &snapshot, &identity.namespace, locator.kind, key)
}

/// Which record stored each identity. Looked up in key order, so that neighbours share blocks.
pub(super) fn locate(
    tables: &Tables,
    identities: &[Identity],
) -> Result<Vec<Option<Origin>>, StoreError> {
    let snapshot = tables.db.snapshot();
    let mut keys: Vec<(Vec<u8>, usize)> = identities
        .iter()
        .enumerate()
        .map(|(index, identity)| (keys::identity_key(identity), index))
        .collect();
    keys.sort_unstable();
    let mut origins = vec![None; identities.len()];
    for (key, index) in keys {
        if let Some(value) = tables.get(&snapshot, &tables.by_id, &key)? {
            let locator = Locator::parse(&value).ok_or_else(|| tables.damaged(&tables.by_id))?;
            origins[index] = Some(locator.origin);
        }
    }
    Ok(origins)
}

/// Rollup rows by key.
pub(super) fn rollup_rows(
    tables: &Tables,
    wanted: Vec<RollupKey>,
) -> Result<Vec<Option<RollupRow>>, StoreError> {
    let snapshot = tables.db.snapshot();
    let mut rows: Vec<Option<RollupRow>> = wanted.iter().map(|_| None).collect();
    let mut sorted: Vec<(Vec<u8>, usize, RollupKey)> = wanted
        .into_iter()
        .enumerate()
        .map(|(index, key)| (keys::rollup(&key), index, key))
        .collect();
    sorted.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    for (bytes, index, key) in sorted {
        if let Some(value) = tables.get(&snapshot, &tables.rollups, &bytes)? {
            let row = values::parse_rollup(&value, key);
            rows[index] = Some(row.ok_or_else(|| tables.damaged(&tables.rollups))?);
        }
    }
    Ok(rows)
}

/// Rollup rows in order, from strictly after a key.
pub(super) fn rollup_scan(
    tables: &Tables,
    query: &RollupQuery,
    after: Option<&RollupKey>,
    limit: usize,
) -> Result<Vec<RollupRow>, StoreError> {
    let prefix = keys::rollup_prefix(query);
    let at = |start: i64| {
        let mut key = prefix.clone();
        keys::put_signed(&mut key, start);
        key
    };
    let (mut from, to) = (Bound::Included(at(query.from)), at(query.to));
    if let Some(after) = after
        && after.start >= query.from
    {
        // Only where it stands counts; the rest of the key is the query's.
        let mut key = at(after.start);
        keys::put_text(&mut key, &after.group);
        key.extend_from_slice(&after.epoch.to_be_bytes());
        key.extend_from_slice(&after.partition.to_be_bytes());
        from = Bound::Excluded(key);
    }
    match &from {
        Bound::Included(first) | Bound::Excluded(first) if *first >= to => return Ok(Vec::new()),
        _ => {}
    }
    let snapshot = tables.db.snapshot();
    snapshot
        .range::<Vec<u8>, _>(&tables.rollups, (from, Bound::Excluded(to)))
        .take(limit)
        .map(|row| {
            let (key, value) = row.into_inner().map_err(|e| tables.read_error(&e))?;
            keys::parse_rollup(&key)
                .and_then(|key| values::parse_rollup(&value, key))
                .ok_or_else(|| tables.damaged(&tables.rollups))
        })
        .collect()
}

/// How far a partition is stored and folded.
pub(super) fn partition(
    tables: &Tables,
    part: &super::flush::Part,
) -> Result<PartitionState, StoreError> {
    // One snapshot: a position and the marks that were written with it.
    let snapshot = tables.db.snapshot();
    let key = meta::stored(&part.topic, part.epoch, part.partition);
    let stored_to = match tables.get(&snapshot, &tables.meta, &key)? {
        None => 0,
        Some(value) => {
            values::parse_position(&value).ok_or_else(|| tables.damaged(&tables.meta))?
        }
    };
    let marks = marks(tables, &snapshot, &part.topic, part.epoch)?
        .filter_map(|mark| match mark {
            Ok((partition, mark)) if partition == part.partition => Some(Ok(mark)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        })
        .collect::<Result<_, _>>()?;
    Ok(PartitionState { stored_to, marks })
}

/// The marks of a version in all partitions.
pub(super) fn version_marks(
    tables: &Tables,
    topic: &str,
    epoch: u32,
    version: VersionId,
) -> Result<Vec<(u32, FoldMark)>, StoreError> {
    let snapshot = tables.db.snapshot();
    marks(tables, &snapshot, topic, epoch)?
        .filter(|mark| mark.as_ref().map_or(true, |(_, mark)| mark.version == version))
        .collect()
}

fn marks<'a>(
    tables: &'a Tables,
    snapshot: &Snapshot,
    topic: &str,
    epoch: u32,
) -> Result<impl Iterator<Item = Result<(u32, FoldMark), StoreError>> + use<'a>, StoreError> {
    let prefix = meta::marks(topic, epoch);
    let len = prefix.len();
    Ok(snapshot.prefix(&tables.meta, prefix).map(move |row| {
        let (key, value) = row.into_inner().map_err(|e| tables.read_error(&e))?;
        let damaged = || tables.damaged(&tables.meta);
        let (version, partition) = key.get(len..).and_then(meta::parse_mark).ok_or_else(damaged)?;
        Ok((partition, values::parse_mark(&value, version).ok_or_else(damaged)?))
    }))
}
