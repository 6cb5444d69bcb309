//! Between the event and `.`: structured CloudEvents JSON as a VRL value.
//!
//! What a program does not touch comes back as it was: every attribute that it does not name, the text
//! of `.time`, and the bytes of the data if the program cannot write to it. Numbers that a program
//! passes through are VRL's: 64-bit integers, and doubles for everything else.

use std::collections::BTreeSet;

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::SecondsFormat;
use schemas::{Data, Event, Extension, Extensions, Timestamp};
use serde::{Serialize, Serializer, ser::Error};
use vrl::{
    compiler::ProgramInfo,
    path::{OwnedSegment, OwnedTargetPath},
    value::{KeyString, ObjectMap, Value},
};

use super::json;

/// What a program does with the event, found out once, so that what nobody asks for is neither parsed nor
/// copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Use {
    /// The members that the program may look at or leave as others; any, if there is no list.
    touched: Option<BTreeSet<String>>,
    /// The program may look at the data.
    reads: bool,
    /// The program may leave other data than it found.
    writes: bool,
}

impl Use {
    /// Judges by the paths in the program. `del` changes what it reads without being an assignment, and
    /// `unnest` looks at all of the event, whatever its path.
    pub(super) fn of(info: &ProgramInfo, source: &str) -> Self {
        let read = info.target_queries.iter().any(touches_data);
        let written = info.target_assignments.iter().any(touches_data);
        let paths = info.target_queries.iter().chain(&info.target_assignments);
        let touched = paths.map(|path| member(path).map(ToOwned::to_owned)).collect();
        let unnests = source.contains("unnest");
        Self {
            touched: if unnests { None } else { touched },
            reads: read || written || unnests,
            writes: written || (read && source.contains("del")),
        }
    }

    /// The same, taken to look at every member.
    #[cfg(test)]
    pub(super) fn all(self) -> Self {
        Self { touched: None, reads: true, ..self }
    }

    fn touches(&self, name: &str) -> bool {
        self.touched.as_ref().is_none_or(|touched| touched.contains(name))
    }
}

/// The member of the event that a path leads into; `None` for the whole of it.
fn member(path: &OwnedTargetPath) -> Option<&str> {
    match path.path.segments.first() {
        Some(OwnedSegment::Field(name)) => Some(name.as_str()),
        Some(OwnedSegment::Index(_)) | None => None,
    }
}

fn touches_data(path: &OwnedTargetPath) -> bool {
    member(path).is_none_or(|name| matches!(name, "data" | "data_base64" | "datacontenttype"))
}

/// The event as `.`, as far as a program uses it.
pub(super) fn to_value(event: &Event, used: &Use) -> Result<Value, String> {
    let mut map = ObjectMap::new();
    let mut put = |name: &str, value: &str| {
        if used.touches(name) {
            map.insert(name.into(), value.into());
        }
    };
    put("specversion", "1.0");
    put("id", &event.id);
    put("source", &event.source);
    put("type", &event.kind);
    put("time", &event.time.text);
    if let Some(subject) = &event.subject {
        put("subject", subject);
    }
    if let Some(content_type) = &event.data_content_type {
        put("datacontenttype", content_type);
    }
    if let Some(schema) = &event.data_schema {
        put("dataschema", schema);
    }
    for (name, value) in event.extensions.iter().filter(|(name, _)| used.touches(name)) {
        let value = match value {
            Extension::Text(text) => text.as_str().into(),
            Extension::Boolean(truth) => Value::Boolean(*truth),
            Extension::Integer(number) => Value::Integer((*number).into()),
        };
        map.insert(name.as_str().into(), value);
    }
    if used.reads {
        match &event.data {
            Data::None => {}
            Data::Json(text) => {
                let data =
                    json::parse(text).map_err(|error| format!("the data is not JSON: {error}"))?;
                map.insert("data".into(), data);
            }
            Data::Bytes(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => drop(map.insert("data".into(), text.into())),
                Err(_) => {
                    let encoded = BASE64_STANDARD.encode(bytes);
                    map.insert("data_base64".into(), encoded.into());
                }
            },
        }
    }
    Ok(Value::Object(map))
}

/// `.`, or an element of it, as an event again: the event it was, with what the program may have changed.
pub(super) fn to_event(value: Value, mut event: Event, used: &Use) -> Result<Event, String> {
    let Value::Object(map) = value else {
        return Err(format!("an event must be an object, not {}", value.kind_str()));
    };
    let mut fields = Fields::default();
    for (name, value) in map {
        fields.put(name, value)?;
    }
    if fields.specversion.as_deref().is_some_and(|version| version != "1.0") {
        return Err("`.specversion` must be \"1.0\"".into());
    }
    let was_json = matches!(event.data, Data::Json(_));
    let mut same_type = true;
    if used.touches("datacontenttype") {
        same_type = fields.content_type == event.data_content_type;
        event.data_content_type = fields.content_type;
    }
    if used.writes {
        let json = (was_json && same_type) || is_json(event.data_content_type.as_deref());
        event.data = to_data(fields.data, fields.data_base64, json)?;
    }
    if used.touches("time") {
        set_time(&mut event, fields.time)?;
    }
    if used.touches("id") {
        event.id = required("id", fields.id)?;
    }
    if used.touches("source") {
        event.source = required("source", fields.source)?;
    }
    if used.touches("type") {
        event.kind = required("type", fields.kind)?;
    }
    if used.touches("subject") {
        event.subject = fields.subject;
    }
    if used.touches("dataschema") {
        event.data_schema = fields.data_schema;
    }
    event.extensions.retain(|name, _| !used.touches(name));
    event.extensions.extend(fields.extensions);
    Ok(event)
}

#[derive(Default)]
struct Fields {
    specversion: Option<String>,
    id: Option<String>,
    source: Option<String>,
    kind: Option<String>,
    subject: Option<String>,
    time: Option<Value>,
    content_type: Option<String>,
    data_schema: Option<String>,
    data: Option<Value>,
    data_base64: Option<String>,
    extensions: Extensions,
}

impl Fields {
    fn put(&mut self, name: KeyString, value: Value) -> Result<(), String> {
        let slot = match name.as_str() {
            "data" => {
                self.data = Some(value);
                return Ok(());
            }
            "time" => {
                self.time = Some(value).filter(|value| *value != Value::Null);
                return Ok(());
            }
            "specversion" => &mut self.specversion,
            "id" => &mut self.id,
            "source" => &mut self.source,
            "type" => &mut self.kind,
            "subject" => &mut self.subject,
            "datacontenttype" => &mut self.content_type,
            "dataschema" => &mut self.data_schema,
            "data_base64" => &mut self.data_base64,
            _ => {
                if let Some(value) = extension(&name, value)? {
                    self.extensions.insert(name.into(), value);
                }
                return Ok(());
            }
        };
        *slot = match value {
            Value::Null => None,
            Value::String(_) | Value::Bytes(_) => Some(text(&name, value)?),
            other => return Err(format!("`.{name}` must be a string, not {}", other.kind_str())),
        };
        if slot.as_deref() == Some("") && name.as_str() != "data_base64" {
            return Err(format!("`.{name}` must not be empty"));
        }
        Ok(())
    }
}

fn text(name: &str, value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.into()),
        Value::Bytes(bytes) => String::from_utf8(bytes.into())
            .map_err(|_| format!("`.{name}` holds bytes that are not text")),
        other => Err(format!("`.{name}` must be a string, not {}", other.kind_str())),
    }
}

/// An extension attribute (CloudEvents 1.0, "Type System"). An integer beyond its 32 bits is text.
fn extension(name: &str, value: Value) -> Result<Option<Extension>, String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if name.is_empty() || !name.chars().all(plain) {
        return Err(format!(
            "`.{name}` is no attribute of an event: names are of lower-case letters and digits; put other values into `.data`"
        ));
    }
    match value {
        Value::Null => Ok(None),
        Value::Integer(number) => Ok(Some(
            i32::try_from(number).map_or_else(|_| number.to_string().into(), Extension::Integer),
        )),
        Value::Boolean(truth) => Ok(Some(Extension::Boolean(truth))),
        Value::Timestamp(time) => {
            Ok(Some(time.to_rfc3339_opts(SecondsFormat::AutoSi, true).into()))
        }
        Value::String(_) | Value::Bytes(_) => text(name, value).map(|text| Some(text.into())),
        other => Err(format!(
            "`.{name}` is an attribute and must be a string, an integer or a boolean, not {}; put it into `.data`",
            other.kind_str()
        )),
    }
}

fn required(name: &str, value: Option<String>) -> Result<String, String> {
    value.ok_or_else(|| {
        format!(
            "`.{name}` is missing: keep the event's, as in `merge(., {{\"type\": \"child\"}})`, or set it"
        )
    })
}

/// Sets the time, and notes whether the sink may take it for a bound on when the event was first appended.
///
/// It may not where the door filled the time in, nor where the program moved it ahead: then an
/// earlier copy of the event may have been appended before the time it carries.
fn set_time(event: &mut Event, value: Option<Value>) -> Result<(), String> {
    let text = match value {
        None => return Ok(()),
        Some(Value::Timestamp(time)) => time.to_rfc3339_opts(SecondsFormat::AutoSi, true),
        Some(value @ (Value::String(_) | Value::Bytes(_))) => text("time", value)?,
        Some(other) => {
            return Err(format!("`.time` must be a time, not {}", other.kind_str()));
        }
    };
    if text != event.time.text {
        let time = Timestamp::parse(&text).map_err(|error| format!("`.time` is {error}"))?;
        event.time_filled |= time.micros > event.time.micros;
        event.time = time;
    }
    Ok(())
}

fn to_data(data: Option<Value>, base64: Option<String>, json: bool) -> Result<Data, String> {
    match (data, base64) {
        (Some(_), Some(_)) => {
            Err("only one of `.data` and `.data_base64` may be there: `del` the other".into())
        }
        (None, None) => Ok(Data::None),
        (None, Some(text)) => BASE64_STANDARD
            .decode(text)
            .map(|bytes| Data::Bytes(bytes.into()))
            .map_err(|error| format!("`.data_base64` is not Base64: {error}")),
        (Some(value), None) if json => {
            let mut out = Vec::with_capacity(256);
            serde_json::to_writer(&mut out, &Exact(&value))
                .map_err(|error| format!("`.data` cannot be JSON: {error}"))?;
            Ok(Data::Json(out.into()))
        }
        (Some(Value::String(text)), None) => Ok(Data::Bytes(text.into_bytes())),
        (Some(Value::Bytes(bytes)), None) => Ok(Data::Bytes(bytes)),
        (Some(other), None) => Err(format!(
            "`.data` is {} but `.datacontenttype` is not JSON: set it to \"application/json\" or `del` it",
            other.kind_str()
        )),
    }
}

/// JSON by its media type; absent means JSON (CloudEvents 1.0, JSON format, section 3.1).
fn is_json(content_type: Option<&str>) -> bool {
    let Some(text) = content_type else { return true };
    let media = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media.ends_with("/json") || media.ends_with("+json")
}

/// A value as JSON, refusing what JSON would change without a word.
struct Exact<'a>(&'a Value);

impl Serialize for Exact<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Null => to.serialize_unit(),
            Value::Boolean(truth) => to.serialize_bool(*truth),
            Value::Integer(number) => to.serialize_i64(*number),
            Value::Float(number) if number.is_finite() => to.serialize_f64(number.into_inner()),
            Value::Float(_) => Err(S::Error::custom("a number in it is not finite")),
            Value::String(text) => to.serialize_str(text),
            Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => to.serialize_str(text),
                Err(_) => Err(S::Error::custom("it holds bytes that are not text")),
            },
            Value::Timestamp(time) => {
                to.serialize_str(&time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
            }
            Value::Regex(regex) => to.serialize_str(regex.as_str()),
            Value::Object(map) => {
                to.collect_map(map.iter().map(|(name, value)| (name.as_str(), Exact(value))))
            }
            Value::Array(values) => to.collect_seq(values.iter().map(Exact)),
        }
    }
}
