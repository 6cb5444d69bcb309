//! How long rows stay: a time to live with every write, so that the server takes them away.
//!
//! A row of an event lives until its append plus the retention, whenever it is written: a replay
//! ends at the same moment as the first write, and one that comes after it is not written at all.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use service::config::RetentionConfig;

/// What servers take at most: 20 years. Longer is for ever.
pub(super) const LONGEST: i32 = 20 * 365 * 86_400;

/// A time to live in seconds; 0 is for ever.
pub(super) fn seconds(keep: Duration) -> i32 {
    match keep.as_secs() {
        seconds if seconds >= LONGEST as u64 => 0,
        seconds => seconds.max(1) as i32,
    }
}

/// Microseconds since the Unix epoch.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// How long what is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retention {
    /// Events, since the append.
    pub(super) events: Age,
    /// Seconds that an event lives at most; 0 is for ever.
    pub(super) events_life: i32,
    /// Identities, since the append: as long as events, so that none is there without.
    pub(super) identities: Age,
    /// Seconds that a rollup row lives, since its last write; 0 is for ever.
    pub(super) rollups: i32,
}

/// How old a row may get.
#[derive(Clone, Copy, Debug)]
pub(super) struct Age(Option<i64>);

impl Retention {
    pub(super) fn of(config: &RetentionConfig) -> Self {
        Self {
            events: Age::of(config.events),
            events_life: seconds(config.events),
            identities: Age::of(config.rollups.max(config.events)),
            rollups: seconds(config.rollups),
        }
    }
}

impl Age {
    fn of(keep: Duration) -> Self {
        Self((seconds(keep) > 0).then(|| i64::try_from(keep.as_micros()).unwrap_or(i64::MAX)))
    }

    /// The time to live of a row of a time, written now; `None` when it is past it already.
    pub(super) fn left(self, since: i64, now: i64) -> Option<i32> {
        let Some(keep) = self.0 else { return Some(0) };
        let left = since.saturating_add(keep).saturating_sub(now);
        match left / 1_000_000 {
            _ if left <= 0 => None,
            // Clocks may differ: no row lives longer than one that is appended now.
            seconds => Some(seconds.clamp(1, (keep / 1_000_000).max(1)) as i32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn age(seconds: u64) -> Age {
        Age::of(Duration::from_secs(seconds))
    }

    #[test]
    fn a_replay_ends_when_the_first_write_does() {
        assert_eq!(age(100).left(0, 0), Some(100));
        assert_eq!(age(100).left(0, 60 * SECOND), Some(40));
        assert_eq!(age(100).left(0, 100 * SECOND - 1), Some(1));
    }

    #[test]
    fn what_is_past_its_retention_is_not_written() {
        assert_eq!(age(100).left(0, 100 * SECOND), None);
    }

    #[test]
    fn a_clock_that_is_behind_lets_nothing_live_longer() {
        assert_eq!(age(100).left(500 * SECOND, 0), Some(100));
    }

    #[test]
    fn what_servers_cannot_count_is_for_ever() {
        assert_eq!(age(LONGEST as u64).left(0, i64::MAX), Some(0));
        assert_eq!(seconds(Duration::from_secs(LONGEST as u64)), 0);
        assert_eq!(seconds(Duration::from_secs(LONGEST as u64 - 1)), LONGEST - 1);
    }
}
