//! The bytes that all requests in flight may hold together.
//!
//! There is no waiting: a request that does not fit is turned away, because a queue of requests
//! is a buffer too, and a client can wait better than the server. A [`Share`] gives back what it
//! took when it is dropped, so it must live as long as the bytes it stands for.
//!
//! No key can take all of it: whatever one does, a quarter is left for the others. Large answers count as
//! their key's until they are sent.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use prometheus_client::metrics::gauge::Gauge;

/// Answers of no more bytes are not charged.
const SMALL_ANSWER: usize = 16 * 1024;

/// Whose bytes they are: a namespace, and the name of a key in it. All tokens have one name.
pub type Payer = (Arc<str>, Arc<str>);

/// A number of bytes to share; clones share it.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: usize,
    used: AtomicUsize,
    /// Of `used`, what the requests of each key hold; only keys that have some are here.
    by_key: Mutex<HashMap<Payer, Arc<AtomicUsize>>>,
    /// `used`, as operators see it.
    gauge: Gauge,
}

/// What one request has taken.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    key: Payer,
    /// What all requests of its key have.
    by_key: Arc<AtomicUsize>,
    bytes: usize,
    /// What counts for the key alone.
    own: usize,
}

/// The budget is spent, or the key's part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent;

impl Budget {
    /// `limit` bytes, shown by `gauge`.
    pub fn new(limit: usize, gauge: Gauge) -> Self {
        let used = AtomicUsize::new(0);
        Self(Arc::new(Inner { limit, used, by_key: Mutex::default(), gauge }))
    }

    /// A share of nothing yet, for a request of that key.
    pub fn share(&self, key: &Payer) -> Share {
        let mut keys = self.0.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        let by_key = keys.entry(key.clone()).or_default().clone();
        Share { budget: self.clone(), key: key.clone(), by_key, bytes: 0, own: 0 }
    }
}

impl Budget {
    /// An answer to a request of that key, which counts as the key's for as long as somebody keeps it: clients
    /// may be slow to read. It takes nothing from the others. Small ones are not worth it.
    pub fn hold(&self, key: &Payer, answer: Vec<u8>) -> Bytes {
        if answer.len() <= SMALL_ANSWER {
            return answer.into();
        }
        let mut share = self.share(key);
        share.charge_key(answer.len());
        Bytes::from_owner(Held { answer, _share: share })
    }
}

/// Bytes and what stands for them.
struct Held {
    answer: Vec<u8>,
    _share: Share,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.answer
    }
}

impl Inner {
    /// What one key may hold.
    fn key_limit(&self) -> usize {
        self.limit - self.limit / 4
    }
}

impl Share {
    /// Whether that many bytes are free now. It takes nothing: a body that has been announced but
    /// not sent holds no memory, and a slow sender must not hold up others.
    pub fn has(&self, bytes: usize) -> bool {
        let inner = &self.budget.0;
        let fits = |used: &AtomicUsize, limit| used.load(Relaxed).saturating_add(bytes) <= limit;
        fits(&inner.used, inner.limit) && fits(&self.by_key, inner.key_limit())
    }

    /// Takes more.
    pub fn grow(&mut self, by: usize) -> Result<(), Spent> {
        let inner = &self.budget.0;
        take(&self.by_key, by, inner.key_limit())?;
        take(&inner.used, by, inner.limit).inspect_err(|_| {
            self.by_key.fetch_sub(by, Relaxed);
        })?;
        inner.gauge.inc_by(by as i64);
        self.bytes += by;
        Ok(())
    }

    /// Adds to a buffer of at most `most` bytes, taking what it reserves, which may be twice what is in it.
    pub fn extend(&mut self, buffer: &mut Vec<u8>, more: &[u8], most: usize) -> Result<(), Spent> {
        let needed = buffer.len() + more.len();
        if needed > buffer.capacity() {
            let room = needed.max(most.min(2 * buffer.capacity()));
            self.grow(room - buffer.capacity())?;
            buffer.reserve_exact(room - buffer.len());
        }
        buffer.extend_from_slice(more);
        Ok(())
    }

    /// Gives back what such a buffer has reserved and does not use.
    pub fn fit(&mut self, buffer: &mut Vec<u8>) {
        let spare = buffer.capacity() - buffer.len();
        buffer.shrink_to_fit();
        self.shrink(spare);
    }

    /// Takes more without asking: for memory that is in use already, and that makes room again
    /// only by going on. Others find the budget spent until it does.
    pub fn charge(&mut self, by: usize) {
        self.by_key.fetch_add(by, Relaxed);
        self.budget.0.used.fetch_add(by, Relaxed);
        self.budget.0.gauge.inc_by(by as i64);
        self.bytes += by;
    }

    /// The same, but only the key finds its part spent.
    fn charge_key(&mut self, by: usize) {
        self.by_key.fetch_add(by, Relaxed);
        self.own += by;
    }

    /// Gives some back.
    pub fn shrink(&mut self, by: usize) {
        let by = by.min(self.bytes);
        self.bytes -= by;
        self.by_key.fetch_sub(by, Relaxed);
        self.budget.0.used.fetch_sub(by, Relaxed);
        self.budget.0.gauge.dec_by(by as i64);
    }
}

fn take(used: &AtomicUsize, by: usize, limit: usize) -> Result<(), Spent> {
    used.fetch_update(Relaxed, Relaxed, |now| now.checked_add(by).filter(|sum| *sum <= limit))
        .map(drop)
        .map_err(|_| Spent)
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink(self.bytes);
        self.by_key.fetch_sub(self.own, Relaxed);
        let mut keys = self.budget.0.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        // The map's and this one: shares are made only under the lock.
        if Arc::strong_count(&self.by_key) == 2 {
            keys.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(budget: &Budget, key: &str) -> Share {
        budget.share(&("default".into(), key.into()))
    }

    #[test]
    fn a_share_beyond_the_limit_is_refused_and_takes_nothing() {
        let budget = Budget::new(100, Gauge::default());
        let mut first = share(&budget, "a");
        first.grow(60).unwrap();
        let mut second = share(&budget, "b");
        assert_eq!(second.grow(41), Err(Spent));
        assert!(second.has(40));
        assert!(!second.has(41));
    }

    #[test]
    fn a_key_leaves_a_quarter_to_the_others_whatever_its_requests_ask_for() {
        let budget = Budget::new(100, Gauge::default());
        let mut first = share(&budget, "a");
        first.grow(50).unwrap();
        let mut second = share(&budget, "a");
        assert!(!second.has(26));
        assert_eq!(second.grow(26), Err(Spent));
        second.grow(25).unwrap();
        share(&budget, "b").grow(25).unwrap();
        drop(first);
        second.grow(50).unwrap();
    }

    #[test]
    fn callers_of_one_name_in_two_namespaces_have_a_part_each() {
        let budget = Budget::new(100, Gauge::default());
        let in_space = |namespace: &str| budget.share(&(namespace.into(), "jwt".into()));
        let mut first = in_space("a");
        first.grow(75).unwrap();
        assert!(!in_space("a").has(1));
        assert!(in_space("b").has(25));
    }

    #[test]
    fn a_large_answer_counts_as_its_keys_until_nobody_keeps_it() {
        let budget = Budget::new(100, Gauge::default());
        let key = ("default".into(), "a".into());
        let small = budget.hold(&key, vec![0; SMALL_ANSWER]);
        assert!(share(&budget, "a").has(75));
        let large = budget.hold(&key, vec![1; SMALL_ANSWER + 1]);
        let part = large.slice(..10);
        drop((small, large));
        assert!(!share(&budget, "a").has(1));
        assert!(share(&budget, "b").has(75));
        assert_eq!(part[..], [1; 10]);
        drop(part);
        assert!(share(&budget, "a").has(75));
    }

    #[test]
    fn what_is_charged_beyond_the_limit_keeps_others_out_until_it_is_given_back() {
        let budget = Budget::new(100, Gauge::default());
        let mut first = share(&budget, "a");
        first.charge(150);
        assert_eq!(share(&budget, "b").grow(1), Err(Spent));
        first.shrink(60);
        assert!(share(&budget, "b").has(10));
    }

    #[test]
    fn a_dropped_share_gives_back_all_it_took_and_its_key_is_forgotten() {
        let gauge = Gauge::default();
        let budget = Budget::new(100, gauge.clone());
        let mut first = share(&budget, "a");
        first.grow(30).unwrap();
        first.grow(40).unwrap();
        first.shrink(30);
        let second = share(&budget, "a");
        assert_eq!(gauge.get(), 40);
        drop(first);
        assert!(second.has(75));
        assert_eq!(gauge.get(), 0);
        drop(second);
        assert!(budget.0.by_key.lock().unwrap().is_empty());
    }
}
