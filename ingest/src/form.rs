//! What the head of a request says: the form of its body, its encoding, its preference.
//!
//! Media types are matched without regard to case or parameters (RFC 9110 8.3.1), except `charset`:
//! JSON is UTF-8 (RFC 8259 8.1), so any other character set is refused rather than misread.

use http::{
    HeaderMap,
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName},
};

use crate::refusal::Refusal;

/// How events lie in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One event in structured mode.
    Structured,
    /// An array of them.
    Batch,
    /// One per line.
    Lines,
    /// One or an array; what is missing is filled in.
    Plain,
}

/// How a body was compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// RFC 1952.
    Gzip,
}

/// What the head of a request says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The form of the body.
    pub form: Form,
    /// Its encoding.
    pub encoding: Encoding,
    /// Store nothing when any event is invalid.
    pub strict: bool,
}

/// The content types that are known, as answers name them.
pub const CONTENT_TYPES: [&str; 4] = [
    "application/cloudevents+json",
    "application/cloudevents-batch+json",
    "application/x-ndjson",
    "application/json",
];

/// The content encodings that are known, as answers name them.
pub const ENCODINGS: [&str; 2] = ["gzip", "identity"];

const FORMS: [Form; 4] = [Form::Structured, Form::Batch, Form::Lines, Form::Plain];

/// `Prefer`, RFC 7240.
pub const PREFER: HeaderName = HeaderName::from_static("prefer");

/// Marks binary mode of the CloudEvents HTTP binding.
const CE_SPECVERSION: HeaderName = HeaderName::from_static("ce-specversion");

impl Head {
    /// Reads the head, or says what in it is not known.
    pub fn read(headers: &HeaderMap) -> Result<Self, Refusal> {
        Ok(Self { form: form(headers)?, encoding: encoding(headers)?, strict: strict(headers) })
    }
}

fn form(headers: &HeaderMap) -> Result<Form, Refusal> {
    let binary = headers.contains_key(CE_SPECVERSION);
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Err(if binary { Refusal::BinaryMode } else { Refusal::MissingContentType });
    };
    let value = String::from_utf8_lossy(value.as_bytes());
    let (media_type, parameters) = value.split_once(';').unwrap_or((&value, ""));
    let media_type = media_type.trim();
    let known = CONTENT_TYPES.iter().position(|known| known.eq_ignore_ascii_case(media_type));
    // Only a CloudEvents media type tells structured from binary mode; with any other one the
    // body of a binary event is its data, and reading it as an event would be wrong.
    let is_cloudevents = matches!(known, Some(0 | 1));
    if binary && !is_cloudevents {
        return Err(Refusal::BinaryMode);
    }
    let Some(known) = known else {
        return Err(Refusal::UnknownContentType(shown(media_type)));
    };
    match charset(parameters) {
        Some(charset) if !is_utf8(&charset) => Err(Refusal::UnknownCharset(shown(&charset))),
        _ => Ok(FORMS[known]),
    }
}

fn charset(parameters: &str) -> Option<String> {
    parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("charset")
            .then(|| value.trim().trim_matches('"').to_owned())
    })
}

fn is_utf8(charset: &str) -> bool {
    ["utf-8", "utf8", "us-ascii"].iter().any(|known| known.eq_ignore_ascii_case(charset))
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, Refusal> {
    let mut found = Encoding::Identity;
    for value in headers.get_all(CONTENT_ENCODING) {
        let value = String::from_utf8_lossy(value.as_bytes());
        for coding in value.split(',').map(str::trim).filter(|c| !c.is_empty()) {
            match coding.to_ascii_lowercase().as_str() {
                "identity" => {}
                // RFC 9110 8.4.1.3: x-gzip is the same.
                "gzip" | "x-gzip" if found == Encoding::Identity => found = Encoding::Gzip,
                "gzip" | "x-gzip" => return Err(Refusal::UnknownEncoding(shown(&value))),
                _ => return Err(Refusal::UnknownEncoding(shown(coding))),
            }
        }
    }
    Ok(found)
}

/// RFC 7240: of a preference that is given twice the first one counts, unknown ones are ignored.
fn strict(headers: &HeaderMap) -> bool {
    headers
        .get_all(PREFER)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .find_map(|preference| {
            let preference = preference.split(';').next()?;
            let (name, value) = preference.split_once('=')?;
            name.trim()
                .eq_ignore_ascii_case("handling")
                .then(|| value.trim().trim_matches('"').eq_ignore_ascii_case("strict"))
        })
        .unwrap_or(false)
}

/// A header's value as an answer repeats it: not longer than a line.
fn shown(value: &str) -> String {
    value.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(headers: &[(&'static str, &str)]) -> Result<Head, Refusal> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        Head::read(&map)
    }

    fn form_of(content_type: &str) -> Option<Form> {
        head(&[("content-type", content_type)]).ok().map(|head| head.form)
    }

    #[test]
    fn each_known_content_type_has_its_form_whatever_the_case_and_parameters() {
        assert_eq!(form_of("application/cloudevents+json"), Some(Form::Structured));
        assert_eq!(form_of("application/cloudevents-batch+json"), Some(Form::Batch));
        assert_eq!(form_of("application/x-ndjson"), Some(Form::Lines));
        assert_eq!(form_of("application/json"), Some(Form::Plain));
        assert_eq!(form_of("Application/JSON ; Charset=\"UTF-8\"; a=b"), Some(Form::Plain));
        assert_eq!(form_of("application/jsonx"), None);
        assert_eq!(form_of("text/plain"), None);
    }

    #[test]
    fn a_charset_other_than_utf_8_is_refused() {
        let refused = head(&[("content-type", "application/json; charset=iso-8859-1")]);
        assert!(matches!(refused, Err(Refusal::UnknownCharset(c)) if c == "iso-8859-1"));
    }

    #[test]
    fn a_binary_mode_event_is_not_taken_for_a_structured_one() {
        let binary = [("content-type", "application/json"), ("ce-specversion", "1.0")];
        assert!(matches!(head(&binary), Err(Refusal::BinaryMode)));
        let structured =
            [("content-type", "application/cloudevents+json"), ("ce-specversion", "1.0")];
        assert!(head(&structured).is_ok());
    }

    fn encoding_of(values: &[&str]) -> Option<Encoding> {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(values.iter().map(|value| ("content-encoding", *value)));
        head(&headers).ok().map(|head| head.encoding)
    }

    #[test]
    fn gzip_and_identity_are_known_and_other_encodings_or_stacks_are_not() {
        assert_eq!(encoding_of(&[]), Some(Encoding::Identity));
        assert_eq!(encoding_of(&["identity"]), Some(Encoding::Identity));
        assert_eq!(encoding_of(&["GZIP"]), Some(Encoding::Gzip));
        assert_eq!(encoding_of(&["identity, x-gzip"]), Some(Encoding::Gzip));
        assert_eq!(encoding_of(&["gzip", "gzip"]), None);
        assert_eq!(encoding_of(&["zstd"]), None);
    }

    fn strict_of(values: &[&str]) -> bool {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(values.iter().map(|value| ("prefer", *value)));
        head(&headers).unwrap().strict
    }

    #[test]
    fn strict_is_asked_for_by_the_first_handling_preference() {
        assert!(!strict_of(&[]));
        assert!(strict_of(&["handling=strict"]));
        assert!(strict_of(&["respond-async, Handling = \"strict\"; x=y"]));
        assert!(strict_of(&["wait=1", "handling=strict"]));
        assert!(!strict_of(&["handling=lenient, handling=strict"]));
        assert!(!strict_of(&["strict"]));
    }
}
