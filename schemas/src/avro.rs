//! Avro: JSON text to datum and back, in one pass each, over a schema compiled once.
//!
//! The `apache-avro` crate parses schemas. The datum codec is ours, because it goes from JSON to bytes
//! without a tree of Avro values in between, and says with a JSON pointer what does not fit; so is the
//! judgement of compatibility, because it knows a type wherever it is defined and tells every clash
//! with its place.
//!
//! # JSON and Avro types
//!
//! | Avro | JSON |
//! |---|---|
//! | `null`, `boolean`, `string` | as they are |
//! | `int`, `long` | a number without fraction, in range; `3.0` counts as `3`, as JSON makes no difference |
//! | `float`, `double` | any number; comes back with a fraction (`3.0`) |
//! | `bytes`, `fixed` | a string in base64 |
//! | `enum` | one of its symbols |
//! | `array`, `map`, `record` | array, object, object |
//! | union | the value itself; the first branch that it fits |
//! | `date` | `"2013-01-31"` |
//! | `time-millis`, `time-micros` | `"10:15:00.25"` |
//! | `timestamp-*` | an RFC 3339 string; comes back in UTC |
//! | `local-timestamp-*` | the same without offset |
//! | `decimal` | a string such as `"12.50"`, or a whole number up to 2^64 - 1; comes back with its scale's digits |
//! | `uuid` | the 36-character string |
//!
//! A record's absent field takes its default; a field that the schema does not know is a fault,
//! because it would be lost, unless the configuration says that it may be. Times finer than their type's unit are rounded down.
//!
//! The invariant: whatever [`Avro::encode`] accepts, [`Avro::decode`] gives back as the same JSON
//! value (but for the notes above), and no bytes make [`Avro::decode`] panic or take memory
//! beyond its limits.

mod compatible;
mod compile;
mod decode;
mod defaults;
mod encode;
mod logical;
mod names;
mod tree;

use apache_avro::Schema;
use compile::Node;
pub(crate) use names::normal;
use serde_json::Value;

/// Bytes of one datum at most.
const MAX_DATUM: usize = 8 * 1024 * 1024;
/// Bytes of JSON made of one datum at most.
const MAX_JSON: usize = 15 * 1024 * 1024;
/// Array items of no bytes (`null`, a record without fields) in one datum at most: a count of six bytes
/// may claim any number of them.
const MAX_WEIGHTLESS: usize = 64 * 1024;

/// A schema, ready to encode and decode.
#[derive(Debug)]
pub struct Avro {
    schema: Schema,
    nodes: Vec<Node>,
    root: usize,
}

impl Avro {
    /// Parses and compiles a schema. The error is for the schema's author.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::parse_with(text, &[])
    }

    /// Parses and compiles a schema that names types which others define.
    pub(crate) fn parse_with(text: &str, others: &[&str]) -> Result<Self, String> {
        let json = |text: &str| serde_json::from_str::<Value>(text).map_err(|e| e.to_string());
        let mut whole = json(text)?;
        if !others.is_empty() {
            let others: Vec<_> = others.iter().map(|text| json(text)).collect::<Result<_, _>>()?;
            whole = names::bundle(&whole, &others)?;
        }
        let schema = defaults::parse(whole)?;
        let (nodes, root) = compile::compile(&schema)?;
        Ok(Self { schema, nodes, root })
    }

    /// What keeps this schema from reading all that `writer` can have written; nothing when it can.
    pub fn clashes(&self, writer: &Self) -> Vec<String> {
        compatible::clashes(&self.schema, &writer.schema)
    }
}

#[cfg(test)]
mod tests;
