//! Avro: JSON text to datum and back, in one pass each, over a schema compiled once.
//!
//! The `apache-avro` crate parses schemas, resolves their names and judges compatibility. The
//! datum codec is ours, because it goes from JSON to bytes without a tree of Avro values in
//! between, and says with a JSON pointer what does not fit.
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
//! | `decimal` | a string such as `"12.50"`, or a whole number; comes back with its scale's digits |
//! | `uuid` | the 36-character string |
//!
//! A record's absent field takes its default; a field that the schema does not know is a fault,
//! because it would be lost. Times finer than their type's unit are rounded down.
//!
//! The invariant: whatever [`Avro::encode`] accepts, [`Avro::decode`] gives back as the same JSON
//! value (but for the notes above), and no bytes make [`Avro::decode`] panic or take memory
//! beyond its limits.

mod compile;
mod decode;
mod encode;
mod logical;
mod tree;

use apache_avro::{
    Schema,
    schema_compatibility::{Compatibility, SchemaCompatibility},
};
use compile::Node;

/// Bytes of one datum at most.
const MAX_DATUM: usize = 8 * 1024 * 1024;
/// Bytes of JSON made of one datum at most.
const MAX_JSON: usize = 64 * 1024 * 1024;

/// A schema, ready to encode and decode.
#[derive(Debug)]
pub(crate) struct Avro {
    schema: Schema,
    nodes: Vec<Node>,
    root: usize,
}

impl Avro {
    /// Parses and compiles a schema. The error is for the schema's author.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let schema = Schema::parse_str(text).map_err(|e| e.to_string())?;
        let (nodes, root) = compile::compile(&schema)?;
        Ok(Self { schema, nodes, root })
    }

    /// Whether this schema reads everything that `writer` can have written.
    pub(crate) fn can_read(&self, writer: &Self) -> Result<(), String> {
        match SchemaCompatibility::can_read(&writer.schema, &self.schema) {
            Ok(Compatibility::Full) => Ok(()),
            Ok(Compatibility::Partial) => {
                Err("some values that were allowed before are not any more".into())
            }
            Err(e) => Err(e.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
