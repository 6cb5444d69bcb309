//! From the records of the topic to what they say, and from a change to its records.
//!
//! Records carry JSON:
//!
//! | key | value |
//! |---|---|
//! | `{"kind":"schema","namespace":..,"subject":..,"version":..}` | `{"id":..,"schema":"..","references":[..],"state":"deleted"}`; the last two only where there is something to say |
//! | `{"kind":"level","namespace":..,"subject":..}` | `{"level":"FULL"}`; without a subject, for the namespace |
//! | `{"kind":"mode","namespace":..,"subject":..}` | `{"mode":"READONLY"}`, likewise |
//! | `{"kind":"high_water"}` | `{"id":..}`, the highest id ever given |
//!
//! A record without value takes back what its key said. What is not of these forms is passed over, so
//! that a later Penstock may write more.
//!
//! The invariant: only the last record of each key counts. Compaction keeps exactly those, so a
//! replica that reads the topic late knows the same as one that read along. Nothing is judged: a
//! schema whose references are gone, or that does not parse, is there all the same.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use eventlog::Record;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    Level, Mode, Reference, Registered, RegistryError, State, judge::texts, registered::Prints,
    snapshot::Snapshot,
};
use crate::avro::Avro;

/// Whose versions are counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SubjectKey {
    pub(super) namespace: Arc<str>,
    pub(super) subject: Arc<str>,
}

/// What a setting is of: a subject, or a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub(super) struct Scope {
    namespace: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<Arc<str>>,
}

impl Scope {
    pub(super) fn of(namespace: &str, subject: Option<&str>) -> Self {
        Self { namespace: namespace.into(), subject: subject.map(Into::into) }
    }
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Key {
    Schema { namespace: Arc<str>, subject: Arc<str>, version: u32 },
    Level(Scope),
    Mode(Scope),
    HighWater,
}

#[derive(Debug, Deserialize, Serialize)]
struct SchemaValue {
    id: u32,
    schema: Arc<str>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    references: Vec<Reference>,
    #[serde(default, skip_serializing_if = "is_live")]
    state: State,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_live(state: &State) -> bool {
    *state == State::Live
}

#[derive(Debug, Deserialize, Serialize)]
struct HighWaterValue {
    id: u32,
}

#[derive(Debug, Deserialize, Serialize)]
struct LevelValue {
    level: Level,
}

#[derive(Debug, Deserialize, Serialize)]
struct ModeValue {
    mode: Mode,
}

#[derive(Debug)]
struct Entry {
    offset: u64,
    id: u32,
    text: Arc<str>,
    references: Arc<[Reference]>,
    state: State,
}

/// What the records read so far say.
#[derive(Debug, Default)]
pub(super) struct Fold {
    entries: BTreeMap<(SubjectKey, u32), Entry>,
    levels: BTreeMap<Scope, Level>,
    modes: BTreeMap<Scope, Mode>,
    high_water: u32,
}

impl Fold {
    /// Takes one record; answers whether there is news in it.
    pub(super) fn apply(&mut self, offset: u64, record: &Record) -> bool {
        let key = record.key.as_deref().map(serde_json::from_slice);
        let value = record.value.as_deref();
        let news = match key {
            Some(Ok(Key::Schema { namespace, subject, version })) => {
                let key = (SubjectKey { namespace, subject }, version);
                let entry = |value: SchemaValue| Entry {
                    offset,
                    id: value.id,
                    text: value.schema,
                    references: value.references.into(),
                    state: value.state,
                };
                set(&mut self.entries, key, value, entry)
            }
            Some(Ok(Key::Level(scope))) => {
                set(&mut self.levels, scope, value, |value: LevelValue| value.level)
            }
            Some(Ok(Key::Mode(scope))) => {
                set(&mut self.modes, scope, value, |value: ModeValue| value.mode)
            }
            Some(Ok(Key::HighWater)) => match value.map(serde_json::from_slice) {
                Some(Ok(HighWaterValue { id })) => {
                    self.high_water = id;
                    Some(false)
                }
                None | Some(Err(_)) => None,
            },
            None | Some(Err(_)) => None,
        };
        if news.is_none() {
            tracing::warn!(offset, "a record of the schema registry is not of a known form");
        }
        news.unwrap_or(false)
    }

    /// The version after the last of a subject; what was deleted counts.
    pub(super) fn next_version(&self, key: &SubjectKey) -> u32 {
        let range = (key.clone(), 0)..=(key.clone(), u32::MAX);
        self.entries.range(range).next_back().map_or(1, |((_, version), _)| version + 1)
    }

    /// The records that register a schema as a subject's next version, under an id that it has
    /// already or the next one.
    pub(super) fn registration(
        &self,
        key: &SubjectKey,
        known: Option<u32>,
        schema: &Arc<str>,
        references: &[Reference],
    ) -> Result<Vec<Record>, RegistryError> {
        let highest = self.entries.values().map(|e| e.id).fold(self.high_water, u32::max);
        let next = || {
            let spent = || RegistryError::Fatal("all schema ids are used".into());
            highest.checked_add(1).filter(|id| i32::try_from(*id).is_ok()).ok_or_else(spent)
        };
        let id = known.map_or_else(next, Ok)?;
        let (namespace, subject) = (key.namespace.clone(), key.subject.clone());
        let key = Key::Schema { namespace, subject, version: self.next_version(key) };
        let references = references.to_vec();
        let value = SchemaValue { id, schema: schema.clone(), references, state: State::Live };
        let mut records = vec![record(&key, Some(&value))?];
        if known.is_none() {
            records.push(record(&Key::HighWater, Some(&HighWaterValue { id }))?);
        }
        Ok(records)
    }

    /// The record that gives a version another state.
    pub(super) fn with_state(
        &self,
        version: &Registered,
        state: State,
    ) -> Result<Record, RegistryError> {
        let (namespace, subject) = (version.namespace.clone(), version.subject.clone());
        let key = Key::Schema { namespace, subject, version: version.version };
        let (schema, references) = (version.text.clone(), version.references.to_vec());
        record(&key, Some(&SchemaValue { id: version.id, schema, references, state }))
    }

    /// The record that sets a level, or takes it back.
    pub(super) fn level(scope: &Scope, level: Option<Level>) -> Result<Record, RegistryError> {
        record(&Key::Level(scope.clone()), level.map(|level| LevelValue { level }).as_ref())
    }

    /// The record that sets a mode, or takes it back.
    pub(super) fn mode(scope: &Scope, mode: Option<Mode>) -> Result<Record, RegistryError> {
        record(&Key::Mode(scope.clone()), mode.map(|mode| ModeValue { mode }).as_ref())
    }

    /// What is known now. Schemas that `last` holds already are not parsed again.
    pub(super) fn snapshot(&self, last: &Snapshot) -> Snapshot {
        let mut ids: HashMap<u32, (u64, Arc<Registered>)> = HashMap::new();
        let mut next = Snapshot::default();
        for ((key, version), entry) in &self.entries {
            let parsed = last.ids.get(&entry.id).or(ids.get(&entry.id).map(|(_, known)| known));
            let registered = Arc::new(self.registered(key, *version, entry, parsed));
            let space = next.namespaces.entry(key.namespace.clone()).or_default();
            let subject = space.subjects.entry(key.subject.clone()).or_default();
            subject.versions.push(registered.clone());
            if entry.state == State::Live {
                subject.latest = Some(registered.clone());
            }
            // no writer gives an id to two schemas; if one did, the later record counts, read early
            // or late
            let holder = ids.entry(entry.id).or_insert_with(|| (entry.offset, registered.clone()));
            if holder.0 < entry.offset {
                *holder = (entry.offset, registered);
            }
        }
        next.ids = ids.into_iter().map(|(id, (_, registered))| (id, registered)).collect();
        for (scope, level) in &self.levels {
            *next.setting(scope, |space| &mut space.level, |subject| &mut subject.level) =
                Some(*level);
        }
        for (scope, mode) in &self.modes {
            *next.setting(scope, |space| &mut space.mode, |subject| &mut subject.mode) =
                Some(*mode);
        }
        next
    }

    /// A version as others see it. One that has the same id and is the same lends what it parsed.
    fn registered(
        &self,
        key: &SubjectKey,
        version: u32,
        entry: &Entry,
        lender: Option<&Arc<Registered>>,
    ) -> Registered {
        let same = |r: &&Arc<Registered>| {
            r.namespace == key.namespace
                && r.text == entry.text
                && r.references == entry.references
                && r.avro.is_ok()
        };
        let (avro, prints) = match lender.filter(same) {
            Some(lender) => (lender.avro.clone(), lender.prints),
            None => (
                Arc::new(self.parse(&key.namespace, entry)),
                Prints::of(&entry.text, &entry.references),
            ),
        };
        Registered {
            id: entry.id,
            namespace: key.namespace.clone(),
            subject: key.subject.clone(),
            version,
            text: entry.text.clone(),
            references: entry.references.clone(),
            state: entry.state,
            prints,
            avro,
        }
    }

    fn parse(&self, namespace: &Arc<str>, entry: &Entry) -> Result<Avro, String> {
        let known = |reference: &Reference| {
            let namespace = namespace.clone();
            let key = SubjectKey { namespace, subject: reference.subject.as_str().into() };
            let entry = self.entries.get(&(key, u32::try_from(reference.version).ok()?))?;
            Some((&*entry.text, &*entry.references))
        };
        Avro::parse_with(&entry.text, &texts(&entry.references, known)?)
    }
}

impl Snapshot {
    fn setting<T>(
        &mut self,
        scope: &Scope,
        of_space: impl FnOnce(&mut super::snapshot::Namespace) -> &mut T,
        of_subject: impl FnOnce(&mut super::snapshot::Subject) -> &mut T,
    ) -> &mut T {
        let space = self.namespaces.entry(scope.namespace.clone()).or_default();
        match &scope.subject {
            None => of_space(space),
            Some(subject) => of_subject(space.subjects.entry(subject.clone()).or_default()),
        }
    }
}

/// Takes over what a record says of its key; nothing when that is of no known form.
fn set<K: Ord, V: DeserializeOwned, E>(
    entries: &mut BTreeMap<K, E>,
    key: K,
    value: Option<&[u8]>,
    entry: impl FnOnce(V) -> E,
) -> Option<bool> {
    match value.map(serde_json::from_slice) {
        None => Some(entries.remove(&key).is_some()),
        Some(Ok(value)) => {
            entries.insert(key, entry(value));
            Some(true)
        }
        Some(Err(_)) => None,
    }
}

fn record(key: &Key, value: Option<&impl Serialize>) -> Result<Record, RegistryError> {
    let json = |text: serde_json::Result<Vec<u8>>| {
        text.map(Bytes::from).map_err(|e| RegistryError::Fatal(e.to_string()))
    };
    let value = value.map(|value| json(serde_json::to_vec(value))).transpose()?;
    Ok(Record { key: Some(json(serde_json::to_vec(key))?), value, ..Record::default() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn apply_all(records: &[(u64, Record)]) -> Fold {
        let mut fold = Fold::default();
        for (offset, record) in records {
            fold.apply(*offset, record);
        }
        fold
    }

    /// What a fold says, as far as anyone can see it.
    #[derive(Debug, PartialEq)]
    struct Said {
        high_water: u32,
        versions: Vec<(String, u32, u32)>,
        ids: Vec<(u32, u32)>,
    }

    fn said(fold: &Fold) -> Said {
        let snapshot = fold.snapshot(&Snapshot::default());
        let mut ids: Vec<_> = snapshot.ids.iter().map(|(id, r)| (*id, r.version)).collect();
        ids.sort_unstable();
        let entries = fold.entries.iter().map(|((k, v), e)| (k.subject.to_string(), *v, e.id));
        Said { high_water: fold.high_water, versions: entries.collect(), ids }
    }

    fn schema(subject: &str, version: u32, id: Option<u32>) -> Record {
        let key = Key::Schema { namespace: "n".into(), subject: subject.into(), version };
        let value = |id| SchemaValue {
            id,
            schema: "\"int\"".into(),
            references: Vec::new(),
            state: State::Live,
        };
        record(&key, id.map(value).as_ref()).unwrap()
    }

    #[test]
    fn given_a_used_id_that_was_deleted_then_it_is_not_given_again() {
        let key = SubjectKey { namespace: "n".into(), subject: "a".into() };
        let mut fold = Fold::default();
        let records = fold.registration(&key, None, &"\"int\"".into(), &[]).unwrap();
        records.iter().for_each(|record| {
            fold.apply(0, record);
        });
        fold.apply(2, &schema("a", 1, None));
        let again = fold.registration(&key, None, &"\"int\"".into(), &[]).unwrap();
        let value: SchemaValue = serde_json::from_slice(again[0].value.as_ref().unwrap()).unwrap();
        assert_eq!(value.id, 2);
    }

    #[test]
    fn given_records_of_unknown_forms_then_they_are_passed_over() {
        let odd = |key: &'static str, value: &'static str| Record {
            key: Some(key.into()),
            value: Some(value.into()),
            ..Record::default()
        };
        let mut fold = apply_all(&[(0, schema("a", 1, Some(1)))]);
        let before = said(&fold);
        for record in [
            Record::default(),
            odd("x", "y"),
            odd(r#"{"kind":"later"}"#, "{}"),
            odd(r#"{"kind":"high_water"}"#, "[]"),
            odd(r#"{"kind":"level","namespace":"n"}"#, r#"{"level":"SOME"}"#),
        ] {
            assert!(!fold.apply(9, &record));
        }
        assert_eq!(said(&fold), before);
    }

    #[test]
    fn given_a_record_of_the_first_penstock_then_it_is_a_live_version_without_references() {
        let old = Record {
            key: Some(r#"{"kind":"schema","namespace":"n","subject":"a","version":1}"#.into()),
            value: Some(r#"{"id":7,"schema":"\"int\""}"#.into()),
            ..Record::default()
        };
        let snapshot = apply_all(&[(0, old)]).snapshot(&Snapshot::default());
        let version = snapshot.subject("n", "a").unwrap().latest.clone().unwrap();
        assert_eq!((version.id, version.state, version.references.len()), (7, State::Live, 0));
    }

    #[test]
    fn given_settings_taken_back_then_they_are_as_if_never_set() {
        let scope = Scope::of("n", Some("a"));
        let mut fold = Fold::default();
        assert!(fold.apply(0, &Fold::level(&scope, Some(Level::None)).unwrap()));
        assert!(fold.apply(1, &Fold::mode(&scope, Some(Mode::ReadOnly)).unwrap()));
        let known = fold.snapshot(&Snapshot::default());
        let subject = known.subject("n", "a").unwrap();
        assert_eq!((subject.level, subject.mode), (Some(Level::None), Some(Mode::ReadOnly)));
        assert!(fold.apply(2, &Fold::level(&scope, None).unwrap()));
        assert!(fold.apply(3, &Fold::mode(&scope, None).unwrap()));
        assert!(fold.snapshot(&Snapshot::default()).namespaces.is_empty());
    }

    proptest! {
        #[test]
        fn given_any_records_then_compaction_changes_nothing_that_is_said(
            writes in prop::collection::vec((0_u32..3, 1_u32..3, prop::option::of(1_u32..4)), 0..12)
        ) {
            let records: Vec<_> = writes.iter().enumerate()
                .map(|(at, (s, v, id))| (at as u64, schema(&s.to_string(), *v, *id))).collect();
            let last = |at: usize| records[at + 1..].iter().all(|(_, r)| r.key != records[at].1.key);
            let compacted: Vec<_> = (0..records.len()).filter(|at| last(*at))
                .map(|at| records[at].clone()).filter(|(_, r)| r.value.is_some()).collect();
            prop_assert_eq!(said(&apply_all(&records)), said(&apply_all(&compacted)));
        }
    }
}
