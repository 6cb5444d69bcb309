//! From the records of the topic to what they say, and from a registration to its records.
//!
//! Records carry JSON. Keys: `{"kind":"schema","namespace":..,"subject":..,"version":..}` and
//! `{"kind":"high_water"}`; values: `{"id":..,"schema":".."}` and `{"id":..}`. A record without value
//! takes back what its key said. What is not of these forms is passed over, so that a later
//! Penstock may write more.
//!
//! The invariant: only the last record of each key counts. Compaction keeps exactly those, so a
//! replica that reads the topic late knows the same as one that read along.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use eventlog::Record;
use serde::{Deserialize, Serialize};

use super::{Registered, RegistryError, Snapshot};
use crate::avro::Avro;

/// Whose versions are counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SubjectKey {
    pub(super) namespace: Arc<str>,
    pub(super) subject: Arc<str>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Key {
    Schema { namespace: Arc<str>, subject: Arc<str>, version: u32 },
    HighWater,
}

#[derive(Debug, Deserialize, Serialize)]
struct SchemaValue {
    id: u32,
    schema: Arc<str>,
}

#[derive(Debug, Deserialize, Serialize)]
struct HighWaterValue {
    id: u32,
}

#[derive(Debug)]
struct Entry {
    offset: u64,
    id: u32,
    text: Arc<str>,
}

/// What the records read so far say.
#[derive(Debug, Default)]
pub(super) struct Fold {
    entries: BTreeMap<(SubjectKey, u32), Entry>,
    high_water: u32,
}

impl Fold {
    /// Takes one record; answers whether schemas changed.
    pub(super) fn apply(&mut self, offset: u64, record: &Record) -> bool {
        let key = record.key.as_deref().map(serde_json::from_slice);
        let value = record.value.as_deref();
        match key {
            Some(Ok(Key::Schema { namespace, subject, version })) => {
                let key = (SubjectKey { namespace, subject }, version);
                match value.map(serde_json::from_slice::<SchemaValue>) {
                    Some(Ok(SchemaValue { id, schema })) => {
                        self.entries.insert(key, Entry { offset, id, text: schema });
                        return true;
                    }
                    None => return self.entries.remove(&key).is_some(),
                    Some(Err(_)) => {}
                }
            }
            Some(Ok(Key::HighWater)) => {
                if let Some(Ok(HighWaterValue { id })) = value.map(serde_json::from_slice) {
                    self.high_water = id;
                    return false;
                }
            }
            None | Some(Err(_)) => {}
        }
        tracing::warn!(offset, "a record of the schema registry is not of a known form");
        false
    }

    /// The version after the last of a subject.
    pub(super) fn next_version(&self, key: &SubjectKey) -> u32 {
        let range = (key.clone(), 0)..=(key.clone(), u32::MAX);
        self.entries.range(range).next_back().map_or(1, |((_, version), _)| version + 1)
    }

    /// The records that register a schema under the next id.
    pub(super) fn registration(
        &self,
        key: &SubjectKey,
        version: u32,
        schema: &str,
    ) -> Result<Vec<Record>, RegistryError> {
        let highest = self.entries.values().map(|e| e.id).fold(self.high_water, u32::max);
        let id = highest
            .checked_add(1)
            .ok_or_else(|| RegistryError::Fatal("all schema ids are used".into()))?;
        let (namespace, subject) = (key.namespace.clone(), key.subject.clone());
        Ok(vec![
            record(
                &Key::Schema { namespace, subject, version },
                &SchemaValue { id, schema: schema.into() },
            )?,
            record(&Key::HighWater, &HighWaterValue { id })?,
        ])
    }

    /// What is known now. Schemas that `last` holds already are not parsed again.
    pub(super) fn snapshot(&self, last: &Snapshot) -> Snapshot {
        let mut ids: HashMap<u32, (u64, Arc<Registered>)> = HashMap::new();
        let mut next = Snapshot::default();
        for ((key, version), entry) in &self.entries {
            let known = last.versions(&key.namespace, &key.subject).iter();
            let mut same =
                known.filter(|r| r.version == *version && r.id == entry.id && r.text == entry.text);
            let registered = same.next().cloned().unwrap_or_else(|| {
                Arc::new(Registered {
                    id: entry.id,
                    namespace: key.namespace.clone(),
                    subject: key.subject.clone(),
                    version: *version,
                    text: entry.text.clone(),
                    avro: Avro::parse(&entry.text),
                })
            });
            let subjects = next.subjects.entry(key.namespace.clone()).or_default();
            subjects.entry(key.subject.clone()).or_default().push(registered.clone());
            // no writer gives an id twice; if one did, the later record counts, read early or late
            let holder = ids.entry(entry.id).or_insert_with(|| (entry.offset, registered.clone()));
            if holder.0 < entry.offset {
                *holder = (entry.offset, registered);
            }
        }
        next.ids = ids.into_iter().map(|(id, (_, registered))| (id, registered)).collect();
        next
    }
}

fn record(key: &Key, value: &impl Serialize) -> Result<Record, RegistryError> {
    let json = |text: serde_json::Result<Vec<u8>>| {
        text.map(Bytes::from).map_err(|e| RegistryError::Fatal(e.to_string()))
    };
    Ok(Record {
        key: Some(json(serde_json::to_vec(key))?),
        value: Some(json(serde_json::to_vec(value))?),
        ..Record::default()
    })
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
        let value = SchemaValue { id: id.unwrap_or_default(), schema: "\"int\"".into() };
        let record = record(&key, &value).unwrap();
        Record { value: record.value.filter(|_| id.is_some()), ..record }
    }

    #[test]
    fn given_a_used_id_that_was_deleted_then_it_is_not_given_again() {
        let key = SubjectKey { namespace: "n".into(), subject: "a".into() };
        let mut fold = Fold::default();
        let records = fold.registration(&key, 1, "\"int\"").unwrap();
        records.iter().for_each(|record| {
            fold.apply(0, record);
        });
        fold.apply(2, &schema("a", 1, None));
        let again = fold.registration(&key, 1, "\"int\"").unwrap();
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
        ] {
            assert!(!fold.apply(9, &record));
        }
        assert_eq!(said(&fold), before);
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
