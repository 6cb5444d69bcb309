//! What a call may make of an event, whatever the event holds: values nest and multiply within bounds, or the call
//! fails. Deeper ones would overflow the stack when they are written or dropped, and that ends the process.

use vrl::{parsing::xml::Document, value::Value};

use super::super::MOST_CHILDREN;

/// Levels that a value made of a text, of keys or of a path may have: a little more than those that JSON
/// may have at the door.
const MOST_LEVELS: usize = 128;

const DEEP: &str = "it would nest deeper than 128 levels";
const MANY: &str = "it would make more than 10000 events";

/// Judges an argument, and the separator where a function takes one, before the call.
pub(super) type Judge = fn(&Value, Option<&Value>) -> Result<(), &'static str>;

/// Which argument of a function is judged, and how.
pub(super) fn of(function: &str) -> Option<(&'static str, Judge)> {
    Some(match function {
        "parse_xml" => ("value", xml),
        "set" => ("path", path),
        "unflatten" => ("value", keys),
        "unnest" => ("path", elements),
        _ => return None,
    })
}

fn xml(value: &Value, _: Option<&Value>) -> Result<(), &'static str> {
    let Some(text) = value.to_str_lossy() else { return Ok(()) };
    // One that cannot be parsed is the call's own error.
    let Ok(document) = Document::parse(&text) else { return Ok(()) };
    let deep = document.descendants().any(|node| node.ancestors().nth(MOST_LEVELS).is_some());
    if deep { Err(DEEP) } else { Ok(()) }
}

fn path(value: &Value, _: Option<&Value>) -> Result<(), &'static str> {
    match value.as_array() {
        Some(segments) if segments.len() > MOST_LEVELS => Err(DEEP),
        _ => Ok(()),
    }
}

fn elements(value: &Value, _: Option<&Value>) -> Result<(), &'static str> {
    match value.as_array() {
        Some(elements) if elements.len() > MOST_CHILDREN => Err(MANY),
        _ => Ok(()),
    }
}

fn keys(value: &Value, separator: Option<&Value>) -> Result<(), &'static str> {
    let separator = separator.and_then(|separator| separator.to_str_lossy());
    let deep = levels(value, separator.as_deref().unwrap_or(".")) > MOST_LEVELS;
    if deep { Err(DEEP) } else { Ok(()) }
}

/// Levels that keys make, parted at each separator. The value itself nests no deeper than JSON may.
fn levels(value: &Value, separator: &str) -> usize {
    let of = |(key, value): (&_, _)| parts(key, separator) + levels(value, separator);
    value.as_object().into_iter().flatten().map(of).max().unwrap_or(0)
}

fn parts(key: &vrl::value::KeyString, separator: &str) -> usize {
    key.matches(separator).count() + 1
}
