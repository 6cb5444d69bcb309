//! The bytes that all requests in flight may hold together.
//!
//! There is no waiting: a request that does not fit is turned away, because a queue of requests
//! is a buffer too, and a client can wait better than the server. A [`Share`] gives back what it
//! took when it is dropped, so it must live as long as the bytes it stands for.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use prometheus_client::metrics::gauge::Gauge;

/// A number of bytes to share; clones share it.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: usize,
    used: AtomicUsize,
    /// `used`, as operators see it.
    gauge: Gauge,
}

/// What one request has taken.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    bytes: usize,
}

/// The budget is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent;

impl Budget {
    /// `limit` bytes, shown by `gauge`.
    pub fn new(limit: usize, gauge: Gauge) -> Self {
        Self(Arc::new(Inner { limit, used: AtomicUsize::new(0), gauge }))
    }

    /// Whether that many bytes are free now. It takes nothing: a body that has been announced but
    /// not sent holds no memory, and a slow sender must not hold up others.
    pub fn has(&self, bytes: usize) -> bool {
        self.0.used.load(Relaxed).saturating_add(bytes) <= self.0.limit
    }

    /// A share of nothing yet.
    pub fn share(&self) -> Share {
        Share { budget: self.clone(), bytes: 0 }
    }
}

impl Share {
    /// Takes more.
    pub fn grow(&mut self, by: usize) -> Result<(), Spent> {
        let Inner { limit, used, gauge } = &*self.budget.0;
        used.fetch_update(Relaxed, Relaxed, |now| now.checked_add(by).filter(|sum| sum <= limit))
            .map_err(|_| Spent)?;
        gauge.inc_by(by as i64);
        self.bytes += by;
        Ok(())
    }

    /// Takes more without asking: for memory that is in use already, and that makes room again
    /// only by going on. Others find the budget spent until it does.
    pub fn charge(&mut self, by: usize) {
        self.budget.0.used.fetch_add(by, Relaxed);
        self.budget.0.gauge.inc_by(by as i64);
        self.bytes += by;
    }

    /// Gives some back.
    pub fn shrink(&mut self, by: usize) {
        let by = by.min(self.bytes);
        self.bytes -= by;
        self.budget.0.used.fetch_sub(by, Relaxed);
        self.budget.0.gauge.dec_by(by as i64);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_beyond_the_limit_is_refused_and_takes_nothing() {
        let budget = Budget::new(100, Gauge::default());
        let mut first = budget.share();
        first.grow(60).unwrap();
        assert_eq!(budget.share().grow(41), Err(Spent));
        assert!(budget.has(40));
        assert!(!budget.has(41));
    }

    #[test]
    fn what_is_charged_beyond_the_limit_keeps_others_out_until_it_is_given_back() {
        let budget = Budget::new(100, Gauge::default());
        let mut first = budget.share();
        first.charge(150);
        assert_eq!(budget.share().grow(1), Err(Spent));
        first.shrink(60);
        assert!(budget.has(10));
    }

    #[test]
    fn a_dropped_share_gives_back_all_it_took() {
        let gauge = Gauge::default();
        let budget = Budget::new(100, gauge.clone());
        let mut share = budget.share();
        share.grow(60).unwrap();
        share.grow(40).unwrap();
        share.shrink(30);
        assert_eq!(gauge.get(), 70);
        drop(share);
        assert!(budget.has(100));
        assert_eq!(gauge.get(), 0);
    }
}
