//! Ends the process when a call into librdkafka does not come back.
//!
//! Calls on transactions have timeouts, but some were seen to hang past them when the group's
//! coordinator moves (librdkafka #5456). Nothing in the process can free the thread that hangs; a
//! process that ends is restarted, and its transaction is aborted by who takes over.
//!
//! Time is counted in ticks that this process really lived: one that was stopped (SIGSTOP, a
//! suspended machine) in the middle of a call is not taken for one whose call hangs. And it is counted
//! only while the cluster answers: without one, calls may wait past their timeouts until it is back.

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

/// Whether the cluster answers, as far as is known.
pub(super) type Answers = Box<dyn Fn() -> bool + Send + Sync>;

/// Watches calls.
pub(super) struct Watchdog(Arc<Inner>);

struct Inner {
    calls: Mutex<Calls>,
    begun: Condvar,
    hook: Hook,
    answers: Answers,
}

#[derive(Default)]
struct Calls {
    last: u64,
    under_way: HashMap<u64, Call>,
    over: bool,
}

struct Call {
    what: &'static str,
    limit: Duration,
    left: Duration,
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
    pub fn new(hook: Hook, answers: Answers) -> Result<Self, LogError> {
        let calls = Mutex::default();
        let inner = Arc::new(Inner { calls, begun: Condvar::new(), hook, answers });
        let weak = Arc::downgrade(&inner);
        super::member::spawn("log-watchdog", move || watch(&weak))?;
        Ok(Self(inner))
    }

    /// What is done about calls that hang, on somebody else's word.
    pub fn bite(&self, what: &str) {
        (self.0.hook)(what);
    }

    /// Runs a call that should have returned long before `limit`.
    pub fn run<T>(&self, what: &'static str, limit: Duration, call: impl FnOnce() -> T) -> T {
        let id = {
            let mut calls = self.0.lock();
            calls.last += 1;
            let id = calls.last;
            calls.under_way.insert(id, Call { what, limit, left: limit });
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
        let answers = (inner.answers)();
        for call in inner.lock().under_way.values_mut() {
            call.left = if answers { call.left.saturating_sub(lived) } else { call.limit };
            if call.left.is_zero() {
                hung.push(call.what);
            }
        }
        for what in hung {
            (inner.hook)(what);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    };

    use super::*;

    fn dog(answers: Answers) -> (Watchdog, mpsc::Receiver<String>) {
        let (tx, told) = mpsc::channel();
        let hook = move |what: &str| {
            let _ = tx.send(what.to_owned());
        };
        (Watchdog::new(Box::new(hook), answers).unwrap(), told)
    }

    #[test]
    fn a_call_may_wait_for_a_cluster_that_is_away() {
        let answers = Arc::new(AtomicBool::new(false));
        let is_back = answers.clone();
        let (dog, told) = dog(Box::new(move || is_back.load(Ordering::Relaxed)));
        dog.run("patient", Duration::from_millis(100), || {
            thread::sleep(TICK * 3);
            assert!(told.try_recv().is_err());
            answers.store(true, Ordering::Relaxed);
            assert_eq!(told.recv_timeout(Duration::from_secs(10)).unwrap(), "patient");
        });
    }

    #[test]
    fn a_call_that_hangs_is_told_and_one_that_returns_is_not() {
        let (dog, told) = dog(Box::new(|| true));
        assert_eq!(dog.run("quick", Duration::from_millis(100), || 7), 7);
        thread::sleep(TICK * 2);
        assert!(told.try_recv().is_err());
        dog.run("slow", Duration::from_millis(100), || {
            assert_eq!(told.recv_timeout(Duration::from_secs(10)).unwrap(), "slow");
        });
    }
}
