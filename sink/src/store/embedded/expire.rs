//! Retention: events by append time, identities by append time, rollup rows by their last write.
//!
//! No table is ordered by age and no index is kept for it, so that writing costs nothing more.
//! Instead a slow walk goes through the tables, a bounded share of rows per call, and removes
//! what is too old; where it stands is kept in the store. A walk starts again only when
//! something may have come of age since, and not before a thirtieth of the shortest retention
//! has passed: rows stay at least as long as configured, and at most about a thirtieth longer.

use std::ops::Bound;

use fjall::Readable;
use serde::{Deserialize, Serialize};

use super::{
    keys::{self, meta},
    tables::Tables,
    values::{self, Locator},
    writer::Removals,
};
use crate::store::StoreError;

/// Rows that one call looks at.
pub(super) const SHARE: usize = 10_000;

/// How long what is kept, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retention {
    pub(super) events: i64,
    /// Rollup rows; identities too, unless events stay longer: an event is never there without.
    pub(super) rollups: i64,
    /// Rows that one call looks at.
    pub(super) share: usize,
}

/// Where the walk stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// The table that is being walked; `None` between walks.
    table: Option<Table>,
    /// The last key looked at in it.
    after: Vec<u8>,
    /// The next walk begins at this time, microseconds.
    next_walk: i64,
    /// The first time that a row seen in this walk comes of age.
    first_of_age: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Table {
    Events,
    Identities,
    Rollups,
}

impl State {
    pub(super) fn load(tables: &Tables) -> Result<Self, StoreError> {
        match tables.meta.get(meta::EXPIRY).map_err(|e| tables.read_error(&e))? {
            None => Ok(Self::default()),
            Some(value) => serde_json::from_slice(&value).map_err(|_| tables.damaged(&tables.meta)),
        }
    }
}

/// One share of the walk: what to remove, where it stands then, and whether more is left.
/// `None` when there is nothing to do yet.
pub(super) fn walk(
    tables: &Tables,
    retention: Retention,
    now: i64,
) -> Result<Option<(Removals, bool)>, StoreError> {
    let mut state = State::load(tables)?;
    let mut removals = Removals::default();
    let table = match state.table {
        Some(table) => table,
        None if now < state.next_walk => return Ok(None),
        None => Table::Events,
    };
    let snapshot = tables.db.snapshot();
    let (rows, age) = match table {
        Table::Events => (&tables.events, retention.events),
        Table::Identities => (&tables.by_id, retention.rollups.max(retention.events)),
        Table::Rollups => (&tables.rollups, retention.rollups),
    };
    let from = if state.after.is_empty() {
        Bound::Unbounded
    } else {
        Bound::Excluded(std::mem::take(&mut state.after))
    };
    let mut looked = 0;
    for row in snapshot.range::<Vec<u8>, _>(rows, (from, Bound::Unbounded)).take(retention.share) {
        let (key, value) = row.into_inner().map_err(|e| tables.read_error(&e))?;
        looked += 1;
        let damaged = || tables.damaged(rows);
        let mut subject_key = None;
        let written = match table {
            Table::Events => {
                let (written, subject) = values::event_age(&value).ok_or_else(damaged)?;
                if let Some(subject) = subject {
                    let (ns, _, at) = keys::parse_list_key(&key).ok_or_else(damaged)?;
                    let mut other = Vec::new();
                    keys::list_prefix(&mut other, &ns, subject);
                    keys::list_rest(&mut other, at.time, &at.source, &at.id);
                    subject_key = Some(other);
                }
                written
            }
            Table::Identities => Locator::parse(&value).ok_or_else(damaged)?.appended_at,
            Table::Rollups => values::rollup_age(&value).ok_or_else(damaged)?.0,
        };
        let of_age = written.saturating_add(age);
        if of_age <= now {
            match table {
                Table::Events => removals.events.push(key.to_vec()),
                Table::Identities => removals.ids.push(key.to_vec()),
                Table::Rollups => removals.rollups.push((key.to_vec(), written)),
            }
            removals.subjects.extend(subject_key);
        } else {
            state.first_of_age = Some(state.first_of_age.map_or(of_age, |at| at.min(of_age)));
        }
        state.after = key.to_vec();
    }
    if looked < retention.share {
        state.after = Vec::new();
        state.table = match table {
            Table::Events => Some(Table::Identities),
            Table::Identities => Some(Table::Rollups),
            Table::Rollups => None,
        };
    } else {
        state.table = Some(table);
    }
    let more = state.table.is_some();
    if !more {
        // What is stored from now on comes of age no earlier than the shortest retention from
        // now, except for a backlog, which the next walk finds.
        let shortest = retention.events.min(retention.rollups);
        let pause = now.saturating_add(shortest / 30);
        let first = state.first_of_age.take().unwrap_or(i64::MAX);
        state.next_walk = first.min(now.saturating_add(shortest)).max(pause);
    }
    removals.state = serde_json::to_vec(&state).map_err(|e| StoreError::Fatal(e.to_string()))?;
    Ok(Some((removals, more)))
}
