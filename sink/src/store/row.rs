//! The rows of the store, free of any database.

use std::{collections::BTreeMap, sync::Arc};

use eventlog::Position;
use schemas::Event;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Bytes that the namespace and each attribute may have that keys are made of.
pub use schemas::MAX_ATTRIBUTE_BYTES;

/// Bytes that [`RollupKey::group`] may have.
pub const MAX_GROUP_BYTES: usize = 8 * 1024;

/// Whether every store can hold an event; else what is wrong with it. A pure function: one that
/// cannot be held is poison wherever it comes from.
pub fn holdable(event: &Event) -> Result<(), String> {
    let attributes = [
        ("namespace", &*event.namespace),
        ("type", &event.kind),
        ("source", &event.source),
        ("id", &event.id),
        ("subject", event.subject.as_deref().unwrap_or_default()),
    ];
    match attributes.into_iter().find(|(_, text)| text.len() > MAX_ATTRIBUTE_BYTES) {
        None => Ok(()),
        Some((name, text)) => Err(format!(
            "`{name}` has {} bytes, and the store holds {MAX_ATTRIBUTE_BYTES}",
            text.len()
        )),
    }
}

/// What makes an event itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// The tenant.
    pub namespace: Arc<str>,
    /// CloudEvents `source`.
    pub source: String,
    /// CloudEvents `id`.
    pub id: String,
}

/// The record that an event in the store came from. An equal origin is a replay; any other
/// one of the same identity is a duplicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// The topic's epoch.
    pub epoch: u32,
    /// The partition.
    pub partition: u32,
    /// The offset.
    pub offset: u64,
}

/// A stored event.
#[derive(Clone, Debug, PartialEq)]
pub struct EventRow {
    /// The event.
    pub event: Event,
    /// Append time of the storing record, microseconds: the write timestamp of its rows.
    pub appended_at: i64,
    /// Which record stored it.
    pub origin: Origin,
}

/// What lists are ordered and continued by: unique within a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventKey {
    /// Event time in microseconds.
    pub time: i64,
    /// CloudEvents `source`.
    pub source: String,
    /// CloudEvents `id`.
    pub id: String,
}

/// How a list is selected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// By CloudEvents `type`.
    Type(String),
    /// By CloudEvents `subject`.
    Subject(String),
}

/// The order of a list: the whole of (time, source, id), ascending or descending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Newest first.
    #[default]
    Desc,
    /// Oldest first.
    Asc,
}

/// A topic's epoch: raised when its log goes backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicEpoch {
    /// 1 for the first.
    pub epoch: u32,
    /// When it began, microseconds. Rollup rows are written at this + offset + 1.
    pub started_at: i64,
    /// The log's own mark of the topic, where it has one.
    pub incarnation: Option<u64>,
}

/// A version of a rollup: the hash of its definition's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VersionId(pub u64);

/// What a rollup computes. Equal content is the same version wherever it is configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Its name. Names that begin with `_` are Penstock's own.
    pub name: Arc<str>,
    /// The event type it folds; `None` folds every type.
    pub kind: Option<String>,
    /// Window lengths in microseconds, ascending; 0 is one window that holds all time.
    pub windows: Vec<i64>,
    /// Alias to path into the event (`type`, `source`, `data.carrier`, ...).
    pub group_by: BTreeMap<String, String>,
    /// Measures by alias.
    pub measures: BTreeMap<String, Measure>,
}

impl Definition {
    /// Its version: the first 8 bytes of the SHA-256 of its content as canonical JSON. Fields
    /// come in the order of the struct, tables by key, so equal content gives equal text.
    pub fn version(&self) -> VersionId {
        // A struct of strings and numbers is always JSON.
        let text = serde_json::to_vec(self).unwrap_or_default();
        let mut first = [0; 8];
        first.copy_from_slice(&Sha256::digest(&text)[..8]);
        VersionId(u64::from_be_bytes(first))
    }
}

impl EventRow {
    /// Its identity.
    pub fn identity(&self) -> Identity {
        let event = &self.event;
        Identity {
            namespace: event.namespace.clone(),
            source: event.source.clone(),
            id: event.id.clone(),
        }
    }

    /// What lists order it by.
    pub fn key(&self) -> EventKey {
        let event = &self.event;
        EventKey { time: event.time.micros, source: event.source.clone(), id: event.id.clone() }
    }
}

/// What is measured: the numbers at one path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measure {
    /// Path into the event.
    pub field: String,
    /// What a reader is shown: `sum`, `min`, `max`, `avg`.
    pub of: Vec<String>,
}

/// How far a version is folded in one partition of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoldMark {
    /// The version.
    pub version: VersionId,
    /// The first position folded in.
    pub from: Position,
    /// The position after the last one.
    pub to: Position,
    /// Nothing that the log ever held in this epoch is missing before `to`.
    pub complete: bool,
}

/// Which rollup row.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RollupKey {
    /// The tenant.
    pub namespace: Arc<str>,
    /// The rollup.
    pub rollup: Arc<str>,
    /// Its version.
    pub version: VersionId,
    /// Window length, microseconds.
    pub window: i64,
    /// Window start, microseconds.
    pub start: i64,
    /// The group: a JSON array of scalars, in the order of the definition's aliases.
    pub group: String,
    /// The topic's epoch.
    pub epoch: u32,
    /// The partition that was folded.
    pub partition: u32,
}

/// One row of a rollup: what one partition adds to one window and group.
#[derive(Clone, Debug, PartialEq)]
pub struct RollupRow {
    /// Its key.
    pub key: RollupKey,
    /// Events folded in.
    pub count: u64,
    /// One for each measure, in the order of the definition's aliases.
    pub measures: Vec<Aggregate>,
    /// The last offset folded in: a replay skips up to it.
    pub last_offset: u64,
}

/// The numbers seen at one path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Aggregate {
    /// How many there were (events without a number there do not count).
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// The smallest; infinity when there were none.
    pub min: f64,
    /// The largest; minus infinity when there were none.
    pub max: f64,
}

impl Default for Aggregate {
    fn default() -> Self {
        Self { count: 0, sum: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY }
    }
}

impl Aggregate {
    /// Adds one number.
    pub fn add(&mut self, value: f64) {
        self.merge(&Self { count: 1, sum: value, min: value, max: value });
    }

    /// Adds what another one has seen.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }
}
