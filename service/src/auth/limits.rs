//! How much a key may post: events and bytes a second, each with a burst.
//!
//! Both are decided as one: a request is charged for its events and its bytes, or for nothing. Each
//! is a leaky bucket of the `governor` crate whose state is kept here, so that what the first
//! granted can be given back when the second refuses; otherwise a client that retries too
//! early would eat the events that its next request needs.

use std::{
    fmt,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::StateInformationMiddleware,
    nanos::Nanos,
    state::{NotKeyed, StateStore},
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::RateConfig;

/// draft-ietf-httpapi-ratelimit-headers
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");

/// The limits of one key, and what is left of them.
pub struct Limits {
    config: RateConfig,
    events: Option<Meter>,
    bytes: Option<Meter>,
    policy: Option<HeaderValue>,
    /// Held while both are decided.
    deciding: Mutex<()>,
}

/// Why a request is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OverLimit {
    /// It will pass later.
    #[error(
        "the key may post {per_second} {unit} a second; retry the whole request after {} s",
        wait.as_secs() + 1
    )]
    Rate {
        /// `events` or `bytes`.
        unit: &'static str,
        /// The limit.
        per_second: u64,
        /// How long until it passes, if nothing else is posted.
        wait: Duration,
    },
    /// It is more than ever passes at once.
    #[error(
        "the request has {asked} {unit}, and the key may post at most {burst} {unit} at once; send \
         smaller batches"
    )]
    Burst {
        /// `events` or `bytes`.
        unit: &'static str,
        /// What it has.
        asked: u64,
        /// What passes at most.
        burst: u64,
    },
}

impl Limits {
    /// Full buckets.
    pub fn new(config: &RateConfig) -> Self {
        let start = Instant::now();
        Self::with_clock(config, Ticks(Arc::new(move || start.elapsed())))
    }

    fn with_clock(config: &RateConfig, clock: Ticks) -> Self {
        let meter = |unit, per_second: Option<u64>| {
            Some(Meter::new(unit, per_second?, config.burst, clock.clone()))
        };
        let (events, bytes) = (meter("events", config.events), meter("bytes", config.bytes));
        let policy = fields([&events, &bytes], |meter| {
            let window = config.burst.as_secs().max(1);
            format!(r#""{}";q={};w={window};qu="{0}""#, meter.unit, meter.burst)
        });
        Self { config: config.clone(), events, bytes, policy, deciding: Mutex::default() }
    }

    /// What it was made of.
    pub(super) fn config(&self) -> &RateConfig {
        &self.config
    }

    /// Charges a request, as a whole or not at all.
    ///
    /// # Errors
    /// It is too much, now or ever.
    pub fn take(&self, events: usize, bytes: usize) -> Result<(), OverLimit> {
        let _deciding = self.deciding.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.events.as_ref().map(|meter| meter.cell.get());
        Meter::take_of(&self.events, events)?;
        Meter::take_of(&self.bytes, bytes).inspect_err(|_| self.give_back(before))
    }

    /// Whether [`Limits::take`] would pass now, charging nothing.
    ///
    /// # Errors
    /// It would not.
    pub fn would_take(&self, events: usize, bytes: usize) -> Result<(), OverLimit> {
        let _deciding = self.deciding.lock().unwrap_or_else(PoisonError::into_inner);
        for (meter, asked) in [(&self.events, events), (&self.bytes, bytes)] {
            let Some(meter) = meter else { continue };
            let before = meter.cell.get();
            let taken = meter.take(asked as u64);
            meter.cell.set(before);
            taken?;
        }
        Ok(())
    }

    fn give_back(&self, before: Option<Option<Nanos>>) {
        if let (Some(meter), Some(before)) = (&self.events, before) {
            meter.cell.set(before);
        }
    }

    /// Says in an answer what the limits are, and what is left of them.
    pub fn tell(&self, headers: &mut HeaderMap) {
        let _deciding = self.deciding.lock().unwrap_or_else(PoisonError::into_inner);
        let state = fields([&self.events, &self.bytes], |meter| {
            let left = meter.left();
            let full_in = (meter.burst - left).div_ceil(meter.per_second);
            format!(r#""{}";r={left};t={full_in}"#, meter.unit)
        });
        for (name, value) in [(POLICY, self.policy.clone()), (STATE, state)] {
            if let Some(value) = value {
                headers.insert(name, value);
            }
        }
    }
}

/// Two keys of equal limits still have each their own.
impl PartialEq for Limits {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Limits {}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Limits").field(&self.config).finish()
    }
}

fn fields(meters: [&Option<Meter>; 2], field: impl Fn(&Meter) -> String) -> Option<HeaderValue> {
    let fields: Vec<String> = meters.into_iter().flatten().map(field).collect();
    HeaderValue::try_from(fields.join(", ")).ok().filter(|value| !value.is_empty())
}

/// One bucket.
struct Meter {
    unit: &'static str,
    per_second: u64,
    burst: u64,
    /// Units in one cell of the limiter. The limiter reckons in whole nanoseconds for a cell, so
    /// that more than about a million cells a second would be inexact.
    grain: u64,
    clock: Ticks,
    cell: Cell,
    limiter: RateLimiter<NotKeyed, Cell, Ticks, StateInformationMiddleware>,
}

impl Meter {
    fn new(unit: &'static str, per_second: u64, burst: Duration, clock: Ticks) -> Self {
        let per_second = per_second.max(1);
        let burst = (per_second as f64 * burst.as_secs_f64()).max(1.0) as u64;
        let grain = (per_second >> 20) + 1;
        let quota = Quota::per_second(cells(per_second, grain)).allow_burst(cells(burst, grain));
        let cell = Cell::default();
        let limiter = RateLimiter::new(quota, cell.clone(), clock.clone());
        Self { unit, per_second, burst, grain, clock, cell, limiter }
    }

    fn take_of(meter: &Option<Self>, asked: usize) -> Result<(), OverLimit> {
        meter.as_ref().map_or(Ok(()), |meter| meter.take(asked as u64))
    }

    fn take(&self, asked: u64) -> Result<(), OverLimit> {
        let Self { unit, per_second, burst, grain, .. } = *self;
        if asked == 0 {
            return Ok(());
        }
        if asked > burst {
            return Err(OverLimit::Burst { unit, asked, burst });
        }
        match self.limiter.check_n(cells(asked, grain)) {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(not_until)) => {
                let wait = not_until.wait_time_from(self.clock.now());
                Err(OverLimit::Rate { unit, per_second, wait })
            }
            Err(_) => Err(OverLimit::Burst { unit, asked, burst }),
        }
    }

    /// What could be taken now.
    fn left(&self) -> u64 {
        let before = self.cell.get();
        let left = match self.limiter.check() {
            Ok(state) => (u64::from(state.remaining_burst_capacity()) + 1) * self.grain,
            Err(_) => 0,
        };
        self.cell.set(before);
        left.min(self.burst)
    }
}

fn cells(units: u64, grain: u64) -> NonZeroU32 {
    let cells = u32::try_from(units.div_ceil(grain)).unwrap_or(u32::MAX);
    NonZeroU32::new(cells).unwrap_or(NonZeroU32::MIN)
}

/// The state of a limiter, which can be put back to what it was.
#[derive(Clone, Debug, Default)]
struct Cell(Arc<Mutex<Option<Nanos>>>);

impl Cell {
    fn get(&self) -> Option<Nanos> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: Option<Nanos>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

impl StateStore for Cell {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (outcome, next) = decide(*state)?;
        *state = Some(next);
        Ok(outcome)
    }
}

/// Time since some start; an argument, so that tests need not wait.
#[derive(Clone)]
struct Ticks(Arc<dyn Fn() -> Duration + Send + Sync>);

impl Clock for Ticks {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        (self.0)().into()
    }
}

impl fmt::Debug for Ticks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticks")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use super::*;

    /// Limits, and the milliseconds that have passed.
    fn limits(events: Option<u64>, bytes: Option<u64>, burst: u64) -> (Limits, Arc<AtomicU64>) {
        let now = Arc::new(AtomicU64::new(1));
        let clock = Arc::clone(&now);
        let config = RateConfig { events, bytes, burst: Duration::from_secs(burst) };
        let ticks = Ticks(Arc::new(move || Duration::from_millis(clock.load(Relaxed))));
        (Limits::with_clock(&config, ticks), now)
    }

    fn wait(outcome: Result<(), OverLimit>) -> u64 {
        match outcome {
            Err(OverLimit::Rate { wait, .. }) => wait.as_millis() as u64,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_burst_passes_at_once_and_then_what_time_brings() {
        let (limits, now) = limits(Some(100), None, 2);
        limits.take(200, 1 << 40).unwrap();
        let pause = wait(limits.take(50, 0));
        assert!((490..=500).contains(&pause), "{pause}");
        now.fetch_add(pause - 10, Relaxed);
        assert!(limits.take(50, 0).is_err());
        now.fetch_add(11, Relaxed);
        limits.take(50, 0).unwrap();
    }

    #[test]
    fn what_never_passes_says_so_and_charges_nothing() {
        let (limits, _) = limits(Some(100), Some(1000), 2);
        let error = limits.take(201, 1).unwrap_err();
        assert_eq!(error, OverLimit::Burst { unit: "events", asked: 201, burst: 200 });
        let error = limits.take(200, 2001).unwrap_err();
        assert_eq!(error, OverLimit::Burst { unit: "bytes", asked: 2001, burst: 2000 });
        limits.take(200, 2000).unwrap();
    }

    #[test]
    fn a_request_that_has_too_many_bytes_is_not_charged_for_its_events() {
        let (limits, now) = limits(Some(100), Some(1000), 1);
        limits.take(1, 1000).unwrap();
        for _ in 0..1000 {
            assert!(limits.take(50, 600).is_err());
        }
        now.fetch_add(700, Relaxed);
        limits.take(50, 600).unwrap();
    }

    #[test]
    fn asking_whether_a_request_would_pass_charges_nothing() {
        let (limits, _) = limits(Some(10), Some(10), 1);
        for _ in 0..100 {
            limits.would_take(10, 10).unwrap();
        }
        limits.take(10, 5).unwrap();
        assert!(limits.would_take(1, 1).is_err());
    }

    #[test]
    fn large_rates_are_exact_to_a_thousandth() {
        for rate in [1 << 20, 300_000_000, 5_000_000_000] {
            let (limits, now) = limits(None, Some(rate), 1);
            limits.take(0, rate as usize).unwrap();
            now.fetch_add(500, Relaxed);
            let half = (rate / 2) as usize;
            assert!(limits.take(0, half + half / 100).is_err(), "{rate}");
            limits.take(0, half - half / 1000).unwrap();
        }
    }

    #[test]
    fn an_answer_tells_the_policy_and_what_is_left() {
        let (limits, _) = limits(Some(100), Some(1000), 2);
        limits.take(150, 500).unwrap();
        let mut headers = HeaderMap::new();
        limits.tell(&mut headers);
        let policy = r#""events";q=200;w=2;qu="events", "bytes";q=2000;w=2;qu="bytes""#;
        assert_eq!(headers[POLICY], policy);
        assert_eq!(headers[STATE], r#""events";r=50;t=2, "bytes";r=1500;t=1"#);
    }
}
