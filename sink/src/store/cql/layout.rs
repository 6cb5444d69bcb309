//! Which partition of a table a row lies in. Fixed when the keyspace is made: rows that were
//! written would not be found with another layout.

use service::config::StoreConfig;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed, xxh3_128};

use crate::store::StoreError;

/// Width of a bucket of `events_by_subject`: 30 days.
const SUBJECT_BUCKET: i64 = 30 * 24 * 3_600 * 1_000_000;

/// Windows of a rollup in one bucket.
const ROLLUP_WINDOWS: i64 = 128;

/// How rows are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Width of a bucket of `events` by event time, microseconds.
    pub(super) bucket: i64,
    /// Sub-partitions of a bucket.
    pub(super) subs: i16,
}

impl Layout {
    pub(super) fn of(config: &StoreConfig) -> Result<Self, StoreError> {
        let bucket = i64::try_from(config.bucket.as_micros()).unwrap_or(i64::MAX);
        if bucket < 1_000_000 {
            return Err(StoreError::Fatal("store.bucket must be at least 1s".into()));
        }
        match i16::try_from(config.sub_buckets) {
            Ok(subs @ 1..=1024) => Ok(Self { bucket, subs }),
            _ => Err(StoreError::Fatal(format!(
                "store.sub_buckets is {}, and must be from 1 to 1024",
                config.sub_buckets
            ))),
        }
    }

    /// What is kept in the keyspace and must not change: by name, with the setting to name.
    pub(super) fn fixed(&self) -> [(&'static str, i64, &'static str); 4] {
        [
            ("bucket_micros", self.bucket, "store.bucket"),
            ("sub_buckets", self.subs.into(), "store.sub_buckets"),
            ("subject_bucket_micros", SUBJECT_BUCKET, "(not a setting)"),
            ("rollup_windows", ROLLUP_WINDOWS, "(not a setting)"),
        ]
    }

    /// The bucket of an event of a time.
    pub(super) fn bucket(&self, time: i64) -> i64 {
        time.div_euclid(self.bucket)
    }

    /// The first time of a bucket.
    pub(super) fn begin(&self, bucket: i64) -> i64 {
        bucket.saturating_mul(self.bucket)
    }

    /// The sub-partition of an identity.
    pub(super) fn sub(&self, source: &str, id: &str) -> i16 {
        let hash = xxh3_64_with_seed(id.as_bytes(), xxh3_64(source.as_bytes()));
        // Less than `subs`, which is an i16.
        (hash % u64::from(self.subs.unsigned_abs())) as i16
    }
}

/// The bucket of a subject's events of a time.
pub(super) fn subject_bucket(time: i64) -> i64 {
    time.div_euclid(SUBJECT_BUCKET)
}

/// The first time of a subject's bucket.
pub(super) fn subject_begin(bucket: i64) -> i64 {
    bucket.saturating_mul(SUBJECT_BUCKET)
}

/// The bucket of a window's start. The window that holds all time has one.
pub(super) fn rollup_bucket(window: i64, start: i64) -> i64 {
    match window.checked_mul(ROLLUP_WINDOWS) {
        Some(width) if width > 0 => start.div_euclid(width),
        _ => 0,
    }
}

/// Stands for a few parts. Two of different parts share one with a chance of 2^-128 a pair.
pub(super) fn fingerprint<const N: usize>(scratch: &mut Vec<u8>, parts: [&[u8]; N]) -> u128 {
    scratch.clear();
    for part in parts {
        scratch.extend_from_slice(&(part.len() as u64).to_le_bytes());
        scratch.extend_from_slice(part);
    }
    xxh3_128(scratch)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn layout(bucket: Duration, sub_buckets: u16) -> Result<Layout, StoreError> {
        Layout::of(&StoreConfig { bucket, sub_buckets, ..StoreConfig::default() })
    }

    #[test]
    fn times_before_1970_have_buckets_of_their_own() {
        let layout = layout(Duration::from_secs(1), 1).unwrap();
        let buckets: Vec<i64> = [-1_000_001, -1_000_000, -1, 0, 999_999, 1_000_000]
            .into_iter()
            .map(|time| layout.bucket(time))
            .collect();
        assert_eq!(buckets, [-2, -1, -1, 0, 0, 1]);
        assert_eq!(layout.begin(-2), -2_000_000);
    }

    #[test]
    fn a_layout_that_cannot_be_is_refused() {
        for (bucket, subs) in [(0, 1), (1, 0), (1, 1025), (1, u16::MAX)] {
            assert!(layout(Duration::from_secs(bucket), subs).is_err(), "{bucket} {subs}");
        }
    }

    #[test]
    fn sub_partitions_are_where_they_always_were() {
        let layout = layout(Duration::from_secs(1), 8).unwrap();
        let subs: Vec<i16> = ["a", "b", "c", "d"].map(|id| layout.sub("/s", id)).into();
        assert_eq!(subs, SUBS_OF_A_TO_D);
    }

    /// As the first version placed them: a change here loses what is stored.
    const SUBS_OF_A_TO_D: [i16; 4] = [4, 0, 6, 2];

    #[test]
    fn the_window_of_all_time_has_one_bucket() {
        assert_eq!(rollup_bucket(0, i64::MIN), 0);
        assert_eq!(rollup_bucket(0, 5), 0);
        assert_eq!(rollup_bucket(10, 1279), 0);
        assert_eq!(rollup_bucket(10, 1280), 1);
        assert_eq!(rollup_bucket(10, -1), -1);
    }
}
