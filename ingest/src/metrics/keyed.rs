//! Events by key, type and outcome, with a bound on how many series there can be.
//!
//! A type gets a series of its own when an event of it is first accepted, so that what is refused
//! cannot use the places up; when a key has as many as it may, further types are `other`. A
//! request takes one lock for reading, and touches one counter for each of its types and outcomes.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};

use crate::tally::{Ends, Tally};

/// Keys that are told apart.
const MOST_KEYS: usize = 256;
/// Types of a key that are told apart.
const MOST_TYPES: usize = 64;
/// Longer names of types are counted as `other`.
const LONGEST_TYPE: usize = 128;
/// All other keys, or types.
const OTHER: &str = "other";

/// Labels of these counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Labels {
    key: String,
    r#type: String,
    outcome: &'static str,
}

/// The counts; clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Keyed {
    family: Family<Labels, Counter>,
    keys: Arc<RwLock<HashMap<String, Types>>>,
}

/// The types of a key that have counters.
type Types = HashMap<String, [Counter; 4]>;

const OUTCOMES: [&str; 4] = ["accepted", "rejected", "unavailable", "withheld"];

impl Keyed {
    /// For a registry.
    pub fn family(&self) -> Family<Labels, Counter> {
        self.family.clone()
    }

    /// Adds the events of a request.
    pub fn count(&self, key: &str, tally: &Tally) {
        for (kind, ends) in tally.by_type() {
            let kind = kind.filter(|kind| kind.len() <= LONGEST_TYPE).unwrap_or(OTHER);
            if !self.add(key, kind, ends) {
                let (key, kind) = self.admit(key, kind, ends.accepted > 0);
                self.add(&key, &kind, ends);
            }
        }
    }

    /// Adds to counters that are there; otherwise adds nothing and says so.
    fn add(&self, key: &str, kind: &str, ends: Ends) -> bool {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let Some(counters) = keys.get(key).and_then(|types| types.get(kind)) else { return false };
        let Ends { accepted, rejected, unavailable, withheld } = ends;
        for (counter, events) in counters.iter().zip([accepted, rejected, unavailable, withheld]) {
            if events > 0 {
                counter.inc_by(events);
            }
        }
        true
    }

    /// Makes the counters under which a key and a type are counted, and says which they are.
    fn admit(&self, key: &str, kind: &str, accepted: bool) -> (String, String) {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let key = if keys.len() < MOST_KEYS || keys.contains_key(key) { key } else { OTHER };
        let types = keys.entry(key.to_owned()).or_default();
        let place = types.len() < MOST_TYPES && accepted;
        let kind = if place || types.contains_key(kind) { kind } else { OTHER };
        let labels = |outcome| Labels { key: key.to_owned(), r#type: kind.to_owned(), outcome };
        let counter = |outcome| self.family.get_or_create(&labels(outcome)).clone();
        types.entry(kind.to_owned()).or_insert_with(|| OUTCOMES.map(counter));
        (key.to_owned(), kind.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::Types as RequestTypes;

    fn post(keyed: &Keyed, key: &str, kind: &str, ends: Ends) {
        let mut types = RequestTypes::default();
        let index = types.index(kind);
        let mut tally = Tally::new(types);
        *tally.of(index) = ends;
        keyed.count(key, &tally);
    }

    fn counted(keyed: &Keyed, key: &str, kind: &str, outcome: &'static str) -> u64 {
        let labels = Labels { key: key.into(), r#type: kind.into(), outcome };
        keyed.family.get(&labels).map_or(0, |counter| counter.get())
    }

    const ACCEPTED: Ends = Ends { accepted: 1, rejected: 0, unavailable: 0, withheld: 0 };
    const REJECTED: Ends = Ends { accepted: 0, rejected: 1, unavailable: 0, withheld: 0 };

    #[test]
    fn events_are_counted_by_key_and_type() {
        let keyed = Keyed::default();
        post(&keyed, "a", "t", Ends { accepted: 3, rejected: 2, unavailable: 1, withheld: 4 });
        post(&keyed, "b", "t", ACCEPTED);
        let of_a = OUTCOMES.map(|outcome| counted(&keyed, "a", "t", outcome));
        assert_eq!(of_a, [3, 2, 1, 4]);
        assert_eq!(counted(&keyed, "b", "t", "accepted"), 1);
    }

    #[test]
    fn more_types_than_there_are_places_for_are_counted_together() {
        let keyed = Keyed::default();
        for n in 0..1000 {
            post(&keyed, "a", &n.to_string(), ACCEPTED);
        }
        post(&keyed, "a", "0", ACCEPTED);
        assert_eq!(counted(&keyed, "a", "0", "accepted"), 2);
        assert_eq!(counted(&keyed, "a", OTHER, "accepted"), 1000 - MOST_TYPES as u64);
        post(&keyed, "b", &"x".repeat(LONGEST_TYPE + 1), ACCEPTED);
        assert_eq!(counted(&keyed, "b", OTHER, "accepted"), 1);
    }

    #[test]
    fn what_is_refused_takes_no_places_away() {
        let keyed = Keyed::default();
        for n in 0..1000 {
            post(&keyed, "a", &n.to_string(), REJECTED);
        }
        assert_eq!(counted(&keyed, "a", OTHER, "rejected"), 1000);
        post(&keyed, "a", "good", ACCEPTED);
        assert_eq!(counted(&keyed, "a", "good", "accepted"), 1);
    }

    #[test]
    fn more_keys_than_are_told_apart_are_counted_together() {
        let keyed = Keyed::default();
        for n in 0..MOST_KEYS + 10 {
            post(&keyed, &n.to_string(), "t", ACCEPTED);
        }
        assert_eq!(counted(&keyed, OTHER, "t", "accepted"), 10);
    }
}
