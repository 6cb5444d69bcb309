//! How many requests, and how many bytes of them, may be under way at once.
//!
//! The number of writes follows the store: while answers come as fast as they do at rest it grows a little
//! at a time, and when they get slow, or the store says that it is overloaded, it shrinks by a
//! share (additive increase, multiplicative decrease). More requests under way than a store works
//! on only wait inside it, where they cost memory and time out. Reads are as different from each
//! other as what they read, so nothing is learnt from them, and they have a number of their own.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Semaphore, SemaphorePermit};

const FEWEST: usize = 8;
const FIRST: usize = 64;
const MOST: usize = 512;

/// Reads under way.
const READS: usize = 256;

/// Bytes of values in writes under way.
const BYTES: usize = 32 * 1024 * 1024;

/// Answers are slow when they take this many times what they take at rest, and so many seconds more.
/// More writes under way than that only wait inside the store, which costs it CPU.
const SLOW: f64 = 2.0;
const SLOW_BY: f64 = 0.002;

/// Seconds in which what an answer takes at rest grows by a factor of e, unless one is faster.
const DRIFT: f64 = 60.0;

/// Two cuts for overload are at least so far apart: what was sent before the first one fails too.
const BETWEEN_CUTS: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Budget {
    writes: Semaphore,
    reads: Semaphore,
    bytes: Semaphore,
    control: Mutex<Control>,
    in_flight: Gauge,
    limit: Gauge,
}

/// Room for one request; given back when dropped.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    budget: &'a Budget,
    write: Option<SemaphorePermit<'a>>,
    _other: SemaphorePermit<'a>,
}

#[derive(Debug)]
struct Control {
    limit: usize,
    /// Permits that are out and will not come back.
    owed: usize,
    answers: usize,
    seconds: f64,
    /// Seconds that an answer takes at rest; drifts upwards, so that a store that got slower for good
    /// is not taken for a busy one for ever.
    at_rest: f64,
    /// When that was last looked at.
    judged: Option<Instant>,
    cut: Option<Instant>,
}

impl Budget {
    pub(super) fn new(in_flight: Gauge, limit: Gauge) -> Self {
        limit.set(FIRST as i64);
        let control = Control {
            limit: FIRST,
            owed: 0,
            answers: 0,
            seconds: 0.0,
            at_rest: f64::INFINITY,
            judged: None,
            cut: None,
        };
        Self {
            writes: Semaphore::new(FIRST),
            reads: Semaphore::new(READS),
            bytes: Semaphore::new(BYTES),
            control: Mutex::new(control),
            in_flight,
            limit,
        }
    }

    /// Waits for room to write so many bytes. `None` only if the budget were closed, which nobody
    /// does.
    pub(super) async fn write(&self, bytes: usize) -> Option<Permit<'_>> {
        let bytes = self.bytes.acquire_many(bytes.clamp(1, BYTES) as u32).await.ok()?;
        let write = Some(self.writes.acquire().await.ok()?);
        self.in_flight.inc();
        Some(Permit { budget: self, write, _other: bytes })
    }

    /// Waits for room to read.
    pub(super) async fn read(&self) -> Option<Permit<'_>> {
        let read = self.reads.acquire().await.ok()?;
        self.in_flight.inc();
        Some(Permit { budget: self, write: None, _other: read })
    }

    /// Learns from the answer to a write.
    pub(super) fn learn(&self, took: Duration, overload: bool) {
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        let before = control.limit;
        let saturated = self.writes.available_permits() == 0;
        control.learn(took.as_secs_f64(), overload, saturated, Instant::now());
        let after = control.limit;
        if after > before {
            let more = after - before;
            let kept = more.min(control.owed);
            control.owed -= kept;
            self.writes.add_permits(more - kept);
        } else {
            control.owed += before - after;
        }
        if after != before {
            self.limit.set(after as i64);
        }
    }
}

impl Control {
    fn learn(&mut self, seconds: f64, overload: bool, saturated: bool, now: Instant) {
        if overload {
            if self.cut.is_none_or(|cut| now.duration_since(cut) >= BETWEEN_CUTS) {
                self.cut = Some(now);
                self.limit = (self.limit / 2).max(FEWEST);
                (self.answers, self.seconds) = (0, 0.0);
            }
            return;
        }
        self.answers += 1;
        self.seconds += seconds;
        if self.answers < self.limit {
            return;
        }
        let average = self.seconds / self.answers as f64;
        (self.answers, self.seconds) = (0, 0.0);
        let passed = self.judged.map_or(0.0, |then| now.duration_since(then).as_secs_f64());
        self.judged = Some(now);
        self.at_rest = (self.at_rest * (1.0 + passed / DRIFT)).min(average);
        if average > self.at_rest * SLOW + SLOW_BY {
            self.limit = (self.limit - self.limit / 8).max(FEWEST);
        } else if saturated {
            self.limit = (self.limit + (self.limit / 16).max(1)).min(MOST);
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.budget.in_flight.dec();
        let Some(write) = self.write.take() else { return };
        let mut control = self.budget.control.lock().unwrap_or_else(PoisonError::into_inner);
        if control.owed > 0 {
            control.owed -= 1;
            write.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget() -> Budget {
        Budget::new(Gauge::default(), Gauge::default())
    }

    fn limit(budget: &Budget) -> usize {
        budget.control.lock().unwrap().limit
    }

    fn answers(budget: &Budget, count: usize, millis: u64) {
        for _ in 0..count {
            budget.learn(Duration::from_millis(millis), false);
        }
    }

    #[tokio::test]
    async fn it_grows_while_all_of_it_is_used_and_answers_are_fast() {
        let budget = budget();
        let mut held = Vec::new();
        for _ in 0..FIRST {
            held.push(budget.write(1).await.unwrap());
        }
        answers(&budget, 10 * MOST, 2);
        assert!(limit(&budget) > FIRST);
        assert_eq!(budget.writes.available_permits(), limit(&budget) - FIRST);
    }

    #[test]
    fn it_does_not_grow_while_less_of_it_is_used() {
        let budget = budget();
        answers(&budget, 10 * MOST, 2);
        assert_eq!(limit(&budget), FIRST);
    }

    #[tokio::test]
    async fn slow_answers_shrink_it_by_shares_down_to_the_fewest() {
        let budget = budget();
        answers(&budget, FIRST, 2);
        answers(&budget, FIRST, 100);
        assert_eq!(limit(&budget), FIRST - FIRST / 8);
        answers(&budget, 40 * FIRST, 100_000);
        assert_eq!(limit(&budget), FEWEST);
        // What is out comes back as far as it is still wanted.
        for _ in 0..4 * FIRST {
            drop(budget.write(1).await.unwrap());
        }
        assert_eq!(budget.writes.available_permits(), FEWEST);
    }

    #[test]
    fn what_answers_take_at_rest_is_forgotten_within_minutes_and_not_within_seconds() {
        let budget = budget();
        let mut control = budget.control.lock().unwrap();
        let begin = Instant::now();
        (0..FIRST).for_each(|_| control.learn(0.001, false, false, begin));
        let mut load = |from: u64, to: u64| {
            for second in from..to {
                let now = begin + Duration::from_secs(second);
                (0..MOST).for_each(|_| control.learn(0.010, false, true, now));
            }
            control.limit
        };
        assert_eq!(load(0, 10), FEWEST);
        assert!(load(10, 300) > FIRST);
    }

    #[test]
    fn a_burst_of_overloads_halves_it_once() {
        let budget = budget();
        for _ in 0..20 {
            budget.learn(Duration::from_secs(6), true);
        }
        assert_eq!(limit(&budget), FIRST / 2);
    }

    #[tokio::test]
    async fn a_request_of_any_size_gets_room() {
        let budget = budget();
        assert!(budget.write(usize::MAX).await.is_some());
    }
}
