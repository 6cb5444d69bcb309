//! Looking into an event by path: for rollups, grouping and conditions.
//!
//! A path is a CloudEvents attribute (`type`, `source`, `subject`, `id`, `time`, an extension's
//! name) or leads into JSON data: `data.carrier`, `data.route.from`, with quotes around a member
//! whose name holds a dot or a quote: `data."a.b"` (`\"` and `\\` inside quotes).
//!
//! [`Fields`] answers with any JSON value and parses the data once, when first asked.
//! [`Extractor`] takes the scalars at several paths in one pass and builds nothing else: hot
//! loops use it.

mod extract;

use std::{borrow::Cow, cell::OnceCell, fmt};

pub use extract::{Extractor, Scalar};
use serde_json::Value;

use crate::{Data, Event, Extension, structured::is_attribute_name};

/// Where to look in an event.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path(Place);

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Place {
    Attribute(String),
    Data(Vec<String>),
}

impl Path {
    /// Reads a path.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut segments = segments(text).map_err(|why| format!("path `{text}`: {why}"))?;
        let first = segments.remove(0);
        if first == "data" {
            return Ok(Self(Place::Data(segments)));
        }
        if !segments.is_empty() {
            return Err(format!("path `{text}`: only `data` has members; write `data.{text}`?"));
        }
        if !is_attribute_name(&first) {
            return Err(format!(
                "path `{text}`: attribute names are of a-z and 0-9; write `data.{text}`?"
            ));
        }
        Ok(Self(Place::Attribute(first)))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Attribute(name) => f.write_str(name),
            Place::Data(segments) => {
                f.write_str("data")?;
                segments.iter().try_for_each(|segment| {
                    if segment.is_empty() || segment.contains(['.', '"', '\\']) {
                        write!(f, ".\"{}\"", segment.replace('\\', "\\\\").replace('"', "\\\""))
                    } else {
                        write!(f, ".{segment}")
                    }
                })
            }
        }
    }
}

/// Splits at dots outside of quotes; never empty.
fn segments(text: &str) -> Result<Vec<String>, &'static str> {
    let mut segments = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        let mut segment = String::new();
        if chars.next_if_eq(&'"').is_some() {
            loop {
                match chars.next().ok_or("a quote is not closed")? {
                    '"' => break,
                    '\\' => segment.push(chars.next().ok_or("a quote is not closed")?),
                    c => segment.push(c),
                }
            }
            if chars.peek().is_some_and(|c| *c != '.') {
                return Err("a dot must follow a closing quote");
            }
        } else {
            while let Some(c) = chars.next_if(|c| *c != '.') {
                segment.push(c);
            }
            if segment.is_empty() {
                return Err("a name between dots is empty");
            }
        }
        segments.push(segment);
        if chars.next().is_none() {
            return Ok(segments);
        }
    }
}

/// An event's attribute as text.
fn attribute<'e>(event: &'e Event, name: &str) -> Option<Cow<'e, str>> {
    let text = match name {
        "specversion" => Some("1.0"),
        "id" => Some(event.id.as_str()),
        "source" => Some(event.source.as_str()),
        "type" => Some(event.kind.as_str()),
        "subject" => event.subject.as_deref(),
        "time" => Some(event.time.text.as_str()),
        "datacontenttype" => event.data_content_type.as_deref(),
        "dataschema" => event.data_schema.as_deref(),
        extension => return event.extensions.get(extension).map(Extension::text),
    };
    text.map(Cow::Borrowed)
}

/// The values of one event.
pub struct Fields<'e> {
    event: &'e Event,
    data: OnceCell<Value>,
}

impl<'e> Fields<'e> {
    /// Looks into an event.
    pub fn new(event: &'e Event) -> Self {
        Self { event, data: OnceCell::new() }
    }

    /// The value at a path; `None` when there is none, or when the data is not JSON.
    pub fn get(&self, path: &Path) -> Option<Cow<'_, Value>> {
        match &path.0 {
            Place::Attribute(name) => {
                attribute(self.event, name).map(|text| Cow::Owned(Value::from(text)))
            }
            Place::Data(segments) => {
                let Data::Json(text) = &self.event.data else { return None };
                let data =
                    self.data.get_or_init(|| serde_json::from_slice(text).unwrap_or_default());
                let found = segments.iter().try_fold(data, |value, name| value.get(name));
                found.map(Cow::Borrowed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::codec::tests::event;

    fn get(path: &str) -> Option<Value> {
        let event = Event {
            data: Data::Json(r#"{"a":{"b":[1,2]},"a.b":3,"n":null,"":4}"#.into()),
            ..event()
        };
        Fields::new(&event).get(&Path::parse(path).unwrap()).map(Cow::into_owned)
    }

    #[test]
    fn given_paths_of_attributes_and_data_then_the_values_are_found() {
        assert_eq!(get("type"), Some(json!("order.placed")));
        assert_eq!(get("region"), Some(json!("eu")));
        assert_eq!(get("data.a.b"), Some(json!([1, 2])));
        assert_eq!(get("data.\"a.b\""), Some(json!(3)));
        assert_eq!(get("data.\"\""), Some(json!(4)));
        assert_eq!(get("data.n"), Some(Value::Null));
        assert_eq!(
            [get("data.x"), get("data.a.b.c"), get("subject"), get("other")],
            [const { None }; 4]
        );
    }

    #[test]
    fn given_a_path_that_leads_nowhere_then_it_is_refused_with_a_hint() {
        for text in ["", ".", "data.", "data..a", "data.\"a", "data.\"a\"b", "carrier.name", "Type"]
        {
            assert!(Path::parse(text).is_err(), "{text}");
        }
        assert!(Path::parse("dep_delay").unwrap_err().contains("data.dep_delay"));
    }

    #[test]
    fn given_a_path_then_its_text_reads_back() {
        for text in ["type", "data", "data.a.b", r#"data."a.b"."q\"\\""#] {
            let path = Path::parse(text).unwrap();
            assert_eq!(Path::parse(&path.to_string()), Ok(path));
        }
    }
}
