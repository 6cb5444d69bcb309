//! How many queries run at once: a number for all, and three quarters of it for one key, so that no key keeps
//! others from reading.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use service::auth::Caller;

/// Namespace and name of a key.
type Key = (Arc<str>, Arc<str>);

#[derive(Debug)]
pub(super) struct Slots {
    all: usize,
    taken: Mutex<HashMap<Key, usize>>,
}

/// Room for one query; given back when dropped.
#[derive(Debug)]
pub(super) struct Slot<'a> {
    slots: &'a Slots,
    key: Key,
}

impl Slots {
    pub(super) fn new(all: usize) -> Self {
        Self { all, taken: Mutex::default() }
    }

    /// `None` while too many run, of all keys or of this one.
    pub(super) fn take(&self, caller: &Caller) -> Option<Slot<'_>> {
        let key = (caller.namespace.clone(), caller.name.clone());
        let mut taken = self.taken();
        let of_key = taken.get(&key).copied().unwrap_or(0);
        if taken.values().sum::<usize>() >= self.all || of_key >= (self.all * 3 / 4).max(1) {
            return None;
        }
        taken.insert(key.clone(), of_key + 1);
        Some(Slot { slots: self, key })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<Key, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut taken = self.slots.taken();
        match taken.get_mut(&self.key) {
            Some(of_key) if *of_key > 1 => *of_key -= 1,
            _ => drop(taken.remove(&self.key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use service::auth::Scope;

    use super::*;

    #[test]
    fn a_key_leaves_a_quarter_to_others_and_all_of_it_to_who_comes_after() {
        let (slots, of) = (Slots::new(8), |name| Caller::new(name, "shop", [Scope::Read]));
        let (one, other) = (of("one"), of("other"));
        let held: Vec<_> = (0..8).map_while(|_| slots.take(&one)).collect();
        assert_eq!(held.len(), 6);
        let rest: Vec<_> = (0..8).map_while(|_| slots.take(&other)).collect();
        assert_eq!(rest.len(), 2);
        drop(held);
        assert!(slots.take(&one).is_some());
        drop(rest);
        assert!(slots.taken().is_empty());
        assert!(Slots::new(1).take(&one).is_some());
    }
}
