//! Which rows of the directories (`buckets`, `subject_buckets`, `rollup_buckets`) are known to be
//! there, so that one is written before the first row of its bucket and not with every flush.
//!
//! The invariant: a directory's row outlives every row it leads to. It is written with a longer
//! life than theirs, and again when that difference is used up.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// More are forgotten, and so written again.
const MOST: usize = 100_000;

/// For how long a row is known at least: its life is longer than its rows' by as much.
const FRESH: Duration = Duration::from_secs(24 * 3_600);

#[derive(Debug, Default)]
pub(super) struct Known(Mutex<HashMap<u128, Instant>>);

impl Known {
    /// Whether it was written lately enough.
    pub(super) fn has(&self, fingerprint: u128) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&fingerprint).is_some_and(|written| written.elapsed() < FRESH)
    }

    /// It was written, by a request that began then.
    pub(super) fn add(&self, fingerprint: u128, began: Instant) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(fingerprint, began);
    }
}

/// The life of a directory's row whose rows live so long, in seconds; 0 is for ever.
pub(super) fn life(rows: i32) -> i32 {
    match rows {
        0 => 0,
        rows => {
            // An hour for clocks and for the time that writing takes.
            let longer = rows.saturating_add(FRESH.as_secs() as i32 + 3_600);
            if longer > super::retention::LONGEST { 0 } else { longer }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_long_ago_is_written_again() {
        let known = Known::default();
        assert!(!known.has(1));
        known.add(1, Instant::now());
        assert!(known.has(1));
        if let Some(long_ago) = Instant::now().checked_sub(FRESH) {
            known.add(1, long_ago);
            assert!(!known.has(1));
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let known = Known::default();
        (0..=MOST as u128).for_each(|n| known.add(n, Instant::now()));
        assert_eq!(known.0.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_directory_outlives_its_rows() {
        assert_eq!(life(0), 0);
        assert!(life(10) > 10 + FRESH.as_secs() as i32);
        assert_eq!(life(i32::MAX), 0);
    }
}
