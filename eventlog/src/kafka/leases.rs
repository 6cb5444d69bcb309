//! Which leases a member holds: the local fence.
//!
//! The broker checks a commit's member and generation, never who owns a partition, so this table is
//! the only thing that keeps a commit from moving the positions of the next owner. Two invariants:
//! a lease that was fenced is never live again; and [`Leases::fence`] returns only when no plain
//! commit under these leases is under way, because such a commit takes the group's generation when
//! it is sent, which may be after the partition has moved. (A transaction needs no waiting: it takes
//! the generation first and looks here after, see `transactions`.)

use std::{
    collections::HashMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{Lease, LogError, Position};

/// Leases are told apart by number, in the whole process.
static LAST: AtomicU64 = AtomicU64::new(0);

/// The leases of one member.
#[derive(Default)]
pub(super) struct Leases {
    live: Mutex<HashMap<u64, Held>>,
    idle: Condvar,
}

#[derive(Default)]
struct Held {
    commits: usize,
    fenced: bool,
}

impl Leases {
    /// A new lease of a partition.
    pub fn grant(&self, topic: &Arc<str>, partition: u32) -> Lease {
        let id = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        self.lock().insert(id, Held::default());
        Lease { id, topic: topic.clone(), partition }
    }

    /// Whether commits are still taken under this lease.
    pub fn is_live(&self, lease: &Lease) -> bool {
        self.lock().get(&lease.id).is_some_and(|held| !held.fenced)
    }

    /// All of these must be live.
    pub fn check(&self, positions: &[(Lease, Position)]) -> Result<(), LogError> {
        check(&self.lock(), positions)
    }

    /// As [`Leases::check`]; what is answered holds up the fence until it is dropped.
    pub fn begin_commit(
        self: &Arc<Self>,
        positions: &[(Lease, Position)],
    ) -> Result<Committing, LogError> {
        let mut live = self.lock();
        check(&live, positions)?;
        let ids: Vec<u64> = positions.iter().map(|(lease, _)| lease.id).collect();
        for id in &ids {
            if let Some(held) = live.get_mut(id) {
                held.commits += 1;
            }
        }
        Ok(Committing { leases: self.clone(), ids })
    }

    /// Ends leases for good, and waits for the commits under way.
    pub fn fence<'a>(&self, leases: impl IntoIterator<Item = &'a Lease>) {
        let mut live = self.lock();
        let mut ended = Vec::new();
        for lease in leases {
            if let Some(held) = live.get_mut(&lease.id) {
                held.fenced = true;
                ended.push(lease.id);
            }
        }
        while ended.iter().any(|id| live.get(id).is_some_and(|held| held.commits > 0)) {
            live = self.idle.wait(live).unwrap_or_else(PoisonError::into_inner);
        }
        for id in ended {
            live.remove(&id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Held>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check(live: &HashMap<u64, Held>, positions: &[(Lease, Position)]) -> Result<(), LogError> {
    for (lease, _) in positions {
        if live.get(&lease.id).is_none_or(|held| held.fenced) {
            return Err(LogError::Stale { topic: lease.topic.clone(), partition: lease.partition });
        }
    }
    Ok(())
}

/// A plain commit under way.
pub(super) struct Committing {
    leases: Arc<Leases>,
    ids: Vec<u64>,
}

impl Drop for Committing {
    fn drop(&mut self) {
        let mut live = self.leases.lock();
        for id in &self.ids {
            if let Some(held) = live.get_mut(id) {
                held.commits -= 1;
            }
        }
        self.leases.idle.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;

    #[test]
    fn a_fenced_lease_commits_nothing_and_spoils_the_whole_commit() {
        let leases = Arc::new(Leases::default());
        let (one, other) = (leases.grant(&"t".into(), 0), leases.grant(&"t".into(), 1));
        assert_ne!(one.id, other.id);
        leases.fence([&one]);
        assert!(!leases.is_live(&one) && leases.is_live(&other));
        assert!(leases.begin_commit(&[(other.clone(), 1)]).is_ok());
        assert!(leases.begin_commit(&[(other, 1), (one, 1)]).is_err());
    }

    #[test]
    fn the_fence_waits_for_a_commit_under_way_and_lets_no_other_begin() {
        let leases = Arc::new(Leases::default());
        let lease = leases.grant(&"t".into(), 0);
        let commit = leases.begin_commit(&[(lease.clone(), 1)]).unwrap();
        let fencing = thread::spawn({
            let (leases, lease) = (leases.clone(), lease.clone());
            move || leases.fence([&lease])
        });
        while leases.is_live(&lease) {
            thread::sleep(Duration::from_millis(1));
        }
        assert!(!fencing.is_finished());
        assert!(leases.begin_commit(&[(lease, 2)]).is_err());
        drop(commit);
        fencing.join().unwrap();
    }
}
