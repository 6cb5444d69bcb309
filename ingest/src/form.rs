//! What the head of a request says: the form of its body, its encodings, its preferences.
//!
//! Media types are matched without regard to case or parameters (RFC 9110 8.3.1), except `charset`:
//! JSON is UTF-8 (RFC 8259 8.1), so any other character set is refused rather than misread.

use http::{
    HeaderMap, HeaderValue,
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
    /// One event in binary mode: its attributes are headers, the body is its data.
    Binary,
}

/// A way in which a body was compressed (RFC 9110, 8.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 1950; the bare stream of RFC 1951 is taken too.
    Deflate,
    /// RFC 8878.
    Zstd,
    /// RFC 7932.
    Brotli,
}

impl Coding {
    /// As `Content-Encoding` names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
            Self::Brotli => "br",
        }
    }
}

/// What the head of a request says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The form of the body.
    pub form: Form,
    /// Its encodings, in the order in which they were applied.
    pub codings: Vec<Coding>,
    /// Store nothing when any event is invalid.
    pub strict: bool,
    /// Names the request, so that a retry gives the ids again that were filled in.
    pub idempotency_key: Option<String>,
}

/// The content types that are known, as answers name them.
pub const CONTENT_TYPES: [&str; 4] = [
    "application/cloudevents+json",
    "application/cloudevents-batch+json",
    "application/x-ndjson",
    "application/json",
];

/// The content encodings that are known, as answers name them.
pub const ENCODINGS: [&str; 5] = ["gzip", "zstd", "br", "deflate", "identity"];

/// How many encodings may lie on top of each other.
const MAX_CODINGS: usize = 4;

/// Bytes that an `Idempotency-Key` may have.
pub const MAX_KEY_BYTES: usize = 255;

const FORMS: [Form; 4] = [Form::Structured, Form::Batch, Form::Lines, Form::Plain];

/// `Prefer`, RFC 7240.
pub const PREFER: HeaderName = HeaderName::from_static("prefer");

/// draft-ietf-httpapi-idempotency-key-header.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Any of them marks binary mode of the CloudEvents HTTP binding: a sender that forgot one of the
/// required attributes is told so, instead of having its data read as an event.
const BINARY_MARKS: [HeaderName; 4] = [
    HeaderName::from_static("ce-specversion"),
    HeaderName::from_static("ce-id"),
    HeaderName::from_static("ce-source"),
    HeaderName::from_static("ce-type"),
];

impl Head {
    /// Reads the head, or says what in it is not known.
    pub fn read(headers: &HeaderMap) -> Result<Self, Refusal> {
        Ok(Self {
            form: form(headers)?,
            codings: codings(headers)?,
            strict: strict(headers),
            idempotency_key: idempotency_key(headers)?,
        })
    }
}

fn form(headers: &HeaderMap) -> Result<Form, Refusal> {
    let binary = BINARY_MARKS.iter().any(|mark| headers.contains_key(mark));
    let mut values = headers.get_all(CONTENT_TYPE).iter().map(HeaderValue::as_bytes);
    let Some(value) = values.next() else {
        return if binary { Ok(Form::Binary) } else { Err(Refusal::MissingContentType) };
    };
    let value = String::from_utf8_lossy(value);
    if let Some(second) = values.next() {
        // One of them is wrong, and which is not for us to guess (RFC 9110, 8.3).
        let both = format!("{value}, {}", String::from_utf8_lossy(second));
        return Err(Refusal::UnknownContentType(shown(&both)));
    }
    let (media_type, parameters) = value.split_once(';').unwrap_or((&value, ""));
    let media_type = media_type.trim();
    let known = CONTENT_TYPES.iter().position(|known| known.eq_ignore_ascii_case(media_type));
    // Only a CloudEvents media type tells structured from binary mode (HTTP binding, 3); with any
    // other one the body of a binary event is its data.
    let is_cloudevents = media_type
        .get(.."application/cloudevents".len())
        .is_some_and(|start| start.eq_ignore_ascii_case("application/cloudevents"));
    if binary && !is_cloudevents {
        return Ok(Form::Binary);
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

fn codings(headers: &HeaderMap) -> Result<Vec<Coding>, Refusal> {
    let mut found = Vec::new();
    for value in headers.get_all(CONTENT_ENCODING) {
        let value = String::from_utf8_lossy(value.as_bytes());
        for coding in value.split(',').map(str::trim).filter(|c| !c.is_empty()) {
            found.push(match coding.to_ascii_lowercase().as_str() {
                "identity" => continue,
                // RFC 9110 8.4.1.3: x-gzip is the same.
                "gzip" | "x-gzip" => Coding::Gzip,
                "deflate" => Coding::Deflate,
                "zstd" => Coding::Zstd,
                "br" => Coding::Brotli,
                _ => return Err(Refusal::UnknownEncoding(shown(coding))),
            });
            if found.len() > MAX_CODINGS {
                return Err(Refusal::TooManyEncodings(MAX_CODINGS));
            }
        }
    }
    Ok(found)
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let key = key.to_str().map_err(|_| Refusal::IdempotencyKey)?;
    // The draft makes it a quoted string; most clients send it bare.
    let key = key.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(key);
    match keys.next().is_some() || key.is_empty() || key.len() > MAX_KEY_BYTES {
        true => Err(Refusal::IdempotencyKey),
        false => Ok(Some(key.to_owned())),
    }
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
    fn of_two_content_types_none_is_chosen() {
        let both = [("content-type", "application/json"), ("content-type", "application/x-ndjson")];
        let said = "application/json, application/x-ndjson";
        assert_eq!(head(&both), Err(Refusal::UnknownContentType(said.into())));
        let binary = [both[0], both[1], ("ce-id", "1")];
        assert!(matches!(head(&binary), Err(Refusal::UnknownContentType(_))));
    }

    #[test]
    fn a_charset_other_than_utf_8_is_refused() {
        let refused = head(&[("content-type", "application/json; charset=iso-8859-1")]);
        assert!(matches!(refused, Err(Refusal::UnknownCharset(c)) if c == "iso-8859-1"));
    }

    #[test]
    fn a_head_with_attributes_is_binary_mode_unless_its_type_is_a_cloudevents_one() {
        let form = |headers: &[(&'static str, &str)]| head(headers).map(|head| head.form);
        for mark in ["ce-specversion", "ce-id", "ce-source", "ce-type"] {
            assert_eq!(
                form(&[("content-type", "application/json"), (mark, "1.0")]),
                Ok(Form::Binary)
            );
            assert_eq!(form(&[("content-type", "image/png"), (mark, "1.0")]), Ok(Form::Binary));
            assert_eq!(form(&[(mark, "1.0")]), Ok(Form::Binary));
            let structured = [("content-type", "application/cloudevents+json"), (mark, "1.0")];
            assert_eq!(form(&structured), Ok(Form::Structured));
            let unknown = [("content-type", "Application/CloudEvents+xml"), (mark, "1.0")];
            assert!(matches!(form(&unknown), Err(Refusal::UnknownContentType(_))));
        }
        assert_eq!(form(&[("ce-extension", "x")]), Err(Refusal::MissingContentType));
    }

    #[test]
    fn an_idempotency_key_is_bare_or_quoted_and_neither_empty_nor_long_nor_twice() {
        let key = |values: &[&str]| {
            let mut headers = vec![("content-type", "application/json")];
            headers.extend(values.iter().map(|value| ("idempotency-key", *value)));
            head(&headers).map(|head| head.idempotency_key)
        };
        assert_eq!(key(&[]), Ok(None));
        assert_eq!(key(&["a-1"]), Ok(Some("a-1".to_owned())));
        assert_eq!(key(&["\"a-1\""]), Ok(Some("a-1".to_owned())));
        let long = "x".repeat(256);
        for refused in [&[""][..], &["\"\""], &[&long], &["a", "b"]] {
            assert_eq!(key(refused), Err(Refusal::IdempotencyKey));
        }
    }

    fn codings_of(values: &[&str]) -> Option<Vec<Coding>> {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(values.iter().map(|value| ("content-encoding", *value)));
        head(&headers).ok().map(|head| head.codings)
    }

    #[test]
    fn encodings_are_taken_in_the_order_in_which_they_were_applied() {
        assert_eq!(codings_of(&[]), Some(vec![]));
        assert_eq!(codings_of(&["identity"]), Some(vec![]));
        assert_eq!(codings_of(&["GZIP"]), Some(vec![Coding::Gzip]));
        assert_eq!(codings_of(&["identity, x-gzip"]), Some(vec![Coding::Gzip]));
        let stack = [Coding::Deflate, Coding::Zstd, Coding::Brotli];
        assert_eq!(codings_of(&["deflate, zstd", "br"]), Some(stack.to_vec()));
    }

    #[test]
    fn unknown_encodings_and_high_stacks_are_refused() {
        assert_eq!(codings_of(&["compress"]), None);
        assert_eq!(codings_of(&["gzip, gzip, gzip, gzip"]).map(|stack| stack.len()), Some(4));
        assert_eq!(codings_of(&["gzip, gzip, gzip, gzip, gzip"]), None);
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
