//! CloudEvents 1.0 as producers send them: JSON in structured mode, read and written, and HTTP binary
//! mode, read ([`binary`]).
//!
//! One pass over the text, borrowing from it; all faults of an event are collected, so that a
//! producer mends them at once. Not here: batches, transports, and whether data fits its schema.
//!
//! What is decided where CloudEvents leaves room:
//! * an attribute that is `null` is absent; `data: null` is the JSON value null, and
//!   `data_base64: null` is absent;
//! * extensions may be strings, booleans and 32-bit integers, and stay what they are;
//! * with a `datacontenttype` that is not JSON, `data` must be a string, and is that text;
//! * `data` must be JSON that any reader can build values of: no half surrogate pairs, no numbers
//!   beyond a double, at most 100 levels.

mod binary;
mod grammar;
mod members;

use std::{borrow::Cow, mem, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use members::{Attribute, Members, Name};
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

pub use binary::event_from_binary;

use crate::{
    Data, Event, Extension, Extensions, Fault, MAX_ATTRIBUTE_BYTES, Timestamp,
    fault::{MAX_FAULTS, short},
    json,
};

/// The longest attribute name, in bytes. CloudEvents asks for at most 20; a record's header has
/// room for more.
const MAX_ATTRIBUTE_NAME: usize = 128;

/// What the door knows and the body does not say.
pub struct Defaults<'a> {
    /// The tenant.
    pub namespace: &'a Arc<str>,
    /// Now, in microseconds since the Unix epoch: for an event without `time`.
    pub now: i64,
    /// Names an event without `id`; `None` makes that a fault.
    pub fill_id: Option<&'a mut dyn FnMut() -> String>,
    /// Takes an event without `specversion` for 1.0.
    pub fill_specversion: bool,
}

/// What was not in the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filled {
    /// `id`.
    pub id: bool,
    /// `time`.
    pub time: bool,
}

/// Reads one event. On failure all its faults, at least one and at most 20.
pub fn event_from_json(
    text: &[u8],
    defaults: &mut Defaults<'_>,
) -> Result<(Event, Filled), Vec<Fault>> {
    let mut members = match parse(text) {
        Ok(members) => members,
        Err(fault) => return Err(vec![fault]),
    };
    let (data, base64) = (members.data, mem::take(&mut members.data_base64));
    Check::default()
        .event(members, defaults, |check, media_type| check.data(data, base64, media_type))
}

fn parse(text: &[u8]) -> Result<Members<'_>, Fault> {
    let invalid = |detail: String| Fault::new("invalid_json", String::new(), detail);
    let text = std::str::from_utf8(text)
        .map_err(|e| invalid(format!("not UTF-8 at byte {}", e.valid_up_to())))?;
    if text.starts_with('\u{feff}') {
        return Err(invalid("it begins with a byte order mark: leave that out".into()));
    }
    let first = text.bytes().find(|b| !b.is_ascii_whitespace());
    if first != Some(b'{') {
        // serde would describe the value that it found instead, so it is not asked for an object
        return Err(match serde_json::from_str::<IgnoredAny>(text) {
            Ok(_) => Fault::new("not_an_object", String::new(), "an event is a JSON object"),
            Err(e) => not_json(text, &e),
        });
    }
    serde_json::from_str(text).map_err(|e| not_json(text, &e))
}

/// serde_json counts lines from the event's own first one: a position within a body is told elsewhere.
fn not_json(text: &str, error: &serde_json::Error) -> Fault {
    let what = error.to_string();
    let what = what.rsplit_once(" at line ").map_or(&*what, |(what, _)| what);
    let line = match text.contains('\n') {
        true => format!("line {}, ", error.line()),
        false => String::new(),
    };
    let detail = format!("not JSON: {what} at {line}column {} of the event", error.column());
    Fault::new("invalid_json", String::new(), detail)
}

/// Judges the members and collects what is wrong.
#[derive(Default)]
struct Check {
    faults: Vec<Fault>,
}

impl Check {
    fn event(
        mut self,
        members: Members<'_>,
        defaults: &mut Defaults<'_>,
        data: impl FnOnce(&mut Self, Option<&str>) -> Data,
    ) -> Result<(Event, Filled), Vec<Fault>> {
        let mut filled = Filled::default();
        for name in &members.repeated {
            self.repeated(name);
        }
        self.specversion(members.specversion, defaults.fill_specversion);
        let id = match (self.key("id", members.id), &mut defaults.fill_id) {
            (Some(id), _) => Some(id),
            (None, Some(name)) if self.faults_at("/id") == 0 => {
                filled.id = true;
                Some(name())
            }
            (None, _) => self.required("id"),
        };
        let source = self.source(members.source).or_else(|| self.required("source"));
        let kind = self.key("type", members.kind).or_else(|| self.required("type"));
        let subject = self.key("subject", members.subject);
        let data_schema = self.data_schema(members.dataschema);
        let time = self.time(members.time);
        if time.is_none() {
            filled.time = true;
        }
        let data_content_type = self.media_type(members.datacontenttype);
        let data = data(&mut self, data_content_type.as_deref());
        let extensions = self.extensions(members.extensions);
        match (id, source, kind) {
            (Some(id), Some(source), Some(kind)) if self.faults.is_empty() => {
                let event = Event {
                    namespace: defaults.namespace.clone(),
                    id,
                    source,
                    kind,
                    subject,
                    time: time.unwrap_or_else(|| Timestamp::from_micros(defaults.now)),
                    time_filled: filled.time,
                    data_content_type,
                    data_schema,
                    extensions,
                    data,
                };
                Ok((event, filled))
            }
            _ => {
                self.faults.truncate(MAX_FAULTS);
                Err(self.faults)
            }
        }
    }

    fn fault(&mut self, code: &'static str, name: &str, detail: impl Into<String>) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(Fault::at(code, short(name), detail));
        }
    }

    fn faults_at(&self, pointer: &str) -> usize {
        self.faults.iter().filter(|f| f.pointer == pointer).count()
    }

    fn repeated(&mut self, name: &str) {
        self.fault("duplicate_attribute", name, format!("`{}` is given twice", short(name)));
    }

    /// Faults a missing attribute, unless it was there and is faulted already.
    fn required(&mut self, name: &str) -> Option<String> {
        if self.faults_at(&format!("/{name}")) == 0 {
            self.fault("missing_attribute", name, format!("`{name}` is required"));
        }
        None
    }

    fn specversion(&mut self, value: Attribute<'_>, fill: bool) {
        match value {
            Attribute::Text(text) if text == "1.0" => {}
            Attribute::Absent if fill => {}
            Attribute::Absent => {
                self.required("specversion");
            }
            _ => self.fault("invalid_attribute", "specversion", "`specversion` must be \"1.0\""),
        }
    }

    /// A text that keys are made of.
    fn key(&mut self, name: &str, value: Attribute<'_>) -> Option<String> {
        let text = self.text(name, value)?;
        if text.len() <= MAX_ATTRIBUTE_BYTES {
            return Some(text);
        }
        let bytes = text.len();
        let detail = format!("`{name}` has {bytes} bytes, and may have {MAX_ATTRIBUTE_BYTES}");
        self.fault("invalid_attribute", name, detail);
        None
    }

    /// A non-empty string of the characters that CloudEvents allows.
    fn text(&mut self, name: &str, value: Attribute<'_>) -> Option<String> {
        let text = match value {
            Attribute::Absent => return None,
            Attribute::Text(text) => text,
            Attribute::Integer(_) => return self.not_text(name, "a number"),
            Attribute::Boolean(_) => return self.not_text(name, "a boolean"),
            Attribute::Other(found) => return self.not_text(name, found),
        };
        if text.is_empty() {
            self.fault("invalid_attribute", name, format!("`{name}` must not be empty"));
            return None;
        }
        if !grammar::is_text(&text) {
            let detail = grammar::not_text(name);
            self.fault("invalid_attribute", name, detail);
            return None;
        }
        Some(text.into_owned())
    }

    fn not_text(&mut self, name: &str, found: &str) -> Option<String> {
        self.fault("invalid_attribute", name, format!("`{name}` must be a string, not {found}"));
        None
    }

    fn source(&mut self, value: Attribute<'_>) -> Option<String> {
        let text = self.key("source", value)?;
        let detail = "`source` must be a URI reference (RFC 3986); escape other characters as %XX";
        self.of_form("source", text, grammar::is_uri_reference, detail)
    }

    fn data_schema(&mut self, value: Attribute<'_>) -> Option<String> {
        let text = self.text("dataschema", value)?;
        let detail = "`dataschema` must be a URI with a scheme (RFC 3986)";
        self.of_form("dataschema", text, grammar::is_uri, detail)
    }

    fn of_form(
        &mut self,
        name: &str,
        text: String,
        is_it: fn(&str) -> bool,
        detail: &str,
    ) -> Option<String> {
        if is_it(&text) {
            return Some(text);
        }
        self.fault("invalid_attribute", name, detail);
        None
    }

    fn media_type(&mut self, value: Attribute<'_>) -> Option<String> {
        let text = self.text("datacontenttype", value)?;
        let detail = "`datacontenttype` must be a media type such as application/json (RFC 2046)";
        self.of_form("datacontenttype", text, grammar::is_media_type, detail)
    }

    fn time(&mut self, value: Attribute<'_>) -> Option<Timestamp> {
        let text = self.text("time", value)?;
        match crate::time::parse_micros(&text) {
            Ok(micros) => Some(Timestamp { micros, text }),
            Err(e) => {
                self.fault("invalid_attribute", "time", format!("`time` is {e}"));
                None
            }
        }
    }

    fn extensions(&mut self, found: Vec<(Cow<'_, str>, Attribute<'_>)>) -> Extensions {
        let mut extensions = Extensions::new();
        for (name, value) in found {
            if name.len() > MAX_ATTRIBUTE_NAME || !is_attribute_name(&name) {
                let detail = "attribute names are at most 128 of the characters a-z and 0-9";
                self.fault("invalid_attribute_name", &name, detail);
                continue;
            }
            let value = match value {
                Attribute::Absent => continue,
                Attribute::Text(text) if grammar::is_text(&text) => text.into_owned().into(),
                Attribute::Text(_) => {
                    let detail = grammar::not_text(&name);
                    self.fault("invalid_attribute", &name, detail);
                    continue;
                }
                Attribute::Integer(number) => Extension::Integer(number),
                Attribute::Boolean(value) => Extension::Boolean(value),
                Attribute::Other(what) => {
                    let detail = format!(
                        "`{name}` must be a string, a boolean or a 32-bit integer, not {what}"
                    );
                    self.fault("invalid_attribute", &name, detail);
                    continue;
                }
            };
            if extensions.contains_key(&*name) {
                self.repeated(&name);
            } else {
                extensions.insert(name.into_owned(), value);
            }
        }
        extensions
    }

    fn data(
        &mut self,
        data: Option<&RawValue>,
        base64: Attribute<'_>,
        content_type: Option<&str>,
    ) -> Data {
        let raw = match (data, base64) {
            (None, Attribute::Absent) => return Data::None,
            (Some(raw), Attribute::Absent) => raw.get(),
            (None, Attribute::Text(text)) => {
                return match STANDARD.decode(text.as_bytes()) {
                    Ok(bytes) => Data::Bytes(bytes.into()),
                    Err(_) => self.no_data("data_base64", "`data_base64` is not base64"),
                };
            }
            (None, _) => return self.no_data("data_base64", "`data_base64` must be a string"),
            (Some(_), _) => {
                let detail = "`data` and `data_base64` exclude each other";
                return self.no_data("data_base64", detail);
            }
        };
        if let Err(unfit) = json::check_skimmed(raw) {
            return self.no_data("data", unfit.detail());
        }
        if content_type.is_none_or(is_json) {
            return Data::Json(Bytes::copy_from_slice(raw.as_bytes()));
        }
        match serde_json::from_str::<Name<'_>>(raw).ok().filter(|_| raw.starts_with('"')) {
            Some(Name(text)) => Data::Bytes(text.into_owned().into()),
            None => {
                let detail = "`data` must be a string when `datacontenttype` is not JSON";
                self.no_data("data", detail)
            }
        }
    }

    fn no_data(&mut self, name: &str, detail: &str) -> Data {
        self.fault("invalid_data", name, detail);
        Data::None
    }
}

/// The grammar of attribute names.
pub(crate) fn is_attribute_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// Whether a media type is JSON: the subtype is `json` or ends in `+json`.
pub(crate) fn is_json(media_type: &str) -> bool {
    if media_type == "application/json" {
        return true;
    }
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    let subtype = essence.split_once('/').map_or("", |(_, s)| s).as_bytes();
    subtype.eq_ignore_ascii_case(b"json")
        || subtype.last_chunk::<5>().is_some_and(|end| end.eq_ignore_ascii_case(b"+json"))
}

/// Writes one event: JSON data inline, other bytes as `data_base64`.
pub fn event_to_json(event: &Event, out: &mut Vec<u8>) {
    out.reserve(256);
    out.extend_from_slice(br#"{"specversion":"1.0","id":"#);
    json::push_string(out, &event.id);
    let member = |out: &mut Vec<u8>, name: &str, value: &str| {
        out.push(b',');
        json::push_string(out, name);
        out.push(b':');
        json::push_string(out, value);
    };
    member(out, "source", &event.source);
    member(out, "type", &event.kind);
    if let Some(subject) = &event.subject {
        member(out, "subject", subject);
    }
    member(out, "time", &event.time.text);
    if let Some(media_type) = &event.data_content_type {
        member(out, "datacontenttype", media_type);
    }
    if let Some(schema) = &event.data_schema {
        member(out, "dataschema", schema);
    }
    for (name, value) in &event.extensions {
        match value {
            Extension::Text(text) => member(out, name, text),
            typed => {
                out.push(b',');
                json::push_string(out, name);
                out.push(b':');
                out.extend_from_slice(typed.text().as_bytes());
            }
        }
    }
    match &event.data {
        Data::None => {}
        Data::Json(text) => {
            out.extend_from_slice(br#","data":"#);
            out.extend_from_slice(text);
        }
        Data::Bytes(bytes) => member(out, "data_base64", &STANDARD.encode(bytes)),
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests;
