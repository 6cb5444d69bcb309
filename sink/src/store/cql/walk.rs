//! Ordered reading across partitions: groups of lanes, one group after the other.
//!
//! A lane is one partition's rows, in order, fetched a chunk at a time. The lanes of a group (the
//! sub-partitions of a bucket) are merged; groups (buckets) follow each other, so that all of one
//! come before all of the next. The invariant: a row is given out only when every lane of its group
//! that may still have rows shows its next one.

use std::collections::VecDeque;

use futures_util::future::try_join_all;

use crate::store::StoreError;

/// Rows of a lane that are fetched at once, at most.
const CHUNK: usize = 500;

/// Rows of a lane that are fetched before it is known how large they are.
const SAMPLE: usize = 8;

/// Lanes that are fetched at the same time for groups to come.
const AHEAD: usize = 64;

/// A partition that can be read in order.
pub(super) trait Lane: Sized {
    /// What it holds.
    type Row;

    /// Up to `limit` rows behind `last`, or from the beginning. Fewer are the end.
    async fn fetch(
        &self,
        last: Option<&Self::Row>,
        limit: usize,
    ) -> Result<Vec<Self::Row>, StoreError>;

    /// About how many bytes a row takes in memory.
    fn size(_: &Self::Row) -> usize {
        0
    }

    /// Whether a row of this lane comes before one of another lane of the group.
    fn before(&self, row: &Self::Row, other: &Self, other_row: &Self::Row) -> bool;
}

struct Reading<L: Lane> {
    lane: L,
    rows: VecDeque<L::Row>,
    /// The row given out last, where the next chunk begins, once `rows` is empty.
    last: Option<L::Row>,
    more: bool,
    chunk: usize,
    /// What is fetched once a row's size is known, and twice as much each time after.
    wanted: usize,
    /// No chunk has more rows.
    most: usize,
    /// Nor more bytes, by the sizes of the one before.
    bytes: usize,
}

impl<L: Lane> Reading<L> {
    fn wants(&self) -> bool {
        self.rows.is_empty() && self.more
    }

    async fn fill(&mut self) -> Result<(), StoreError> {
        let rows = self.lane.fetch(self.last.as_ref(), self.chunk).await?;
        self.more = rows.len() >= self.chunk;
        let size = rows.iter().map(L::size).sum::<usize>() / rows.len().max(1);
        let fits = (self.bytes / size.max(1)).max(1);
        self.chunk = (self.chunk * 2).max(self.wanted).min(self.most).min(fits);
        self.rows = rows.into();
        Ok(())
    }
}

/// Reads groups of lanes in order.
pub(super) struct Walk<L: Lane> {
    groups: VecDeque<Vec<Reading<L>>>,
    /// Groups that are fetched with the first: doubled with each that did not suffice.
    ahead: usize,
}

impl<L: Lane> Walk<L>
where
    L::Row: Clone,
{
    /// A walk through groups, fetching `chunk` rows of a lane at first, and twice as many each time, up to
    /// `most` rows.
    pub(super) fn new(groups: impl Iterator<Item = Vec<L>>, chunk: usize, most: usize) -> Self {
        Self::bounded(groups, chunk, most, usize::MAX)
    }

    /// The same where rows may be large: a lane's first few rows tell how many more make so many bytes.
    pub(super) fn bounded(
        groups: impl Iterator<Item = Vec<L>>,
        chunk: usize,
        most: usize,
        bytes: usize,
    ) -> Self {
        let most = most.clamp(1, CHUNK);
        let wanted = chunk.clamp(1, most);
        let chunk = if bytes == usize::MAX { wanted } else { wanted.min(SAMPLE) };
        let reading = |lane| Reading {
            lane,
            rows: VecDeque::new(),
            last: None,
            more: true,
            chunk,
            wanted,
            most,
            bytes,
        };
        let groups = groups.map(|lanes| lanes.into_iter().map(reading).collect()).collect();
        Self { groups, ahead: 1 }
    }

    /// Groups that are left, the one that is being read included.
    pub(super) fn groups(&self) -> usize {
        self.groups.len()
    }

    /// The next row; `None` at the end of the group that is being read, which is then left.
    pub(super) async fn next(&mut self) -> Result<Option<L::Row>, StoreError> {
        let Some(group) = self.groups.front() else { return Ok(None) };
        if group.iter().any(Reading::wants) {
            self.fill().await?;
        }
        let Some(group) = self.groups.front_mut() else { return Ok(None) };
        let mut best: Option<usize> = None;
        for (index, reading) in group.iter().enumerate() {
            let Some(row) = reading.rows.front() else { continue };
            let first = match best.map(|best| &group[best]) {
                None => true,
                Some(best) => match best.rows.front() {
                    None => true,
                    Some(best_row) => reading.lane.before(row, &best.lane, best_row),
                },
            };
            if first {
                best = Some(index);
            }
        }
        let Some(best) = best else {
            self.groups.pop_front();
            self.ahead = (self.ahead * 2).min(AHEAD);
            return Ok(None);
        };
        let reading = &mut group[best];
        let row = reading.rows.pop_front();
        if reading.rows.is_empty() && reading.more {
            reading.last.clone_from(&row);
        }
        Ok(row)
    }

    /// Fetches what the first group needs, and what the next few do.
    async fn fill(&mut self) -> Result<(), StoreError> {
        let mut lanes = 0;
        let wanting = self.groups.iter_mut().take(self.ahead).flat_map(|group| {
            let fits = lanes == 0 || lanes + group.len() <= AHEAD;
            lanes += group.len();
            group.iter_mut().filter(move |reading| fits && reading.wants())
        });
        try_join_all(wanting.map(Reading::fill)).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Numbers in order, fetched as asked.
    struct Numbers<'a> {
        rows: Vec<u32>,
        fetches: &'a AtomicUsize,
    }

    impl Lane for Numbers<'_> {
        type Row = u32;

        async fn fetch(&self, last: Option<&u32>, limit: usize) -> Result<Vec<u32>, StoreError> {
            self.fetches.fetch_add(1, Ordering::Relaxed);
            let behind = |row: &&u32| last.is_none_or(|last| *row > last);
            Ok(self.rows.iter().filter(behind).take(limit).copied().collect())
        }

        fn before(&self, row: &u32, _: &Self, other: &u32) -> bool {
            row < other
        }
    }

    async fn walked(groups: &[&[&[u32]]], chunk: usize, most: usize) -> (Vec<u32>, usize) {
        let fetches = AtomicUsize::new(0);
        let lanes = |group: &&[&[u32]]| {
            group.iter().map(|rows| Numbers { rows: rows.to_vec(), fetches: &fetches }).collect()
        };
        let mut walk = Walk::new(groups.iter().map(lanes), chunk, most);
        let mut rows = Vec::new();
        while walk.groups() > 0 {
            rows.extend(walk.next().await.unwrap());
        }
        (rows, fetches.into_inner())
    }

    #[tokio::test]
    async fn lanes_are_merged_and_groups_follow_each_other() {
        let groups: &[&[&[u32]]] = &[&[&[7, 9, 12], &[8], &[]], &[], &[&[1, 4], &[2, 3, 5, 6]]];
        for chunk in [1, 2, 3, 100] {
            let (rows, _) = walked(groups, chunk, 100).await;
            assert_eq!(rows, [7, 8, 9, 12, 1, 2, 3, 4, 5, 6], "by {chunk}");
        }
    }

    #[tokio::test]
    async fn a_lane_that_gave_less_than_asked_is_not_asked_again() {
        let (_, fetches) = walked(&[&[&[1, 2], &[3]]], 10, 10).await;
        assert_eq!(fetches, 2);
    }

    #[tokio::test]
    async fn chunks_grow_up_to_a_bound() {
        let rows: Vec<u32> = (0..30).collect();
        // 2, 4, 8, 16, 0; and 2, 3, 3, ..., 1
        assert_eq!(walked(&[&[&rows]], 2, 100).await.1, 5);
        assert_eq!(walked(&[&[&rows]], 2, 3).await.1, 11);
    }
}
