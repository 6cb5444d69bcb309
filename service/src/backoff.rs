//! How long to wait before the next try.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(10);

/// Doubles from 50 ms to 10 s. There is no last try: what a processor has to do does not go away
/// by giving up, and its health says what it waits for.
#[derive(Debug, Default)]
pub(super) struct Backoff(u32);

impl Backoff {
    /// The wait before the next try.
    pub(super) fn next(&mut self) -> Duration {
        let wait = FIRST.saturating_mul(1 << self.0.min(10)).min(LONGEST);
        self.0 = self.0.saturating_add(1);
        wait
    }

    /// It worked.
    pub(super) fn reset(&mut self) {
        self.0 = 0;
    }

    /// Tries since it last worked.
    pub(super) fn tries(&self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..100).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(waits[..4], [50, 100, 200, 400]);
        assert_eq!(waits[99], 10_000);
    }

    #[test]
    fn success_starts_over() {
        let mut backoff = Backoff::default();
        backoff.next();
        backoff.next();
        backoff.reset();
        assert_eq!((backoff.tries(), backoff.next()), (0, FIRST));
    }
}
