//! The types of a request's events, and how many of each met which end.
//!
//! A request has few types, most often one, so they are found by looking at the last one first; a
//! counter is touched once for each type of a request, never once for each event.

/// More types than this in one request are counted as one.
const MOST_TYPES: usize = 64;

/// The types of a request, in the order in which they came.
#[derive(Clone, Debug, Default)]
pub struct Types {
    names: Vec<String>,
    last: usize,
}

/// Which of a request's types an event has; none when that cannot be read, or there are too many.
pub type TypeIndex = Option<u8>;

impl Types {
    /// The index of a type.
    pub fn index(&mut self, kind: &str) -> TypeIndex {
        if self.names.get(self.last).is_some_and(|last| last == kind) {
            return Some(self.last as u8);
        }
        let known = self.names.iter().position(|name| name == kind);
        let index = match known {
            None if self.names.len() == MOST_TYPES => return None,
            None => {
                self.names.push(kind.to_owned());
                self.names.len() - 1
            }
            Some(index) => index,
        };
        self.last = index;
        Some(index as u8)
    }
}

/// How many events of one type met which end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Durable.
    pub accepted: u64,
    /// Refused for good.
    pub rejected: u64,
    /// Not stored now, or nobody knows.
    pub unavailable: u64,
    /// Not stored because another event of a strict request was invalid.
    pub withheld: u64,
}

/// The ends of a request's events by type.
#[derive(Clone, Debug)]
pub struct Tally {
    types: Types,
    /// By index; events without one are last.
    ends: Vec<Ends>,
}

impl Default for Tally {
    fn default() -> Self {
        Self::new(Types::default())
    }
}

impl Tally {
    /// Nothing counted yet.
    pub fn new(types: Types) -> Self {
        let ends = vec![Ends::default(); types.names.len() + 1];
        Self { types, ends }
    }

    /// The counts of a type.
    pub fn of(&mut self, index: TypeIndex) -> &mut Ends {
        let last = self.ends.len() - 1;
        &mut self.ends[index.map_or(last, usize::from).min(last)]
    }

    /// Each type that was counted, none for events without one, with its counts.
    pub fn by_type(&self) -> impl Iterator<Item = (Option<&str>, Ends)> {
        let named = self.types.names.iter().map(|name| Some(name.as_str())).chain([None]);
        named.zip(self.ends.iter().copied()).filter(|(_, ends)| *ends != Ends::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_counted_by_type_and_those_of_too_many_types_together() {
        let mut types = Types::default();
        let first = types.index("a");
        let indices: Vec<_> = (0..70).map(|n| types.index(&n.to_string())).collect();
        assert_eq!(types.index("a"), first);
        assert_eq!(indices[69], None);
        let mut tally = Tally::new(types);
        tally.of(first).accepted += 2;
        tally.of(indices[69]).rejected += 1;
        tally.of(None).rejected += 1;
        let counted: Vec<_> = tally.by_type().collect();
        let a = Ends { accepted: 2, ..Ends::default() };
        assert_eq!(counted, [(Some("a"), a), (None, Ends { rejected: 2, ..Ends::default() })]);
    }
}
