//! A schema proposed from sample data: a start for its author, not a verdict.
//!
//! It takes every sample that it was made from. What it decides:
//!
//! - Whole numbers are `long`, numbers with a fraction or beyond 64 bits `double`; both together `double`.
//! - A field that is absent or `null` in some samples is a union with `null`, by default `null`.
//!   Values of several kinds are a union of these.
//! - An object is a record, unless a member's name is no name in Avro, or there are more than
//!   [`MAX_FIELDS`] of them: then it is a map.
//! - A string is a string. Only where it is asked for, strings that are RFC 3339 times in every sample
//!   are `timestamp-micros`: events then come back in UTC and without what is finer.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value, json};

use crate::Timestamp;

/// Members beyond which an object is taken for a map.
const MAX_FIELDS: usize = 200;

/// Sample data of one type.
#[derive(Debug, Default)]
pub struct Samples {
    seen: Seen,
}

impl Samples {
    /// Adds the data of an event.
    pub fn add(&mut self, data: &Value) {
        self.seen.add(data);
    }

    /// A schema for all of them, named after the event type.
    pub fn schema(&self, kind: &str, timestamps: bool) -> Value {
        let mut writer = Writer { timestamps, names: HashSet::new() };
        let mut name = String::new();
        writer.kind(&self.seen, &camel(&mut name, kind))
    }
}

/// The kinds of values seen at one place.
#[derive(Debug, Default)]
struct Seen {
    null: bool,
    boolean: bool,
    long: bool,
    double: bool,
    text: bool,
    /// A text that is no RFC 3339 time.
    no_time: bool,
    array: Option<Box<Seen>>,
    object: Option<Object>,
}

#[derive(Debug, Default)]
struct Object {
    times: u64,
    fields: BTreeMap<String, (u64, Seen)>,
}

impl Seen {
    fn add(&mut self, value: &Value) {
        match value {
            Value::Null => self.null = true,
            Value::Bool(_) => self.boolean = true,
            Value::Number(number) if number.is_i64() => self.long = true,
            Value::Number(_) => self.double = true,
            Value::String(text) => {
                self.text = true;
                self.no_time |= Timestamp::parse(text).is_err();
            }
            Value::Array(items) => {
                let seen = self.array.get_or_insert_default();
                items.iter().for_each(|item| seen.add(item));
            }
            Value::Object(members) => self.object.get_or_insert_default().add(members),
        }
    }

    /// Adds what was seen elsewhere.
    fn join(&mut self, other: &Self) {
        self.null |= other.null;
        self.boolean |= other.boolean;
        self.long |= other.long;
        self.double |= other.double;
        self.text |= other.text;
        self.no_time |= other.no_time;
        if let Some(items) = &other.array {
            self.array.get_or_insert_default().join(items);
        }
        if let Some(object) = &other.object {
            let mine = self.object.get_or_insert_default();
            mine.times += object.times;
            for (name, (times, seen)) in &object.fields {
                let (mine, field) = mine.fields.entry(name.clone()).or_default();
                *mine += times;
                field.join(seen);
            }
        }
    }
}

impl Object {
    fn add(&mut self, members: &Map<String, Value>) {
        self.times += 1;
        for (name, value) in members {
            let (times, seen) = self.fields.entry(name.clone()).or_default();
            *times += 1;
            seen.add(value);
        }
    }

    fn is_map(&self) -> bool {
        self.fields.len() > MAX_FIELDS || !self.fields.keys().all(|name| is_name(name))
    }
}

struct Writer {
    timestamps: bool,
    /// Names of records that are used.
    names: HashSet<String>,
}

impl Writer {
    /// The type of what was seen; `name` is that of a record, should it be one.
    fn kind(&mut self, seen: &Seen, name: &str) -> Value {
        let mut branches = Vec::new();
        if seen.null {
            branches.push(json!("null"));
        }
        if seen.boolean {
            branches.push(json!("boolean"));
        }
        match (seen.long, seen.double) {
            (_, true) => branches.push(json!("double")),
            (true, false) => branches.push(json!("long")),
            (false, false) => {}
        }
        // a union takes one type of 64-bit numbers
        let long = seen.long && !seen.double;
        match (seen.text, self.timestamps && !seen.no_time && !long) {
            (true, true) => {
                branches.push(json!({ "type": "long", "logicalType": "timestamp-micros" }));
            }
            (true, false) => branches.push(json!("string")),
            (false, _) => {}
        }
        if let Some(items) = &seen.array {
            // nothing is known of what was never there
            let items = self.or_string(items, &format!("{name}Item"));
            branches.push(json!({ "type": "array", "items": items }));
        }
        if let Some(object) = &seen.object {
            branches.push(self.object(object, name));
        }
        match branches.len() {
            0 => json!("null"),
            1 => branches.swap_remove(0),
            _ => Value::Array(branches),
        }
    }

    fn or_string(&mut self, seen: &Seen, name: &str) -> Value {
        match self.kind(seen, name) {
            Value::String(null) if null == "null" && !seen.null => json!("string"),
            kind => kind,
        }
    }

    fn object(&mut self, object: &Object, name: &str) -> Value {
        if object.is_map() {
            let mut values = Seen::default();
            object.fields.values().for_each(|(_, seen)| values.join(seen));
            let values = self.or_string(&values, &format!("{name}Value"));
            return json!({ "type": "map", "values": values });
        }
        let name = self.free(name);
        let mut fields = Vec::new();
        for (field, (times, seen)) in &object.fields {
            let kind = self.kind(seen, &camel(&mut name.clone(), field));
            let absent = *times < object.times;
            let field = match kind {
                Value::Array(branches) if absent && !seen.null => optional(field, branches),
                Value::Array(branches) if seen.null => {
                    json!({ "name": field, "type": branches, "default": null })
                }
                kind if kind == "null" => json!({ "name": field, "type": kind, "default": null }),
                kind if absent => optional(field, vec![kind]),
                kind => json!({ "name": field, "type": kind }),
            };
            fields.push(field);
        }
        json!({ "type": "record", "name": name, "fields": fields })
    }

    /// The name, or with a number when it is used.
    fn free(&mut self, name: &str) -> String {
        let numbered = (2_u64..).map(|number| format!("{name}{number}"));
        let free = std::iter::once(name.to_owned())
            .chain(numbered)
            .find(|name| !self.names.contains(name))
            .unwrap_or_default();
        self.names.insert(free.clone());
        free
    }
}

fn optional(name: &str, branches: Vec<Value>) -> Value {
    let branches: Vec<_> = std::iter::once(json!("null")).chain(branches).collect();
    json!({ "name": name, "type": branches, "default": null })
}

fn is_name(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && letters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Appends a text as part of a name: `order.placed` is `OrderPlaced`.
fn camel(name: &mut String, text: &str) -> String {
    for word in text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
        let (first, rest) = word.split_at(1);
        name.push_str(&first.to_ascii_uppercase());
        name.push_str(rest);
    }
    match is_name(name) {
        true => name.clone(),
        false => format!("Type{name}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{UnknownFields, avro::Avro};

    fn infer(samples: &[Value], timestamps: bool) -> Value {
        let mut all = Samples::default();
        samples.iter().for_each(|sample| all.add(sample));
        all.schema("order.placed", timestamps)
    }

    fn accepts(schema: &Value, sample: &Value) -> Result<(), String> {
        let avro = Avro::parse(&schema.to_string()).map_err(|e| format!("{e}: {schema}"))?;
        let encoded =
            avro.encode(sample.to_string().as_bytes(), UnknownFields::Reject, &mut Vec::new());
        encoded.map_err(|faults| format!("{faults:?}: {schema}"))
    }

    #[test]
    fn given_orders_then_their_fields_are_typed_and_optional_ones_nullable() {
        let samples = [
            json!({"id": 1, "price": 2, "at": "2020-01-01T00:00:00Z", "tags": [], "to": {"zip": "1"}}),
            json!({"id": 2, "price": 2.5, "at": "2020-01-02T00:00:00Z", "tags": ["a"], "note": null,
                "to": {"zip": "1", "street": "x"}, "rates": {"EUR/USD": 1.1}}),
        ];
        let expected = json!({"type": "record", "name": "OrderPlaced", "fields": [
            {"name": "at", "type": "string"},
            {"name": "id", "type": "long"},
            {"name": "note", "type": "null", "default": null},
            {"name": "price", "type": "double"},
            {"name": "rates", "type": ["null", {"type": "map", "values": "double"}], "default": null},
            {"name": "tags", "type": {"type": "array", "items": "string"}},
            {"name": "to", "type": {"type": "record", "name": "OrderPlacedTo", "fields": [
                {"name": "street", "type": ["null", "string"], "default": null},
                {"name": "zip", "type": "string"}]}}]});
        assert_eq!(infer(&samples, false), expected);
        let timed = infer(&samples, true);
        assert_eq!(timed["fields"][0]["type"]["logicalType"], "timestamp-micros");
        samples.iter().for_each(|sample| accepts(&timed, sample).unwrap());
    }

    #[test]
    fn given_times_beside_whole_numbers_then_times_stay_strings() {
        let mixed = [json!(["2020-01-01T00:00:00Z", 5])];
        let expected = json!({"type": "array", "items": ["long", "string"]});
        assert_eq!(infer(&mixed, true), expected);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<bool>().prop_map(|b| json!(b)),
            any::<i64>().prop_map(|n| json!(n)),
            any::<u64>().prop_map(|n| json!(n)),
            (-1e9..1e9).prop_map(|n: f64| json!(n)),
            "[a-c]{0,3}".prop_map(|t| json!(t)),
            Just(json!("2020-01-01T00:00:00Z")),
        ];
        leaf.prop_recursive(4, 24, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::btree_map("[a-c_/]{1,2}", inner.clone(), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
                prop::collection::btree_map("[a-c]", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn given_any_samples_then_the_schema_takes_each_of_them(
            samples in prop::collection::vec(any_json(), 1..5), timestamps in any::<bool>(),
        ) {
            let schema = infer(&samples, timestamps);
            for sample in &samples {
                prop_assert_eq!(accepts(&schema, sample), Ok(()));
            }
        }
    }
}
