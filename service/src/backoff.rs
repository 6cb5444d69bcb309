//! How long to wait before the next try.

use std::time::Duration;

/// Doubles from the first wait to the longest. There is no last try: whoever uses it has work that
/// does not go away by giving up, and says in its health what it waits for.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    tries: u32,
}

impl Default for Backoff {
    /// From 50 ms to 2 s: what waits goes on within seconds of the other side's return, and
    /// many who wait ask no more than once in two seconds each.
    fn default() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(2))
    }
}

impl Backoff {
    /// From `first`, doubling, to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, tries: 0 }
    }

    /// The wait before the next try.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.first.saturating_mul(1 << self.tries.min(16)).min(self.longest);
        self.tries = self.tries.saturating_add(1);
        wait
    }

    /// It worked.
    pub fn reset(&mut self) {
        self.tries = 0;
    }

    /// Tries since it last worked.
    pub fn tries(&self) -> u32 {
        self.tries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..100).map(|_| backoff.next_wait().as_millis()).collect();
        assert_eq!(waits[..4], [50, 100, 200, 400]);
        assert_eq!(waits[99], 2_000);
    }

    #[test]
    fn success_starts_over() {
        let mut backoff = Backoff::default();
        backoff.next_wait();
        backoff.next_wait();
        backoff.reset();
        assert_eq!((backoff.tries(), backoff.next_wait()), (0, Duration::from_millis(50)));
    }
}
