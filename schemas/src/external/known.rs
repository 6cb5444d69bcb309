//! What was learnt of another registry: bounded, and without waiting.

use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

use super::ABSENT;
use crate::{framed::Framed, lookup::Latest};

/// Ids, types with a schema, and types without, at most; each.
const MOST: usize = 10_000;

/// What is known.
#[derive(Default)]
pub(super) struct Known {
    types: HashMap<String, (Framed, Instant)>,
    /// Types without a schema, and when that was asked.
    absent: HashMap<String, Instant>,
    ids: HashMap<u32, Framed>,
}

impl Known {
    /// The latest schema of a subject.
    pub(super) fn latest(&self, subject: &str, now: Instant) -> Latest {
        if let Some((schema, _)) = self.types.get(subject) {
            return Latest::Is(schema.clone());
        }
        match self.absent.get(subject) {
            Some(asked) if now.saturating_duration_since(*asked) < ABSENT => Latest::None,
            _ => Latest::Unresolved,
        }
    }

    /// When a subject was last asked for.
    pub(super) fn asked(&self, subject: &str) -> Option<Instant> {
        let present = self.types.get(subject).map(|(_, asked)| *asked);
        present.or_else(|| self.absent.get(subject).copied())
    }

    /// The schema of an id.
    pub(super) fn id(&self, id: u32) -> Option<Framed> {
        self.ids.get(&id).cloned()
    }

    /// The subjects with a schema.
    pub(super) fn subjects(&self) -> HashSet<String> {
        self.types.keys().cloned().collect()
    }

    /// Takes in an id's schema.
    pub(super) fn learnt_id(&mut self, schema: Framed) {
        make_room(&mut self.ids, &schema.id);
        self.ids.insert(schema.id, schema);
    }

    /// Takes in what a subject's latest schema is.
    pub(super) fn learnt_type(&mut self, subject: &str, found: Option<Framed>, asked: Instant) {
        match found {
            Some(schema) => {
                self.absent.remove(subject);
                make_room(&mut self.types, subject);
                self.types.insert(subject.to_owned(), (schema.clone(), asked));
                self.learnt_id(schema);
            }
            None => {
                self.types.remove(subject);
                if self.absent.len() >= MOST {
                    self.absent.retain(|_, at| asked.saturating_duration_since(*at) < ABSENT);
                }
                make_room(&mut self.absent, subject);
                self.absent.insert(subject.to_owned(), asked);
            }
        }
    }
}

/// Drops any entry from a map that is full: what is needed is asked for again.
fn make_room<K, Q, V>(map: &mut HashMap<K, V>, coming: &Q)
where
    K: std::borrow::Borrow<Q> + Clone + Eq + std::hash::Hash,
    Q: Eq + std::hash::Hash + ?Sized,
{
    if map.len() >= MOST && !map.contains_key(coming) {
        let any = map.keys().next().cloned();
        any.and_then(|any| map.remove::<Q>(any.borrow()));
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;

    fn schema(id: u32) -> Framed {
        Framed { id, avro: Arc::new(Err("not looked at".into())) }
    }

    #[test]
    fn that_a_type_has_no_schema_counts_for_a_while_and_a_schema_for_good() {
        let mut known = Known::default();
        let now = Instant::now();
        assert!(matches!(known.latest("a", now), Latest::Unresolved));
        known.learnt_type("a", None, now);
        assert!(matches!(known.latest("a", now), Latest::None));
        assert!(matches!(known.latest("a", now + ABSENT), Latest::Unresolved));
        known.learnt_type("a", Some(schema(7)), now);
        let later = now + Duration::from_secs(1_000_000);
        assert!(matches!(known.latest("a", later), Latest::Is(Framed { id: 7, .. })));
        assert!(known.id(7).is_some());
        known.learnt_type("a", None, now);
        assert!(matches!(known.latest("a", now), Latest::None));
        assert!(known.id(7).is_some(), "records with the id must decode");
    }

    #[test]
    fn whatever_is_asked_for_no_more_is_kept_than_fits() {
        let mut known = Known::default();
        let now = Instant::now();
        for n in 0..MOST as u32 + 10 {
            known.learnt_type(&format!("a{n}"), Some(schema(n)), now);
            known.learnt_type(&format!("b{n}"), None, now);
        }
        assert_eq!((known.types.len(), known.absent.len(), known.ids.len()), (MOST, MOST, MOST));
    }
}
