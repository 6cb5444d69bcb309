//! The types of CloudEvents attributes (section "Type System" of CloudEvents 1.0): which texts are
//! strings, URIs, URI references and media types.
//!
//! What is decided where there is room: `dataschema` may have a fragment, since schemas are often
//! named by one, although the absolute URI of RFC 3986 has none.

/// Whether a text holds only what a CloudEvents string may: no control characters and no
/// noncharacters of Unicode. (Half surrogate pairs cannot be in a `str`.)
pub(super) fn is_text(text: &str) -> bool {
    let ascii = text.bytes().all(|b| (0x20..0x7F).contains(&b));
    ascii || text.chars().all(|c| !c.is_control() && !is_noncharacter(c))
}

/// What is said of a text that is none.
pub(super) fn not_text(name: &str) -> String {
    format!("`{name}` must not hold control characters, nor code points that are no characters")
}

fn is_noncharacter(c: char) -> bool {
    let code = u32::from(c);
    (0xFDD0..=0xFDEF).contains(&code) || code & 0xFFFE == 0xFFFE
}

/// RFC 3986, 4.1.
pub(super) fn is_uri_reference(text: &str) -> bool {
    fluent_uri::UriRef::parse(text).is_ok()
}

/// RFC 3986, 3.
pub(super) fn is_uri(text: &str) -> bool {
    fluent_uri::Uri::parse(text).is_ok()
}

/// RFC 2046 with the grammar of RFC 2045, 5.1; empty parameters are let pass, as RFC 9110 does.
pub(super) fn is_media_type(text: &str) -> bool {
    let Some((kind, rest)) = text.split_once('/') else { return false };
    let end = rest.find(';').unwrap_or(rest.len());
    is_token(kind) && is_token(rest[..end].trim_end_matches(BLANK)) && are_parameters(&rest[end..])
}

const BLANK: [char; 2] = [' ', '\t'];

fn are_parameters(mut rest: &str) -> bool {
    loop {
        rest = rest.trim_start_matches(BLANK);
        let Some(parameter) = rest.strip_prefix(';') else { return rest.is_empty() };
        rest = parameter.trim_start_matches(BLANK);
        if rest.is_empty() || rest.starts_with(';') {
            continue;
        }
        let Some((name, value)) = rest.split_once('=') else { return false };
        let after = match value.strip_prefix('"') {
            Some(quoted) => after_quoted(quoted),
            None => {
                let end = value.find([';', ' ', '\t']).unwrap_or(value.len());
                is_token(&value[..end]).then(|| &value[end..])
            }
        };
        match after {
            Some(after) if is_token(name) => rest = after,
            _ => return false,
        }
    }
}

/// What follows a quoted string whose opening quote was read.
fn after_quoted(text: &str) -> Option<&str> {
    let mut escaped = false;
    let end = text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })?;
    Some(&text[end + 1..])
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_string_then_only_characters_are_let_in() {
        for text in ["", "plain", "Zürich 😀", "\u{FFFD}", "\u{E000}", "\u{FDCF}", "\u{FDF0}"] {
            assert!(is_text(text), "{text:?}");
        }
        for text in [
            "\0",
            "a\tb",
            "a\n",
            "\u{7F}",
            "\u{85}",
            "\u{FDD0}",
            "\u{FDEF}",
            "\u{FFFE}",
            "\u{1FFFF}",
            "\u{10FFFE}",
        ] {
            assert!(!is_text(text), "{text:?}");
        }
    }

    #[test]
    fn given_a_source_then_it_is_a_uri_reference() {
        for text in [
            "https://github.com/cloudevents",
            "mailto:cncf-wg-serverless@lists.cncf.io",
            "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66",
            "cloudevents/spec/pull/123",
            "/cloudevents/spec/pull/123",
            "1-555-123-4567",
            "//host:80/path?query#fragment",
            "http://[::1]:8080/",
            "/Z%C3%BCrich",
            "?only=query",
        ] {
            assert!(is_uri_reference(text), "{text}");
        }
        for text in ["a b", "/Zürich", "http://[::1", "%zz", "a\\b", "{id}", "1:relative", "<a>"] {
            assert!(!is_uri_reference(text), "{text}");
        }
    }

    #[test]
    fn given_a_schema_then_it_is_a_uri_with_a_scheme() {
        for text in ["https://example.com/schema", "urn:x:y", "http://a/b#/definitions/c"] {
            assert!(is_uri(text), "{text}");
        }
        for text in ["/schema", "schema", "//host/schema", "", "1a:x"] {
            assert!(!is_uri(text), "{text}");
        }
    }

    #[test]
    fn given_a_media_type_then_its_parameters_are_read_to_the_end() {
        for text in [
            "application/json",
            "application/vnd.x.v1+json",
            "text/plain;charset=utf-8",
            "text/plain ; charset=\"utf-8\" ; a=b",
            "a/b;c=\"d;\\\"e\"",
            "text/plain;",
        ] {
            assert!(is_media_type(text), "{text}");
        }
        for text in [
            "json",
            "/json",
            "a/",
            "a /b",
            "a/b c",
            "a/b/c",
            "a/b;c",
            "a/b;c=",
            "a/b;=d",
            "a/b;c=\"d",
            "ä/b",
            "a/b;c=d e",
        ] {
            assert!(!is_media_type(text), "{text}");
        }
    }
}
