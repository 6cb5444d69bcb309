//! Ends the process when a call into librdkafka does not come back.
//!
//! Calls on transactions have timeouts, but some were seen to hang past them when the group's
//! coordinator moves (librdkafka #5456). Nothing in the process can free the thread that hangs; a
//! process that ends is restarted, and its transaction is aborted by who takes over.
//!
//! Time is counted in ticks that this process really lived: one that was stopped (SIGSTOP, a
//! suspended machine) in the middle of a call is not taken for one whose call hangs.

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use crate::LogError;

const TICK: Duration = Duration::from_millis(500);

/// What to do about a call that hangs; it is told which.
pub(super) type Hook = Box<dyn Fn(&str) + Send + Sync>;

/// Watches calls.
pub(super) struct Watchdog(Arc<Inner>);

struct Inner {
    calls: Mutex<Calls>,
    begun: Condvar,
    hook: Hook,
}

#[derive(Default)]
struct Calls {
    last: u64,
    under_way: HashMap<u64, (&'static str, Duration)>,
    over: bool,
}

/// The hook of production: nothing runs that could hang as well, such as exit handlers.
pub(super) fn end_process() -> Hook {
    Box::new(|what| {
        tracing::error!(call = what, "a call to Kafka does not return; the process ends");
        std::process::abort();
    })
}

impl Watchdog {
    /// With a thread of its own.
    pub fn new(hook: Hook) -> Result<Self, LogError> {
        let inner = Arc::new(Inner { calls: Mutex::default(), begun: Condvar::new(), hook });
        let weak = Arc::downgrade(&inner);
        super::member::spawn("log-watchdog", move || watch(&weak))?;
        Ok(Self(inner))
    }

    /// Runs a call that should have returned long before `limit`.
    pub fn run<T>(&self, what: &'static str, limit: Duration, call: impl FnOnce() -> T) -> T {
        let id = {
            let mut calls = self.0.lock();
            calls.last += 1;
            let id = calls.last;
            calls.under_way.insert(id, (what, limit));
            id
        };
        self.0.begun.notify_one();
        let _ended = Ended(&self.0, id);
        call()
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.0.lock().over = true;
        self.0.begun.notify_one();
    }
}

/// Also when the call panics.
struct Ended<'a>(&'a Inner, u64);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.lock().under_way.remove(&self.1);
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn watch(inner: &Weak<Inner>) {
    while let Some(inner) = inner.upgrade() {
        let calls = inner.lock();
        let idle = |calls: &mut Calls| calls.under_way.is_empty() && !calls.over;
        let calls = inner.begun.wait_while(calls, idle).unwrap_or_else(PoisonError::into_inner);
        if calls.over && calls.under_way.is_empty() {
            return;
        }
        drop(calls);
        let slept = Instant::now();
        thread::sleep(TICK);
        let lived = slept.elapsed().min(TICK * 2);
        let mut hung = Vec::new();
        for (what, left) in inner.lock().under_way.values_mut() {
            *left = left.saturating_sub(lived);
            if left.is_zero() {
                hung.push(*what);
            }
        }
        for what in hung {
            (inner.hook)(what);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_call_that_hangs_is_told_and_one_that_returns_is_not() {
        let (tx, told) = mpsc::channel();
        let hook = move |what: &str| {
            let _ = tx.send(what.to_owned());
        };
        let dog = Watchdog::new(Box::new(hook)).unwrap();
        assert_eq!(dog.run("quick", Duration::from_millis(100), || 7), 7);
        thread::sleep(TICK * 2);
        assert!(told.try_recv().is_err());
        dog.run("slow", Duration::from_millis(100), || {
            assert_eq!(told.recv_timeout(Duration::from_secs(10)).unwrap(), "slow");
        });
    }
}
