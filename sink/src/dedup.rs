//! Which records are new: the window, the identities on their way to the store, the locator.
//!
//! Verdicts are given in log order. The invariant: an identity that was accepted and is not yet in
//! the store is found here (`filling` or `flying`), because the locator cannot know it. So
//! a flush leaves `flying` only when the store has it, and never between a look-up and
//! the verdict that rests on it.

use std::collections::HashMap;

use eventlog::Stored;
use schemas::Event;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    store::{Identity, Origin},
    window::{Decision, Times, Window, decide},
};

/// A record that was decoded and waits for its verdict.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) event: Event,
    pub(crate) offset: u64,
    pub(crate) appended_at: i64,
}

/// What becomes of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The first record of its identity.
    New,
    /// This very record is in the store already; it is written and folded again.
    Replay,
    /// Another record of its identity came before.
    Duplicate,
}

/// The state of deduplication in one partition, for one lease.
#[derive(Debug)]
pub(crate) struct Deduplicator {
    window: Window,
    filling: Accepted,
    flying: Accepted,
    epoch: u32,
    partition: u32,
    skew: i64,
    decisions: Vec<(u64, Decision)>,
    scratch: Vec<u8>,
}

impl Deduplicator {
    /// Deduplicates one partition of one epoch; `skew` in microseconds.
    pub(crate) fn new(epoch: u32, partition: u32, window: Window, skew: i64) -> Self {
        Self {
            window,
            filling: Accepted::default(),
            flying: Accepted::default(),
            epoch,
            partition,
            skew,
            decisions: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Takes a record below the committed position into the window.
    pub(crate) fn warm(&mut self, stored: &Stored) {
        if let Some((namespace, source, id)) = schemas::identity_of(&stored.record) {
            write_identity(&mut self.scratch, namespace, source, id);
            self.window.insert(xxh3_64(&self.scratch), stored.appended_at);
        }
    }

    /// See [`Window::lose_sight`].
    pub(crate) fn lose_sight(&mut self) {
        self.window.lose_sight();
    }

    /// Records in the window.
    pub(crate) fn window_records(&self) -> usize {
        self.window.len()
    }

    /// First half of a batch: takes the candidates into the window and answers the identities whose
    /// locators [`Deduplicator::settle`] needs, in order.
    pub(crate) fn look_ups(&mut self, candidates: &[Candidate]) -> Vec<Identity> {
        let mut wanted = Vec::new();
        self.decisions.clear();
        for candidate in candidates {
            let event = &candidate.event;
            write_identity(&mut self.scratch, &event.namespace, &event.source, &event.id);
            let hash = xxh3_64(&self.scratch);
            let times = Times {
                time: event.time.micros,
                time_filled: event.time_filled,
                appended_at: candidate.appended_at,
            };
            let decision = decide(self.window.saw(hash), times, self.window.before(), self.skew);
            self.window.insert(hash, candidate.appended_at);
            if decision == Decision::LookUp {
                wanted.push(Identity {
                    namespace: event.namespace.clone(),
                    source: event.source.clone(),
                    id: event.id.clone(),
                });
            }
            self.decisions.push((hash, decision));
        }
        wanted
    }

    /// Second half: the verdicts, given what the locator answered.
    pub(crate) fn settle(
        &mut self,
        candidates: &[Candidate],
        located: Vec<Option<Origin>>,
    ) -> Vec<Verdict> {
        let mut located = located.into_iter();
        let mut verdicts = Vec::with_capacity(candidates.len());
        for (candidate, (hash, decision)) in candidates.iter().zip(&self.decisions) {
            let event = &candidate.event;
            write_identity(&mut self.scratch, &event.namespace, &event.source, &event.id);
            let verdict = match decision {
                Decision::New => Verdict::New,
                Decision::LookUp => {
                    let origin = Origin {
                        epoch: self.epoch,
                        partition: self.partition,
                        offset: candidate.offset,
                    };
                    let located = located.next().flatten();
                    let pending = self.filling.holds(*hash, &self.scratch)
                        || self.flying.holds(*hash, &self.scratch);
                    match located {
                        _ if pending => Verdict::Duplicate,
                        None => Verdict::New,
                        Some(o) if o == origin => Verdict::Replay,
                        Some(_) => Verdict::Duplicate,
                    }
                }
            };
            if verdict != Verdict::Duplicate {
                self.filling.insert(*hash, &self.scratch);
            }
            verdicts.push(verdict);
        }
        verdicts
    }

    /// What was accepted so far is being written.
    pub(crate) fn take_off(&mut self) {
        std::mem::swap(&mut self.filling, &mut self.flying);
        self.filling.clear();
    }

    /// It is in the store: the locator knows it from now on.
    pub(crate) fn land(&mut self) {
        self.flying.clear();
    }
}

/// An unambiguous text of an identity, into a buffer that is used again.
fn write_identity(into: &mut Vec<u8>, namespace: &str, source: &str, id: &str) {
    into.clear();
    into.extend_from_slice(&(namespace.len() as u32).to_be_bytes());
    into.extend_from_slice(&(source.len() as u32).to_be_bytes());
    into.extend_from_slice(namespace.as_bytes());
    into.extend_from_slice(source.as_bytes());
    into.extend_from_slice(id.as_bytes());
}

/// An exact set of identities in two allocations that grow, rather than one for each identity.
#[derive(Debug, Default)]
struct Accepted {
    /// Hash to the last entry with it.
    heads: HashMap<u64, u32, Prehashed>,
    entries: Vec<Entry>,
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Entry {
    start: usize,
    end: usize,
    /// The entry before it with the same hash.
    previous: Option<u32>,
}

impl Accepted {
    fn insert(&mut self, hash: u64, identity: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(identity);
        let previous = self.heads.insert(hash, self.entries.len() as u32);
        self.entries.push(Entry { start, end: self.bytes.len(), previous });
    }

    fn holds(&self, hash: u64, identity: &[u8]) -> bool {
        let mut next = self.heads.get(&hash).copied();
        while let Some(entry) = next.and_then(|n| self.entries.get(n as usize)) {
            if &self.bytes[entry.start..entry.end] == identity {
                return true;
            }
            next = entry.previous;
        }
        false
    }

    fn clear(&mut self) {
        self.heads.clear();
        self.entries.clear();
        self.bytes.clear();
    }
}

/// The keys are hashes already.
#[derive(Clone, Copy, Debug, Default)]
struct Prehashed;

impl std::hash::BuildHasher for Prehashed {
    type Hasher = Same;
    fn build_hasher(&self) -> Same {
        Same(0)
    }
}

#[derive(Debug)]
struct Same(u64);

impl std::hash::Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64(bytes);
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{testing::event, window::Before};

    fn candidate(id: &str, offset: u64) -> Candidate {
        Candidate { event: event(id), offset, appended_at: offset as i64 }
    }

    fn deduplicator(capacity: usize) -> Deduplicator {
        Deduplicator::new(1, 0, Window::new(capacity, Before::Nothing, i64::MIN), 0)
    }

    fn verdicts(
        dedup: &mut Deduplicator,
        candidates: &[Candidate],
        locator: impl Fn(&Identity) -> Option<Origin>,
    ) -> Vec<Verdict> {
        let located = dedup.look_ups(candidates).iter().map(locator).collect();
        dedup.settle(candidates, located)
    }

    #[test]
    fn a_second_copy_in_the_same_batch_is_a_duplicate_whatever_the_window_holds() {
        for capacity in [0, 1, 1_000] {
            let batch = [candidate("a", 0), candidate("a", 1), candidate("b", 2)];
            assert_eq!(
                verdicts(&mut deduplicator(capacity), &batch, |_| None),
                [Verdict::New, Verdict::Duplicate, Verdict::New],
                "capacity {capacity}"
            );
        }
    }

    #[test]
    fn a_copy_of_what_is_being_written_is_a_duplicate_before_the_locator_knows() {
        for capacity in [0, 1, 1_000] {
            let mut dedup = deduplicator(capacity);
            verdicts(&mut dedup, &[candidate("a", 0), candidate("b", 1)], |_| None);
            dedup.take_off();
            assert_eq!(
                verdicts(&mut dedup, &[candidate("a", 2)], |_| None),
                [Verdict::Duplicate],
                "capacity {capacity}"
            );
        }
    }

    #[test]
    fn a_copy_of_what_was_written_is_found_by_the_locator() {
        let mut dedup = deduplicator(1);
        verdicts(&mut dedup, &[candidate("a", 0), candidate("b", 1)], |_| None);
        dedup.take_off();
        dedup.land();
        let origin = Origin { epoch: 1, partition: 0, offset: 0 };
        assert_eq!(
            verdicts(&mut dedup, &[candidate("a", 2)], |_| Some(origin)),
            [Verdict::Duplicate]
        );
    }

    #[test]
    fn the_record_that_the_locator_names_is_a_replay() {
        let origin = Origin { epoch: 1, partition: 0, offset: 7 };
        assert_eq!(
            verdicts(&mut deduplicator(0), &[candidate("x", 6), candidate("a", 7)], |i| {
                (i.id == "a").then_some(origin)
            }),
            [Verdict::New, Verdict::Replay]
        );
    }

    #[test]
    fn the_same_offset_of_another_epoch_is_a_duplicate() {
        let origin = Origin { epoch: 1, partition: 0, offset: 7 };
        let mut dedup = Deduplicator::new(2, 0, Window::new(100, Before::Unknown, 0), 0);
        assert_eq!(
            verdicts(&mut dedup, &[candidate("a", 7)], |_| Some(origin)),
            [Verdict::Duplicate]
        );
    }

    #[test]
    fn identities_with_one_hash_are_told_apart() {
        let mut set = Accepted::default();
        set.insert(1, b"a");
        set.insert(1, b"b");
        assert!(set.holds(1, b"a") && set.holds(1, b"b") && !set.holds(1, b"c"));
    }

    #[test]
    fn namespace_source_and_id_do_not_run_into_each_other() {
        let (mut one, mut other) = (Vec::new(), Vec::new());
        write_identity(&mut one, "n", "ab", "c");
        write_identity(&mut other, "n", "a", "bc");
        assert_ne!(one, other);
    }
}
