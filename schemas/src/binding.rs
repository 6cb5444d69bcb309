//! CloudEvents' Kafka binding, binary mode: attributes as `ce_*` headers, data as the value.
//!
//! The content type header says what the value is, never a guess from its bytes:
//!
//! | `content-type` | value |
//! |---|---|
//! | `application/avro` | Avro in Confluent framing |
//! | JSON (`application/json`, `.../...+json`) | JSON text |
//! | any other, or none | bytes as they came |
//!
//! An extension is a header with its canonical string; one header of ours, `penstock_typed`, names those
//! that are booleans or integers ([`crate::extension`]).
//!
//! Two more appear only where that would lose something, so that every event comes back
//! as it was: `penstock_content_type` holds the event's own `datacontenttype` when the header
//! above is not it (empty: it had none), and `penstock_data` is `json` or `bytes` when the table
//! would say otherwise. A record with neither reads as any CloudEvents consumer would read it.
//!
//! An event without data has no value at all, which is not the same as an empty one.

use std::sync::Arc;

use bytes::Bytes;
use eventlog::{Headers, Record};

use crate::{
    Data, DecodeError, Event, Extensions, Timestamp,
    extension::{self, TYPED},
    fault::short,
    structured::{is_attribute_name, is_json},
};

/// The header that carries an event's namespace.
pub const NAMESPACE_HEADER: &str = "penstock_namespace";
/// The header that says, when it is `true`, that the door filled `time` in.
pub const TIME_FILLED_HEADER: &str = "penstock_time_filled";
/// The event's own `datacontenttype`, when the content type header is another; empty for none.
const OWN_TYPE_HEADER: &str = "penstock_content_type";
/// What the value is, when the content type would say otherwise.
const DATA_HEADER: &str = "penstock_data";
/// The binding's name for the content type.
const CONTENT_TYPE: &str = "content-type";

const AVRO: &str = "application/avro";
const JSON: &str = "application/json";

/// What a record's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Avro,
    Json,
    Bytes,
}

fn form_of(content_type: Option<&str>) -> Form {
    match content_type {
        Some(AVRO) => Form::Avro,
        Some(media_type) if is_json(media_type) => Form::Json,
        _ => Form::Bytes,
    }
}

/// Makes the record of an event. `avro` is the framed datum of its data, when its type has a schema.
pub(crate) fn to_record(event: &Event, avro: Option<Bytes>) -> Record {
    let own = event.data_content_type.as_deref();
    let form = match (&avro, &event.data) {
        (Some(_), _) => Form::Avro,
        (None, Data::Json(_)) => Form::Json,
        (None, _) => Form::Bytes,
    };
    let content_type = match form {
        Form::Avro => Some(AVRO),
        Form::Json => own.or(Some(JSON)),
        Form::Bytes => own,
    };
    let mut headers = Headers::with_capacity(room(event));
    headers.push("ce_specversion", "1.0").push("ce_id", &event.id);
    headers.push("ce_source", &event.source).push("ce_type", &event.kind);
    if let Some(subject) = &event.subject {
        headers.push("ce_subject", subject);
    }
    headers.push("ce_time", &event.time.text);
    if let Some(schema) = &event.data_schema {
        headers.push("ce_dataschema", schema);
    }
    let mut name = String::new();
    for (extension, value) in &event.extensions {
        name.clear();
        name.push_str("ce_");
        name.push_str(extension);
        headers.push(&name, value.text().as_bytes());
    }
    if let Some(names) = extension::typed_names(&event.extensions) {
        headers.push(TYPED, names);
    }
    if let Some(content_type) = content_type {
        headers.push(CONTENT_TYPE, content_type);
    }
    headers.push(NAMESPACE_HEADER, &*event.namespace);
    if event.time_filled {
        headers.push(TIME_FILLED_HEADER, "true");
    }
    // Avro without the header of ours had no type of its own: by far the most common record
    let hidden = if form == Form::Avro { own.is_some() } else { own != content_type };
    if hidden {
        headers.push(OWN_TYPE_HEADER, own.unwrap_or_default());
    }
    let expected = form_of(content_type);
    if form != expected && (event.data != Data::None || expected == Form::Avro) {
        headers.push(DATA_HEADER, if form == Form::Json { "json" } else { "bytes" });
    }
    let value = avro.or_else(|| match &event.data {
        Data::None => None,
        Data::Json(bytes) | Data::Bytes(bytes) => Some(bytes.clone()),
    });
    let key = event.subject.as_ref().unwrap_or(&event.id);
    Record { key: Some(Bytes::copy_from_slice(key.as_bytes())), value, headers: headers.build() }
}

/// Bytes that an event's headers take at most.
fn room(event: &Event) -> usize {
    /// Names, framing and fixed values of all headers that any event can have.
    const FIXED: usize = 256;
    let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let extensions: usize =
        event.extensions.iter().map(|(n, v)| 10 + 2 * n.len() + v.text().len()).sum();
    // its own content type may stand in two headers
    FIXED
        + event.id.len()
        + event.source.len()
        + event.kind.len()
        + event.time.text.len()
        + event.namespace.len()
        + length(&event.subject)
        + length(&event.data_schema)
        + 2 * length(&event.data_content_type)
        + extensions
}

/// Takes a record apart: the event without its data, and what the value is.
pub(crate) fn from_record(record: &Record) -> Result<(Event, Form), DecodeError> {
    let mut found = Found::default();
    for (name, value) in record.headers.iter() {
        let Some(slot) = found.slot(name) else { continue };
        let value = std::str::from_utf8(value)
            .map_err(|_| DecodeError::Malformed(format!("header {name} is not UTF-8")))?;
        match slot {
            Slot::Known(slot) => *slot = Some(value),
            Slot::Extension(name) => {
                if !is_extension(name) {
                    let detail = format!("header ce_{} names no extension", short(name));
                    return Err(DecodeError::Malformed(detail));
                }
                found.extensions.insert(name.to_owned(), value.into());
            }
        }
    }
    found.event()
}

/// Whether a name can be an extension's: written as an event it must not pass for another member.
fn is_extension(name: &str) -> bool {
    is_attribute_name(name) && !matches!(name, "data" | "datacontenttype")
}

enum Slot<'a, 'b> {
    Known(&'a mut Option<&'b str>),
    Extension(&'b str),
}

#[derive(Default)]
struct Found<'b> {
    specversion: Option<&'b str>,
    id: Option<&'b str>,
    source: Option<&'b str>,
    kind: Option<&'b str>,
    subject: Option<&'b str>,
    time: Option<&'b str>,
    data_schema: Option<&'b str>,
    content_type: Option<&'b str>,
    own_type: Option<&'b str>,
    data: Option<&'b str>,
    namespace: Option<&'b str>,
    time_filled: Option<&'b str>,
    typed: Option<&'b str>,
    extensions: Extensions,
}

impl<'b> Found<'b> {
    fn slot<'a>(&'a mut self, name: &'b str) -> Option<Slot<'a, 'b>> {
        Some(Slot::Known(match name {
            "ce_specversion" => &mut self.specversion,
            "ce_id" => &mut self.id,
            "ce_source" => &mut self.source,
            "ce_type" => &mut self.kind,
            "ce_subject" => &mut self.subject,
            "ce_time" => &mut self.time,
            "ce_dataschema" => &mut self.data_schema,
            CONTENT_TYPE => &mut self.content_type,
            OWN_TYPE_HEADER => &mut self.own_type,
            DATA_HEADER => &mut self.data,
            NAMESPACE_HEADER => &mut self.namespace,
            TIME_FILLED_HEADER => &mut self.time_filled,
            TYPED => &mut self.typed,
            _ => return name.strip_prefix("ce_").map(Slot::Extension),
        }))
    }

    fn event(mut self) -> Result<(Event, Form), DecodeError> {
        let required = |name: &str, value: Option<&'b str>| match value {
            Some(value) if !value.is_empty() => Ok(value),
            _ => Err(DecodeError::Malformed(format!("header {name} is missing or empty"))),
        };
        if self.specversion != Some("1.0") {
            return Err(DecodeError::Malformed("header ce_specversion is not 1.0".into()));
        }
        let form = match self.data {
            None => form_of(self.content_type),
            Some("json") => Form::Json,
            Some("bytes") => Form::Bytes,
            Some(_) => {
                return Err(DecodeError::Malformed(format!("header {DATA_HEADER} is not known")));
            }
        };
        let own_type = match self.own_type {
            Some("") => None,
            None if form == Form::Avro => None,
            None => self.content_type,
            own => own,
        };
        let time = Timestamp::parse(required("ce_time", self.time)?)
            .map_err(|e| DecodeError::Malformed(format!("header ce_time is {e}")))?;
        extension::set_types(&mut self.extensions, self.typed.unwrap_or_default());
        let event = Event {
            namespace: Arc::from(required(NAMESPACE_HEADER, self.namespace)?),
            id: required("ce_id", self.id)?.to_owned(),
            source: required("ce_source", self.source)?.to_owned(),
            kind: required("ce_type", self.kind)?.to_owned(),
            subject: self.subject.map(str::to_owned),
            time,
            time_filled: self.time_filled == Some("true"),
            data_content_type: own_type.map(str::to_owned),
            data_schema: self.data_schema.map(str::to_owned),
            extensions: self.extensions,
            data: Data::None,
        };
        Ok((event, form))
    }
}

/// Who an event is, (namespace, source, id), from the headers of its record alone.
pub fn identity_of(record: &Record) -> Option<(&str, &str, &str)> {
    let (mut namespace, mut source, mut id) = (None, None, None);
    for (name, value) in record.headers.iter() {
        match name {
            NAMESPACE_HEADER => namespace = Some(value),
            "ce_source" => source = Some(value),
            "ce_id" => id = Some(value),
            _ => {}
        }
    }
    let text = |value: Option<_>| std::str::from_utf8(value?).ok();
    Some((text(namespace)?, text(source)?, text(id)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::tests::event;

    #[test]
    fn given_an_event_with_a_subject_then_it_is_the_key_and_else_the_id() {
        let with = Event { subject: Some("N5".into()), ..event() };
        assert_eq!(to_record(&with, None).key.as_deref(), Some(&b"N5"[..]));
        let without = Event { subject: None, ..event() };
        assert_eq!(to_record(&without, None).key.as_deref(), Some(without.id.as_bytes()));
    }

    #[test]
    fn given_a_record_then_its_identity_is_read_from_the_headers() {
        let record = Record { value: None, ..to_record(&event(), None) };
        assert_eq!(identity_of(&record), Some(("shop", "/orders", "1")));
    }

    #[test]
    fn given_a_record_without_namespace_then_it_has_no_identity() {
        let mut headers = Headers::builder();
        headers.push("ce_id", "1").push("ce_source", "/orders");
        assert_eq!(identity_of(&Record { headers: headers.build(), ..Record::default() }), None);
    }

    #[test]
    fn given_a_header_that_names_no_extension_then_the_record_is_malformed() {
        for name in ["ce_data", "ce_datacontenttype", "ce_", "ce_A", "ce_a_b"] {
            let mut record = to_record(&event(), None);
            let mut headers = record.headers.to_builder();
            headers.push(name, "x");
            record.headers = headers.build();
            assert!(matches!(from_record(&record), Err(DecodeError::Malformed(_))), "{name}");
        }
    }

    #[test]
    fn given_an_event_with_every_attribute_then_room_is_made_for_all_its_headers() {
        let event = Event {
            subject: Some("s".into()),
            data_schema: Some("d".into()),
            data_content_type: Some("application/avro".into()),
            time_filled: true,
            ..event()
        };
        let written = to_record(&event, None).headers.as_bytes().len();
        assert!((written..written + 100).contains(&room(&event)), "{written} {}", room(&event));
    }

    #[test]
    fn given_a_record_of_any_cloudevents_producer_then_its_content_type_is_the_events_own() {
        let mut headers = Headers::builder();
        for (name, value) in [
            ("ce_specversion", "1.0"),
            ("ce_id", "1"),
            ("ce_source", "/a"),
            ("ce_type", "t"),
            ("ce_time", "2020-01-01T00:00:00Z"),
            (NAMESPACE_HEADER, "n"),
            ("content-type", "application/json"),
            ("traceparent", "00-a-b-00"),
        ] {
            headers.push(name, value);
        }
        let record = Record { headers: headers.build(), ..Record::default() };
        let (event, form) = from_record(&record).unwrap();
        assert_eq!(
            (event.data_content_type.as_deref(), form),
            (Some("application/json"), Form::Json)
        );
        assert!(event.extensions.is_empty());
    }
}
