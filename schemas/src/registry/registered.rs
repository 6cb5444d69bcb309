//! One version of a type's schema, and the drafts that become one.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    avro::{self, Avro},
    framed::Framed,
};

/// A schema's use of types that a version of another subject defines.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, utoipa::ToSchema)]
#[schema(as = SchemaReference)]
pub struct Reference {
    /// The name of the type, for people: every type that the version defines can be used.
    pub name: String,
    /// The subject.
    pub subject: String,
    /// The version; -1 in a draft is the latest.
    pub version: i32,
}

/// A schema that may become a version.
#[derive(Clone, Copy, Debug, Default)]
pub struct Draft<'d> {
    /// Its JSON.
    pub text: &'d str,
    /// What it uses of other subjects.
    pub references: &'d [Reference],
    /// Whether it is compared, and kept, in normal form: names in full.
    pub normalize: bool,
}

/// Whether a version is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is.
    #[default]
    Live,
    /// Only to who asks for what was deleted; new data is not written with it.
    Deleted,
    /// To nobody. Its id still decodes what was written with it.
    Gone,
}

/// One version of a type's schema.
#[derive(Debug)]
pub struct Registered {
    /// Names it in every record; within a namespace, one schema has one id, and no other ever gets it.
    pub id: u32,
    /// The tenant.
    pub namespace: Arc<str>,
    /// The event type.
    pub subject: Arc<str>,
    /// From 1, within the subject.
    pub version: u32,
    /// The schema as it was given.
    pub text: Arc<str>,
    /// What it uses of other subjects.
    pub references: Arc<[Reference]>,
    /// Whether it is shown.
    pub state: State,
    pub(super) prints: Prints,
    /// Parsed; an error when it is beyond this version of Penstock.
    pub(super) avro: Arc<Result<Avro, String>>,
}

impl Registered {
    /// As records use it.
    pub(super) fn framed(&self) -> Framed {
        Framed { id: self.id, avro: self.avro.clone() }
    }
}

/// By what schemas are the same: the hashes of two forms of one, with its references.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prints {
    /// Of its JSON without white space and with its members in order. Avro's own canonical form
    /// would not do: it leaves out defaults and logical types, and so takes different schemas for
    /// one.
    exact: [u8; 32],
    /// Of its normal form.
    normal: [u8; 32],
}

impl Prints {
    pub(super) fn of(text: &str, references: &[Reference]) -> Self {
        let print = |canonical: &str| {
            let mut hash = Sha256::new_with_prefix(canonical);
            for Reference { name, subject, version } in references {
                for part in [name.as_str(), subject.as_str(), &version.to_string()] {
                    hash.update((part.len() as u64).to_be_bytes());
                    hash.update(part);
                }
            }
            hash.finalize().into()
        };
        match serde_json::from_str::<Value>(text) {
            Ok(json) => Self {
                normal: print(&sorted(avro::normal(&json)).to_string()),
                exact: print(&sorted(json).to_string()),
            },
            Err(_) => Self { exact: print(text), normal: print(text) },
        }
    }

    pub(super) fn same(&self, other: &Self, normalize: bool) -> bool {
        if normalize { self.normal == other.normal } else { self.exact == other.exact }
    }
}

/// The text in its normal form, or as it is when it is no JSON.
pub(super) fn normalized(text: &str) -> String {
    let json = serde_json::from_str::<Value>(text);
    json.map_or_else(|_| text.to_owned(), |json| sorted(avro::normal(&json)).to_string())
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.into_iter().collect();
            members.sort_by(|a, b| a.0.cmp(&b.0));
            members.into_iter().map(|(name, value)| (name, sorted(value))).collect()
        }
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        other => other,
    }
}
