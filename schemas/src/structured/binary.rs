//! CloudEvents HTTP binding 1.0.2, binary mode (section 3.1): attributes in `ce-*` headers, data as
//! the body.
//!
//! What is decided where the binding leaves room: a `%` that begins no escape stands for itself,
//! because senders older than the escaping rule do not escape it; an empty body is no data; and
//! data of a JSON media type must be JSON, since readers get it inline.

use std::borrow::Cow;

use bytes::Bytes;

use super::{
    Check, Defaults, Filled, is_json,
    members::{Attribute, Members},
};
use crate::{Data, Event, Fault, json};

/// What the headers of attributes begin with.
const PREFIX: &str = "ce-";

/// Reads one event. `headers` are all headers of the request, names in lower case. On failure all
/// its faults, at least one and at most 20; pointers are those of the event in structured form.
pub fn event_from_binary<'a>(
    headers: impl Iterator<Item = (&'a str, &'a [u8])>,
    body: Bytes,
    defaults: &mut Defaults<'_>,
) -> Result<(Event, Filled), Vec<Fault>> {
    let mut members = Members::default();
    let mut check = Check::default();
    for (name, value) in headers {
        if name == "content-type" {
            match std::str::from_utf8(value) {
                Ok(text) => members.set("datacontenttype", Attribute::Text(text.trim().into())),
                Err(_) => {
                    check.fault("invalid_attribute", "datacontenttype", "Content-Type is not text")
                }
            }
        }
        let Some(name) = name.strip_prefix(PREFIX) else { continue };
        match name {
            "datacontenttype" => {
                let detail = "in binary mode the Content-Type header says what `data` is";
                check.fault("invalid_attribute", name, detail);
            }
            "data" | "data_base64" => {
                let detail = "in binary mode the data is the body";
                check.fault("invalid_attribute_name", name, detail);
            }
            _ => match text(value) {
                Some(text) => members.set(name, Attribute::Text(text)),
                None => {
                    let detail =
                        format!("the header ce-{} is not UTF-8", crate::fault::short(name));
                    check.fault("invalid_attribute", name, detail);
                }
            },
        }
    }
    check.event(members, defaults, |check, media_type| check.body(body, media_type))
}

impl Check {
    fn body(&mut self, body: Bytes, media_type: Option<&str>) -> Data {
        if body.is_empty() {
            return Data::None;
        }
        if !media_type.is_some_and(is_json) {
            return Data::Bytes(body);
        }
        let Ok(text) = std::str::from_utf8(&body) else {
            return self.no_data("data", "the body is not UTF-8, which JSON must be");
        };
        let raw = match serde_json::from_str::<&serde_json::value::RawValue>(text) {
            Ok(raw) => raw.get(),
            Err(error) => return self.no_data("data", &format!("the body is not JSON: {error}")),
        };
        match json::check_skimmed(raw) {
            Ok(()) => Data::Json(Bytes::copy_from_slice(raw.as_bytes())),
            Err(unfit) => self.no_data("data", unfit.detail()),
        }
    }
}

/// A header's value as an attribute's: unquoted (RFC 9110, 5.6.4), then percent-decoded once
/// (HTTP binding, 3.1.3.2). `None` when that is not UTF-8.
fn text(value: &[u8]) -> Option<Cow<'_, str>> {
    let quoted = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    let value: Cow<'_, [u8]> = match quoted {
        Some(inner) => unescaped(inner).into(),
        None => value.into(),
    };
    if !value.contains(&b'%') {
        return match value {
            Cow::Borrowed(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
            Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
        };
    }
    String::from_utf8(percent_decoded(&value)).ok().map(Cow::Owned)
}

fn unescaped(quoted: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter();
    while let Some(byte) = bytes.next() {
        plain.push(if *byte == b'\\' { *bytes.next().unwrap_or(byte) } else { *byte });
    }
    plain
}

fn percent_decoded(bytes: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [byte, after @ ..] = rest {
        rest = after;
        match (byte, digit(after.first()), digit(after.get(1))) {
            (b'%', Some(high), Some(low)) => {
                plain.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            _ => plain.push(*byte),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const REQUIRED: [(&str, &[u8]); 4] =
        [("ce-specversion", b"1.0"), ("ce-id", b"1"), ("ce-source", b"/s"), ("ce-type", b"t")];

    fn read(more: &[(&str, &[u8])], body: &[u8]) -> Result<Event, Vec<Fault>> {
        let namespace: Arc<str> = "default".into();
        let mut defaults =
            Defaults { namespace: &namespace, now: 7, fill_id: None, fill_specversion: false };
        // A later header of a name takes the place of a required one.
        let required = REQUIRED.iter().filter(|(name, _)| more.iter().all(|(m, _)| m != name));
        let headers = required.chain(more).map(|(name, value)| (*name, *value));
        event_from_binary(headers, Bytes::copy_from_slice(body), &mut defaults)
            .map(|(event, _)| event)
    }

    fn faults(more: &[(&str, &[u8])], body: &[u8]) -> Vec<(&'static str, String)> {
        read(more, body).unwrap_err().into_iter().map(|f| (f.code, f.pointer)).collect()
    }

    #[test]
    fn given_attributes_in_headers_then_they_are_the_events() {
        let more: [(&str, &[u8]); 5] = [
            ("content-type", b"application/json; charset=utf-8"),
            ("ce-subject", b"order-1"),
            ("ce-time", b"2026-01-01T00:00:00Z"),
            ("ce-tenant", b"7"),
            ("accept", b"*/*"),
        ];
        let event = read(&more, b" {\"a\": 1}\n").unwrap();
        assert_eq!((&*event.id, &*event.source, &*event.kind), ("1", "/s", "t"));
        assert_eq!(event.subject.as_deref(), Some("order-1"));
        assert_eq!(event.time.text, "2026-01-01T00:00:00Z");
        assert_eq!(
            event.extensions.into_iter().collect::<Vec<_>>(),
            [("tenant".to_owned(), "7".into())]
        );
        assert_eq!(event.data_content_type.as_deref(), Some("application/json; charset=utf-8"));
        assert_eq!(event.data, Data::Json(Bytes::from_static(b"{\"a\": 1}")));
    }

    #[test]
    fn given_no_time_then_it_is_filled_in() {
        let event = read(&[], b"").unwrap();
        assert_eq!((event.time.micros, event.time_filled), (7, true));
    }

    #[test]
    fn given_escapes_then_they_are_decoded_once() {
        let cases: [(&[u8], &str); 6] = [
            (b"Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro \u{20ac} \u{1f600}"),
            (b"100%2525", "100%25"),
            (b"\"a \\\"quoted\\\" one%21\"", "a \"quoted\" one!"),
            (b"50% off", "50% off"),
            ("caf\u{e9}".as_bytes(), "caf\u{e9}"),
            (b"%e2%82%ac", "\u{20ac}"),
        ];
        for (value, meant) in cases {
            let event = read(&[("ce-subject", value)], b"").unwrap();
            assert_eq!(event.subject.as_deref(), Some(meant));
        }
    }

    #[test]
    fn given_a_value_that_is_not_utf_8_then_its_attribute_is_faulted() {
        let invalid = [("invalid_attribute", "/subject".to_owned())];
        assert_eq!(faults(&[("ce-subject", b"%ff")], b""), invalid);
        assert_eq!(faults(&[("ce-subject", b"\xff")], b""), invalid);
    }

    #[test]
    fn given_an_escaped_control_character_then_its_attribute_is_faulted() {
        assert_eq!(
            faults(&[("ce-subject", b"a%0Ab")], b""),
            [("invalid_attribute", "/subject".into())]
        );
    }

    #[test]
    fn given_data_that_is_not_json_then_it_is_kept_as_it_came() {
        let event = read(&[("content-type", b"image/png")], b"\x89PNG").unwrap();
        assert_eq!(event.data, Data::Bytes(Bytes::from_static(b"\x89PNG")));
        let event = read(&[], b"plain").unwrap();
        assert_eq!((event.data, event.data_content_type), (Data::Bytes("plain".into()), None));
        assert_eq!(read(&[("content-type", b"application/json")], b"").unwrap().data, Data::None);
    }

    #[test]
    fn given_a_json_type_and_other_data_then_it_is_faulted() {
        let json: [(&str, &[u8]); 1] = [("content-type", b"application/vnd.x+json")];
        let invalid = [("invalid_data", "/data".to_owned())];
        for body in [&b"{\"a\":"[..], b"{} {}", b"\"\xff\"", b"[1e999]"] {
            assert_eq!(faults(&json, body), invalid);
        }
    }

    #[test]
    fn given_missing_or_repeated_attributes_then_all_are_faulted() {
        let namespace: Arc<str> = "default".into();
        let mut defaults =
            Defaults { namespace: &namespace, now: 0, fill_id: None, fill_specversion: false };
        let headers: [(&str, &[u8]); 2] = [("ce-type", b"t"), ("ce-type", b"u")];
        let faults =
            event_from_binary(headers.into_iter(), Bytes::new(), &mut defaults).unwrap_err();
        let found: Vec<_> = faults.iter().map(|f| (f.code, &*f.pointer)).collect();
        assert_eq!(
            found,
            [
                ("duplicate_attribute", "/type"),
                ("missing_attribute", "/specversion"),
                ("missing_attribute", "/id"),
                ("missing_attribute", "/source"),
            ]
        );
    }

    #[test]
    fn given_headers_that_binary_mode_has_no_place_for_then_they_are_faulted() {
        assert_eq!(
            faults(&[("ce-datacontenttype", b"a/b"), ("ce-data", b"1"), ("ce-my-ext", b"1")], b""),
            [
                ("invalid_attribute", "/datacontenttype".into()),
                ("invalid_attribute_name", "/data".into()),
                ("invalid_attribute_name", "/my-ext".into()),
            ]
        );
    }
}
