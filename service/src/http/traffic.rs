//! What goes on on one connection, so that it can be told from one where nothing does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::sleep;

/// The requests and the bytes of one connection.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    begun: AtomicUsize,
    ended: AtomicUsize,
    /// All that was to be written is, and nothing was read since.
    quiet: AtomicBool,
    /// How often something was written.
    writes: AtomicUsize,
    /// Something is to be written, and the peer takes nothing.
    stuck: AtomicBool,
}

impl Traffic {
    /// A request is under way until this is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Begun {
        self.begun.fetch_add(1, Relaxed);
        Begun(self.clone())
    }

    /// Something was read.
    pub(super) fn read(&self) {
        self.quiet.store(false, Relaxed);
    }

    /// Something was written, or (`false`) could not be yet.
    pub(super) fn wrote(&self, written: bool) {
        self.quiet.store(written, Relaxed);
        self.stuck.store(!written, Relaxed);
        if written {
            self.writes.fetch_add(1, Relaxed);
        }
    }

    /// All that was written is sent, or (`false`) is not yet.
    pub(super) fn flushed(&self, sent: bool) {
        self.stuck.store(!sent, Relaxed);
    }

    /// Returns when the peer took nothing of what is to be written for this long, or twice as long at most.
    pub(super) async fn stuck_for(&self, time: Duration) {
        loop {
            let (stuck, writes) = (self.stuck.load(Relaxed), self.writes.load(Relaxed));
            sleep(time).await;
            if stuck && self.stuck.load(Relaxed) && self.writes.load(Relaxed) == writes {
                return;
            }
        }
    }

    /// Returns when no request was there for this long, or twice as long at most.
    pub(super) async fn idle_for(&self, time: Duration) {
        loop {
            let begun = self.begun.load(Relaxed);
            sleep(time).await;
            if self.begun.load(Relaxed) == begun && self.ended.load(Relaxed) == begun {
                return;
            }
        }
    }

    /// Returns when every request was answered to its last byte and no other had begun for this long,
    /// or twice as long at most. Only for HTTP/1.1, where answers are written when they are made.
    pub(super) async fn at_rest_for(&self, time: Duration) {
        loop {
            self.idle_for(time).await;
            if self.quiet.load(Relaxed) {
                return;
            }
        }
    }
}

/// A request under way; dropped when it is answered or given up.
#[derive(Debug)]
pub(super) struct Begun(Arc<Traffic>);

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Relaxed);
    }
}
