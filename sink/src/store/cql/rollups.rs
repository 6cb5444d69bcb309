//! Rollup rows by key, and in order across the partitions that folded them.

use std::collections::{BTreeMap, HashMap};

use super::{
    Cql,
    client::{call, each, unread},
    decode::{self, Measured},
    layout::rollup_bucket,
    walk::{Lane, Walk},
};
use crate::store::{RollupKey, RollupQuery, RollupRow, StoreError};

/// Keys asked for in one request.
const KEYS: usize = 100;

/// Rows of the directory read at once.
const DIRECTORY: usize = 1_000;

/// Partitions of the table that a folded partition's rows of a bucket lie in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    bucket: i64,
    epoch: u32,
    partition: u32,
}

/// Where a scan stands in the partitions of a bucket.
struct ScanLane<'a> {
    cql: &'a Cql,
    query: &'a RollupQuery,
    after: Option<&'a RollupKey>,
    place: Place,
}

type Cells = (i64, String, Option<i64>, Option<i64>, Option<Vec<Measured>>);

impl Lane for ScanLane<'_> {
    type Row = RollupRow;

    async fn fetch(
        &self,
        last: Option<&RollupRow>,
        limit: usize,
    ) -> Result<Vec<RollupRow>, StoreError> {
        let Self { cql, query, after, place } = *self;
        let own = (place.epoch, place.partition);
        let (beyond, start, group) = match (last, after) {
            (Some(last), _) => (true, last.key.start, last.key.group.as_str()),
            (None, Some(after)) if after.start >= query.from => {
                (own <= (after.epoch, after.partition), after.start, after.group.as_str())
            }
            (None, _) => (false, query.from, ""),
        };
        let values = (
            &*query.namespace,
            &*query.rollup,
            query.version.0.cast_signed(),
            query.window,
            place.bucket,
            place.epoch.cast_signed(),
            place.partition.cast_signed(),
            start,
            group,
            query.to,
            limit as i32,
        );
        let statement = &cql.statements.rollup_scan[usize::from(beyond)];
        let found = cql.client.rows(call::READ_ROLLUPS, statement, values).await?;
        let mut rows = Vec::with_capacity(found.rows_num());
        for cells in found.rows::<Cells>().map_err(unread)? {
            let (start, group, events, last_offset, measures) = cells.map_err(unread)?;
            let key = RollupKey {
                namespace: query.namespace.clone(),
                rollup: query.rollup.clone(),
                version: query.version,
                window: query.window,
                start,
                group,
                epoch: place.epoch,
                partition: place.partition,
            };
            rows.extend(row(key, events, last_offset, measures));
        }
        Ok(rows)
    }

    fn before(&self, row: &RollupRow, _: &Self, other: &RollupRow) -> bool {
        order(row) < order(other)
    }
}

fn order(row: &RollupRow) -> (i64, &str, u32, u32) {
    let key = &row.key;
    (key.start, &key.group, key.epoch, key.partition)
}

fn row(
    key: RollupKey,
    events: Option<i64>,
    last_offset: Option<i64>,
    measures: Option<Vec<Measured>>,
) -> Option<RollupRow> {
    Some(RollupRow {
        key,
        count: events?.cast_unsigned(),
        measures: decode::measures(measures.unwrap_or_default()),
        last_offset: last_offset?.cast_unsigned(),
    })
}

impl Cql {
    pub(super) async fn rollups_by_key(
        &self,
        keys: &[RollupKey],
    ) -> Result<Vec<Option<RollupRow>>, StoreError> {
        // By partition of the table: neighbours are asked for together.
        let mut order: Vec<usize> = (0..keys.len()).collect();
        let place = |&index: &usize| {
            let key = &keys[index];
            let bucket = rollup_bucket(key.window, key.start);
            let numbers = (bucket, key.version.0, key.window, key.epoch, key.partition);
            (numbers, &key.rollup, &key.namespace)
        };
        order.sort_unstable_by_key(place);
        let partitions = order.chunk_by(|a, b| place(a) == place(b));
        let asked: Vec<&[usize]> = partitions.flat_map(|some| some.chunks(KEYS)).collect();
        let found = std::sync::Mutex::new(vec![None; keys.len()]);
        let lock = || found.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (asked, lock) = (&asked, &lock);
        each(asked.len(), |number| {
            Box::pin(async move {
                let rows = self.neighbours(keys, asked[number]).await?;
                let mut found = lock();
                for &index in asked[number] {
                    let key = &keys[index];
                    found[index] = rows.get(&(key.start, key.group.as_str())).cloned();
                }
                Ok(())
            })
        })
        .await?;
        Ok(found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Rows of keys that lie in one partition, by start and group.
    async fn neighbours<'k>(
        &self,
        keys: &'k [RollupKey],
        indexes: &[usize],
    ) -> Result<HashMap<(i64, &'k str), RollupRow>, StoreError> {
        let Some(first) = indexes.first().map(|&index| &keys[index]) else {
            return Ok(HashMap::new());
        };
        let wanted: HashMap<(i64, &str), &RollupKey> = indexes
            .iter()
            .map(|&index| ((keys[index].start, keys[index].group.as_str()), &keys[index]))
            .collect();
        let among: Vec<(i64, &str)> = wanted.keys().copied().collect();
        let values = (
            &*first.namespace,
            &*first.rollup,
            first.version.0.cast_signed(),
            first.window,
            rollup_bucket(first.window, first.start),
            first.epoch.cast_signed(),
            first.partition.cast_signed(),
            among,
        );
        let statement = &self.statements.rollup_rows;
        let found = self.client.rows(call::READ_ROLLUPS, statement, values).await?;
        let mut rows = HashMap::with_capacity(found.rows_num());
        for cells in found.rows::<Cells>().map_err(unread)? {
            let (start, group, events, last_offset, measures) = cells.map_err(unread)?;
            let Some(key) = wanted.get(&(start, group.as_str())).copied() else { continue };
            if let Some(row) = row(key.clone(), events, last_offset, measures) {
                rows.insert((key.start, key.group.as_str()), row);
            }
        }
        Ok(rows)
    }

    pub(super) async fn scan_rollups(
        &self,
        query: &RollupQuery,
        after: Option<&RollupKey>,
        limit: usize,
    ) -> Result<Vec<RollupRow>, StoreError> {
        let from = after.map_or(query.from, |after| after.start.max(query.from));
        let mut rows = Vec::new();
        if from >= query.to {
            return Ok(rows);
        }
        let last = rollup_bucket(query.window, query.to - 1);
        let mut begin =
            Some(Place { bucket: rollup_bucket(query.window, from), epoch: 0, partition: 0 });
        while let Some(place) = begin {
            let (groups, next) = self.directory(query, place, last).await?;
            begin = next;
            let widest = groups.values().map(Vec::len).max().unwrap_or(1);
            let lanes = |places: Vec<Place>| -> Vec<ScanLane<'_>> {
                places
                    .into_iter()
                    .map(|place| ScanLane { cql: self, query, after, place })
                    .collect()
            };
            let chunk = limit.saturating_sub(rows.len()) / widest + 8;
            let mut walk = Walk::new(groups.into_values().map(lanes), chunk, usize::MAX);
            while walk.groups() > 0 {
                if rows.len() >= limit {
                    return Ok(rows);
                }
                rows.extend(walk.next().await?);
            }
        }
        Ok(rows)
    }

    /// Whole buckets from a place on, with the places in each, and where to go on.
    async fn directory(
        &self,
        query: &RollupQuery,
        begin: Place,
        last: i64,
    ) -> Result<(BTreeMap<i64, Vec<Place>>, Option<Place>), StoreError> {
        let mut groups: BTreeMap<i64, Vec<Place>> = BTreeMap::new();
        // Behind the one before it: numbers of epochs and partitions are not negative.
        let mut behind = (begin.bucket, -1, -1);
        loop {
            let values = (
                &*query.namespace,
                &*query.rollup,
                query.version.0.cast_signed(),
                query.window,
                behind.0,
                behind.1,
                behind.2,
                last,
                DIRECTORY as i32,
            );
            let statement = &self.statements.rollup_buckets;
            let found = self.client.rows(call::READ_BUCKETS, statement, values).await?;
            for row in found.rows::<(i64, i32, i32)>().map_err(unread)? {
                let (bucket, epoch, partition) = row.map_err(unread)?;
                behind = (bucket, epoch, partition);
                let (epoch, partition) = (epoch.cast_unsigned(), partition.cast_unsigned());
                groups.entry(bucket).or_default().push(Place { bucket, epoch, partition });
            }
            if found.rows_num() < DIRECTORY {
                return Ok((groups, None));
            }
            // The last one may not be whole yet.
            if groups.len() > 1
                && let Some((bucket, _)) = groups.pop_last()
            {
                return Ok((groups, Some(Place { bucket, epoch: 0, partition: 0 })));
            }
        }
    }
}
