//! One ordered pass over a rollup's rows, adding up what the partitions and epochs hold of each
//! window and group. Memory is bounded by the page that is asked for, never by what is stored.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::failure::Failure;
use crate::store::{Aggregate, RollupKey, RollupQuery, RollupRow, StoreDriver};

/// Rows read from the store at once.
const STEP: usize = 1000;

/// What all partitions and epochs together hold of one window and group.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Total {
    /// The window's start; 0 for a whole range.
    pub(super) start: i64,
    /// The group.
    pub(super) group: String,
    /// Events.
    pub(super) count: u64,
    /// One for each measure.
    pub(super) measures: Vec<Aggregate>,
}

impl Total {
    fn of(row: RollupRow) -> Self {
        let RollupKey { start, group, .. } = row.key;
        Self { start, group, count: row.count, measures: row.measures }
    }

    fn add(&mut self, row: &RollupRow) {
        self.count += row.count;
        for (total, part) in self.measures.iter_mut().zip(&row.measures) {
            total.merge(part);
        }
    }
}

/// What to look for.
pub(super) struct Scan<'a> {
    pub(super) store: &'a dyn StoreDriver,
    pub(super) query: RollupQuery,
    /// Which groups count.
    pub(super) filter: &'a (dyn Fn(&str) -> bool + Send + Sync),
    /// Continue strictly after this start and group.
    pub(super) after: Option<(i64, String)>,
    pub(super) limit: usize,
    /// When a page that made progress is closed early.
    pub(super) closes: Instant,
}

/// A page of totals, and after which (start, group) there is more.
#[derive(Debug, PartialEq)]
pub(super) struct Found {
    pub(super) totals: Vec<Total>,
    pub(super) next: Option<(i64, String)>,
}

impl Scan<'_> {
    /// One total for each window and group, in that order.
    pub(super) async fn by_window(self) -> Result<Found, Failure> {
        let mut after = self.after.as_ref().map(|(start, group)| self.end_of(*start, group));
        let mut totals = Vec::new();
        let mut current: Option<Total> = None;
        // The last window and group that is known to be whole, whether it counts or not.
        let mut whole: Option<(i64, String)> = None;
        loop {
            let rows = self.store.rollup_scan(&self.query, after.as_ref(), STEP).await?;
            let more = rows.len() >= STEP;
            after = rows.last().map(|row| row.key.clone()).or(after);
            for row in rows {
                if let Some(total) = &mut current
                    && total.start == row.key.start
                    && total.group == row.key.group
                {
                    total.add(&row);
                    continue;
                }
                if let Some(total) = current.replace(Total::of(row)) {
                    whole = Some((total.start, total.group.clone()));
                    self.keep(total, &mut totals);
                    if totals.len() > self.limit {
                        return Ok(self.cut(totals));
                    }
                }
            }
            if !more {
                if let Some(total) = current {
                    self.keep(total, &mut totals);
                }
                return Ok(self.cut(totals));
            }
            if whole.is_some() && Instant::now() >= self.closes {
                return Ok(Found { totals, next: whole });
            }
        }
    }

    /// One total for each group over the whole range, in the order of groups. The range is read
    /// through for every page; what is kept are the first groups after the last page.
    pub(super) async fn whole_range(self) -> Result<Found, Failure> {
        let passed = self.after.as_ref().map(|(_, group)| group.as_str());
        let mut kept: BTreeMap<String, Total> = BTreeMap::new();
        let mut after: Option<RollupKey> = None;
        loop {
            let rows = self.store.rollup_scan(&self.query, after.as_ref(), STEP).await?;
            let more = rows.len() >= STEP;
            after = rows.last().map(|row| row.key.clone()).or(after);
            for row in rows {
                let group = row.key.group.as_str();
                if let Some(total) = kept.get_mut(group) {
                    total.add(&row);
                    continue;
                }
                // A group past the last one of a full page stays past it: the last only moves down.
                let full = kept.len() > self.limit;
                let beyond =
                    full && kept.last_key_value().is_some_and(|(last, _)| group > last.as_str());
                if beyond || passed.is_some_and(|passed| group <= passed) || !(self.filter)(group) {
                    continue;
                }
                if full {
                    kept.pop_last();
                }
                kept.insert(row.key.group.clone(), Total { start: 0, ..Total::of(row) });
            }
            if !more {
                return Ok(self.cut(kept.into_values().collect()));
            }
        }
    }

    fn keep(&self, total: Total, totals: &mut Vec<Total>) {
        if (self.filter)(&total.group) {
            totals.push(total);
        }
    }

    /// Takes off the one row past the limit that tells whether there is more.
    fn cut(&self, mut totals: Vec<Total>) -> Found {
        let more = totals.len() > self.limit;
        totals.truncate(self.limit);
        let last = totals.last().filter(|_| more);
        Found { next: last.map(|total| (total.start, total.group.clone())), totals }
    }

    /// Past every partition and epoch of a window and group.
    fn end_of(&self, start: i64, group: &str) -> RollupKey {
        RollupKey {
            namespace: self.query.namespace.clone(),
            rollup: self.query.rollup.clone(),
            version: self.query.version,
            window: self.query.window,
            start,
            group: group.to_owned(),
            epoch: u32::MAX,
            partition: u32::MAX,
        }
    }
}
