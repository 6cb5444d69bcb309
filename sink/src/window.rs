//! The deduplication window of one partition: which identities went by lately.
//!
//! It answers one question, "can an earlier copy of this event exist?", with *no* or *perhaps*;
//! only *perhaps* costs a read of the locator. It is not what decides a duplicate. The invariant:
//! a *no* is never wrong, so a filter without false negatives, and what lies before the window is
//! judged by time alone. Its size changes how many reads are made, never an answer.

use std::collections::VecDeque;

use fastbloom::BloomFilter;

/// About 0.3 % of what was never seen looks as if it had been, in each generation.
const BITS_PER_RECORD: usize = 12;
/// The first generation's records: a small stream pays for no more.
const FIRST_GENERATION: usize = 16_384;
/// A full window forgets a quarter of itself at a time.
const GENERATIONS: usize = 4;

/// The identities of a partition's records from some offset on.
#[derive(Debug)]
pub(crate) struct Window {
    generations: VecDeque<Generation>,
    capacity: usize,
    before: Before,
    /// Records of former epochs were appended up to this time.
    floor: i64,
}

/// What is known of the records before the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    /// There never were any, in any epoch.
    Nothing,
    /// All were appended at or before this time, in microseconds.
    UpTo(i64),
    /// Not known until the window has its first record.
    Unknown,
}

#[derive(Debug)]
struct Generation {
    filter: BloomFilter,
    records: usize,
    capacity: usize,
    latest: i64,
}

impl Window {
    /// An empty window that will hold at most `capacity` records. Former epochs, which no
    /// window of this one can hold, had records up to the time `floor`.
    pub(crate) fn new(capacity: usize, before: Before, floor: i64) -> Self {
        let before = match before {
            Before::UpTo(time) => Before::UpTo(time.max(floor)),
            other => other,
        };
        Self { generations: VecDeque::new(), capacity, before, floor }
    }

    /// Whether an identity with this hash may have gone by within the window.
    pub(crate) fn saw(&self, hash: u64) -> bool {
        self.generations.iter().rev().any(|g| g.filter.contains_hash(hash))
    }

    /// Adds the next record of the partition.
    pub(crate) fn insert(&mut self, hash: u64, appended_at: i64) {
        if self.before == Before::Unknown {
            self.before = Before::UpTo(appended_at.max(self.floor));
        }
        if self.capacity == 0 {
            return self.forget(appended_at);
        }
        if self.generations.back().is_none_or(|g| g.records == g.capacity) {
            self.grow();
        }
        if let Some(last) = self.generations.back_mut() {
            last.filter.insert_hash(hash);
            last.records += 1;
            last.latest = last.latest.max(appended_at);
        }
    }

    /// The window turned out to begin later than thought: records before it are gone unseen.
    pub(crate) fn lose_sight(&mut self) {
        self.before = Before::Unknown;
    }

    /// What is known of the records before the window.
    pub(crate) fn before(&self) -> Before {
        self.before
    }

    /// Records in the window.
    pub(crate) fn len(&self) -> usize {
        self.generations.iter().map(|g| g.records).sum()
    }

    fn grow(&mut self) {
        let full = self.capacity.div_ceil(GENERATIONS);
        let wanted = self.generations.back().map_or(FIRST_GENERATION, |g| g.capacity * 4).min(full);
        let mut held: usize = self.generations.iter().map(|g| g.capacity).sum();
        while held + wanted > self.capacity {
            let Some(oldest) = self.generations.pop_front() else { break };
            held -= oldest.capacity;
            self.forget(oldest.latest);
        }
        let bits = (wanted * BITS_PER_RECORD).max(64);
        let filter = BloomFilter::with_num_bits(bits).expected_items(wanted);
        self.generations.push_back(Generation {
            filter,
            records: 0,
            capacity: wanted,
            latest: i64::MIN,
        });
    }

    fn forget(&mut self, latest: i64) {
        self.before = match self.before {
            Before::UpTo(time) => Before::UpTo(time.max(latest)),
            Before::Nothing | Before::Unknown => Before::UpTo(latest),
        };
    }
}

/// What the window says of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// No earlier copy exists.
    New,
    /// The locator must say.
    LookUp,
}

/// The times of a record that the decision needs, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// The event's own.
    pub(crate) time: i64,
    /// The door filled it in, so an earlier copy may carry another.
    pub(crate) time_filled: bool,
    /// The log's.
    pub(crate) appended_at: i64,
}

/// Whether an event can have an earlier copy. A copy is never appended before the event's `time`
/// less `skew`, so one that the window has not seen lies before it only if that reaches so far back.
pub(crate) fn decide(seen: bool, times: Times, before: Before, skew: i64) -> Decision {
    if seen {
        return Decision::LookUp;
    }
    let Before::UpTo(before) = before else {
        return if before == Before::Nothing { Decision::New } else { Decision::LookUp };
    };
    let ahead = times.time > times.appended_at.saturating_add(skew); // breaks the rule itself
    if !times.time_filled && !ahead && times.time.saturating_sub(skew) > before {
        Decision::New
    } else {
        Decision::LookUp
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SKEW: i64 = 10;

    fn at(time: i64) -> Times {
        Times { time, time_filled: false, appended_at: time }
    }

    #[test]
    fn an_event_the_filter_has_seen_is_looked_up_wherever_the_window_reaches() {
        assert_eq!(decide(true, at(1_000), Before::Nothing, SKEW), Decision::LookUp);
        assert_eq!(decide(true, at(1_000), Before::UpTo(0), SKEW), Decision::LookUp);
    }

    #[test]
    fn a_window_over_everything_spares_every_look_up_of_the_unseen() {
        let filled = Times { time: -5, time_filled: true, appended_at: 1_000 };
        assert_eq!(decide(false, filled, Before::Nothing, SKEW), Decision::New);
    }

    #[test]
    fn an_unseen_event_is_new_only_if_its_time_less_the_skew_is_within_the_window() {
        assert_eq!(decide(false, at(1_011), Before::UpTo(1_000), SKEW), Decision::New);
        assert_eq!(decide(false, at(1_010), Before::UpTo(1_000), SKEW), Decision::LookUp);
    }

    #[test]
    fn a_time_filled_in_at_the_door_proves_nothing() {
        let times = Times { time_filled: true, ..at(5_000) };
        assert_eq!(decide(false, times, Before::UpTo(0), SKEW), Decision::LookUp);
    }

    #[test]
    fn a_time_ahead_of_the_log_by_more_than_the_skew_proves_nothing() {
        let ahead = |by| Times { time: 5_000 + by, time_filled: false, appended_at: 5_000 };
        assert_eq!(decide(false, ahead(SKEW), Before::UpTo(0), SKEW), Decision::New);
        assert_eq!(decide(false, ahead(SKEW + 1), Before::UpTo(0), SKEW), Decision::LookUp);
    }

    #[test]
    fn a_window_that_knows_nothing_of_what_came_before_looks_up() {
        assert_eq!(decide(false, at(5_000), Before::Unknown, SKEW), Decision::LookUp);
    }

    #[test]
    fn the_first_record_dates_a_window_that_did_not_know() {
        let mut window = Window::new(100, Before::Unknown, i64::MIN);
        window.insert(1, 77);
        assert_eq!(window.before(), Before::UpTo(77));
    }

    #[test]
    fn no_window_reaches_behind_the_start_of_a_later_epoch() {
        let mut unknown = Window::new(100, Before::Unknown, 50);
        unknown.insert(1, 20);
        assert_eq!(unknown.before(), Before::UpTo(50));
        assert_eq!(Window::new(100, Before::UpTo(20), 50).before(), Before::UpTo(50));
    }

    #[test]
    fn a_window_remembers_what_it_holds_and_dates_what_it_forgot() {
        for capacity in [1, 2, 3, 8, 100, 20_000, 100_000] {
            let mut window = Window::new(capacity, Before::Nothing, i64::MIN);
            for n in 0..200_000_u64 {
                window.insert(spread(n), n as i64);
                assert!(window.saw(spread(n)), "capacity {capacity}, record {n}");
                if n % 1_000 == 7 {
                    let first = match window.before() {
                        Before::Nothing => 0,
                        Before::UpTo(time) => time as u64 + 1,
                        Before::Unknown => unreachable!(),
                    };
                    assert!(window.len() <= capacity);
                    assert_eq!(window.len() as u64, n + 1 - first);
                    assert!((first..=n).step_by(997).all(|m| window.saw(spread(m))));
                }
            }
        }
    }

    #[test]
    fn a_full_window_keeps_at_least_half_of_its_bound() {
        let mut window = Window::new(1_000, Before::Nothing, i64::MIN);
        (0..100_000).for_each(|n| window.insert(spread(n), 0));
        assert!(window.len() >= 500, "{}", window.len());
    }

    #[test]
    fn a_window_of_no_records_knows_nothing_but_the_time() {
        let mut window = Window::new(0, Before::Nothing, i64::MIN);
        window.insert(1, 5);
        assert_eq!((window.saw(1), window.before()), (false, Before::UpTo(5)));
    }

    #[test]
    fn what_was_not_seen_rarely_looks_as_if_it_had_been() {
        let mut window = Window::new(100_000, Before::Nothing, i64::MIN);
        (0..100_000).for_each(|n| window.insert(spread(n), 0));
        let wrong = (200_000..300_000).filter(|n| window.saw(spread(*n))).count();
        assert!(wrong < 3_000, "{wrong}");
    }

    fn spread(n: u64) -> u64 {
        xxhash_rust::xxh3::xxh3_64(&n.to_be_bytes())
    }
}
