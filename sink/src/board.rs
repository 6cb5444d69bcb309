//! How far each lease is stored: written by the partitions' tasks, taken by the loop that commits.
//!
//! Only the latest position of a lease counts, so a slow commit makes nobody wait and
//! nothing pile up.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use eventlog::{Lease, Position};

/// Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Board(Arc<Mutex<BTreeMap<u64, (Lease, Position)>>>);

impl Board {
    /// Everything below `position` is in the store.
    pub(crate) fn stored(&self, lease: &Lease, position: Position) {
        let mut board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = board.entry(lease.id).or_insert_with(|| (lease.clone(), position));
        entry.1 = entry.1.max(position);
    }

    /// Takes what there is to commit.
    pub(crate) fn take(&self) -> Vec<(Lease, Position)> {
        let mut board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *board).into_values().collect()
    }

    /// Forgets a lease that ended.
    pub(crate) fn forget(&self, lease: &Lease) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&lease.id);
    }
}
