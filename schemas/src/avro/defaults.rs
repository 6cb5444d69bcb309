//! Schemas parsed with their fields' defaults put aside.
//!
//! `apache-avro` judges each default while it parses, through the defaults within it and without a
//! limit: a schema of a kilobyte whose defaults multiply would take minutes. [`super::compile`] judges
//! them itself, once each and bounded, so the parser gets them as an attribute that it does not read.

use apache_avro::{Schema, schema::RecordField};
use serde_json::Value;

/// The attribute. No schema's text has it by accident.
const ASIDE: &str = "\0default";

/// Parses a schema. Its defaults are not judged, and found by [`of`]. The error is for its author.
pub(super) fn parse(mut schema: Value) -> Result<Schema, String> {
    put_aside(&mut schema)?;
    Schema::parse(&schema).map_err(|e| e.to_string())
}

/// The default of a field of a schema that [`parse`] made.
pub(super) fn of(field: &RecordField) -> Option<&Value> {
    field.custom_attributes.get(ASIDE)
}

fn put_aside(schema: &mut Value) -> Result<(), String> {
    match schema {
        Value::Array(branches) => branches.iter_mut().try_for_each(put_aside),
        Value::Object(members) => {
            let record = members.get("type").is_some_and(|kind| kind == "record");
            members.iter_mut().try_for_each(|(name, member)| match (name.as_str(), member) {
                ("type" | "items" | "values", inner) => put_aside(inner),
                ("fields", Value::Array(fields)) if record => {
                    fields.iter_mut().enumerate().try_for_each(|(at, one)| field(at, one))
                }
                _ => Ok(()),
            })
        }
        _ => Ok(()),
    }
}

/// The parser would pass over a field that is no object.
fn field(at: usize, field: &mut Value) -> Result<(), String> {
    let Value::Object(members) = field else {
        return Err(format!(
            "item {at} of a record's `fields` is no object with `name` and `type`"
        ));
    };
    if let Some(default) = members.remove("default") {
        members.insert(ASIDE.to_owned(), default);
    }
    put_aside(field)
}
