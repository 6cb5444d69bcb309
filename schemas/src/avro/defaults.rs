//! Schemas parsed with their fields' defaults put aside.
//!
//! `apache-avro` judges each default while it parses, through the defaults within it and without a
//! limit: a schema of a kilobyte whose defaults multiply would take minutes. [`super::compile`] judges
//! them itself, once each and bounded, so the parser gets them as an attribute that it does not read.

use apache_avro::{AvroResult, Schema, schema::RecordField};
use serde_json::Value;

/// The attribute. No schema's text has it by accident.
const ASIDE: &str = "\0default";

/// Parses a schema. Its defaults are not judged, and found by [`of`].
pub(super) fn parse(mut schema: Value) -> AvroResult<Schema> {
    put_aside(&mut schema);
    Schema::parse(&schema)
}

/// The default of a field of a schema that [`parse`] made.
pub(super) fn of(field: &RecordField) -> Option<&Value> {
    field.custom_attributes.get(ASIDE)
}

fn put_aside(schema: &mut Value) {
    match schema {
        Value::Array(branches) => branches.iter_mut().for_each(put_aside),
        Value::Object(members) => {
            for (name, member) in members {
                match (name.as_str(), member) {
                    ("type" | "items" | "values", inner) => put_aside(inner),
                    ("fields", Value::Array(fields)) => fields.iter_mut().for_each(field),
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

fn field(field: &mut Value) {
    if let Value::Object(members) = field
        && let Some(default) = members.remove("default")
    {
        members.insert(ASIDE.to_owned(), default);
    }
    put_aside(field);
}
