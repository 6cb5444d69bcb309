//! What a call may make of an event, whatever the event holds: values nest and multiply within bounds, or the call
//! fails. Deeper ones would overflow the stack when they are written or dropped, and that ends the process.

use vrl::{parsing::xml::Document, value::Value};

use super::super::MOST_CHILDREN;

/// Levels that a value made of a text, of keys or of a path may have: a little more than those that JSON
/// may have at the door.
const MOST_LEVELS: usize = 128;

/// Digits of a number, and elements that an index may make an array have.
const MOST_PLACES: u64 = 10_000;

/// Values that `unnest` may copy: each event has those beside the elements again.
const MOST_COPIES: usize = 1_000_000;

const DEEP: &str = "it would nest deeper than 128 levels";
const MANY: &str = "it would make more than 10000 events";
const LARGE: &str = "it would copy more than 1000000 values";
const LONG: &str = "it would make more than 10000 places";
const NOTHING: &str = "an empty separator parts nothing";

/// What an argument is judged beside.
pub(super) struct Beside<'a> {
    /// Of a function that takes one.
    pub(super) separator: Option<&'a Value>,
    /// As the program has made it so far.
    pub(super) event: Option<&'a Value>,
}

/// Judges an argument before the call.
pub(super) type Judge = fn(&Value, &Beside<'_>) -> Result<(), &'static str>;

/// Which argument of a function is judged, and how.
pub(super) fn of(function: &str) -> Option<(&'static str, Judge)> {
    Some(match function {
        "format_number" => ("scale", places),
        "parse_xml" => ("value", xml),
        "set" => ("path", path),
        "unflatten" => ("value", keys),
        "unnest" => ("path", elements),
        _ => return None,
    })
}

fn xml(value: &Value, _: &Beside<'_>) -> Result<(), &'static str> {
    let Some(text) = value.to_str_lossy() else { return Ok(()) };
    // One that cannot be parsed is the call's own error.
    let Ok(document) = Document::parse(&text) else { return Ok(()) };
    let deep = document.descendants().any(|node| node.ancestors().nth(MOST_LEVELS).is_some());
    if deep { Err(DEEP) } else { Ok(()) }
}

fn path(value: &Value, beside: &Beside<'_>) -> Result<(), &'static str> {
    match value.as_array() {
        Some(segments) if segments.len() > MOST_LEVELS => Err(DEEP),
        segments => segments.into_iter().flatten().try_for_each(|index| places(index, beside)),
    }
}

fn places(value: &Value, _: &Beside<'_>) -> Result<(), &'static str> {
    match value.as_integer() {
        Some(number) if number.unsigned_abs() > MOST_PLACES => Err(LONG),
        _ => Ok(()),
    }
}

fn elements(value: &Value, beside: &Beside<'_>) -> Result<(), &'static str> {
    let elements = value.as_array().map_or(0, <[_]>::len);
    if elements > MOST_CHILDREN {
        return Err(MANY);
    }
    let others = beside.event.map_or(0, values).saturating_sub(values(value));
    if elements * others > MOST_COPIES { Err(LARGE) } else { Ok(()) }
}

/// A value and those in it.
fn values(value: &Value) -> usize {
    1 + match value {
        Value::Array(elements) => elements.iter().map(values).sum(),
        Value::Object(members) => members.values().map(values).sum(),
        _ => 0,
    }
}

fn keys(value: &Value, beside: &Beside<'_>) -> Result<(), &'static str> {
    let separator = beside.separator.and_then(|separator| separator.to_str_lossy());
    match separator.as_deref().unwrap_or(".") {
        "" => Err(NOTHING),
        separator if levels(value, separator) > MOST_LEVELS => Err(DEEP),
        _ => Ok(()),
    }
}

/// Levels that keys make, parted at each separator. The value itself nests no deeper than JSON may.
fn levels(value: &Value, separator: &str) -> usize {
    let of = |(key, value): (&_, _)| parts(key, separator) + levels(value, separator);
    value.as_object().into_iter().flatten().map(of).max().unwrap_or(0)
}

fn parts(key: &vrl::value::KeyString, separator: &str) -> usize {
    key.matches(separator).count() + 1
}
