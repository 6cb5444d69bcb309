//! Splitting a body into the texts of its events.
//!
//! Only the outermost form is parsed here: that the body is JSON at all, and where each event
//! begins and ends. What is in an event is for [`crate::check`]. A body that is one JSON text is
//! refused as a whole when it is broken, because nobody can say where its events are; a broken
//! line of NDJSON is that event's fault alone.

use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::{
    form::Form,
    refusal::{Position, Refusal},
};

/// The text of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Where it stands in NDJSON, from 1.
    pub line: Option<usize>,
    /// JSON, except for NDJSON and binary mode, where it may be anything.
    pub text: &'a [u8],
}

/// Splits a body of at most `max_events` events.
pub fn split(body: &[u8], form: Form, max_events: usize) -> Result<Vec<Piece<'_>>, Refusal> {
    match form {
        Form::Lines => lines(body, max_events),
        Form::Structured => one(body),
        // All of it is the data of one event.
        Form::Binary => Ok(vec![Piece { line: None, text: body }]),
        Form::Batch => array(body, max_events),
        Form::Plain => match body.trim_ascii_start().first() {
            Some(b'[') => array(body, max_events),
            _ => one(body),
        },
    }
}

/// Blank lines hold no event, but count as lines.
fn lines(body: &[u8], max_events: usize) -> Result<Vec<Piece<'_>>, Refusal> {
    let mut pieces = Vec::new();
    for (number, line) in body.split(|byte| *byte == b'\n').enumerate() {
        let text = line.trim_ascii();
        if text.is_empty() {
            continue;
        }
        if pieces.len() == max_events {
            return Err(Refusal::TooManyEvents(max_events));
        }
        pieces.push(Piece { line: Some(number + 1), text });
    }
    Ok(pieces)
}

fn one(body: &[u8]) -> Result<Vec<Piece<'_>>, Refusal> {
    let text = utf8(body)?;
    let event: &RawValue = serde_json::from_str(text).map_err(|e| malformed(body, &e))?;
    Ok(vec![Piece { line: None, text: event.get().as_bytes() }])
}

fn array(body: &[u8], max_events: usize) -> Result<Vec<Piece<'_>>, Refusal> {
    let text = utf8(body)?;
    let mut pieces = Pieces { found: Vec::new(), max_events, too_many: false };
    let mut from = serde_json::Deserializer::from_str(text);
    let read = pieces.deserialize(&mut from).and_then(|()| from.end());
    match read {
        Ok(()) => Ok(pieces.found),
        Err(_) if pieces.too_many => Err(Refusal::TooManyEvents(max_events)),
        Err(error) if error.is_data() => Err(Refusal::NotAnArray),
        Err(error) => Err(malformed(body, &error)),
    }
}

/// Collects the elements of an array and stops at the first one too many, so that a body of
/// millions of tiny elements cannot take many times its own size.
struct Pieces<'a> {
    found: Vec<Piece<'a>>,
    max_events: usize,
    too_many: bool,
}

impl<'de> DeserializeSeed<'de> for &mut Pieces<'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for &mut Pieces<'de> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(event) = elements.next_element::<&RawValue>()? {
            if self.found.len() == self.max_events {
                self.too_many = true;
                return Err(A::Error::custom("too many events"));
            }
            self.found.push(Piece { line: None, text: event.get().as_bytes() });
        }
        Ok(())
    }
}

fn utf8(body: &[u8]) -> Result<&str, Refusal> {
    if body.starts_with("\u{feff}".as_bytes()) {
        // RFC 8259, 8.1: it may not be added.
        let what = "it begins with a byte order mark: leave that out".into();
        return Err(Refusal::Malformed { what, at: position_of(body, 0) });
    }
    std::str::from_utf8(body).map_err(|error| Refusal::Malformed {
        what: "invalid UTF-8".into(),
        at: position_of(body, error.valid_up_to()),
    })
}

/// serde_json's syntax errors are fixed words and a position; they never repeat the text.
fn malformed(body: &[u8], error: &serde_json::Error) -> Refusal {
    let what = error.to_string();
    let what = what.rsplit_once(" at line ").map_or(&*what, |(what, _)| what).to_owned();
    let line_start = match error.line() {
        0 | 1 => 0,
        line => body
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'\n')
            .nth(line - 2)
            .map_or(body.len(), |(newline, _)| newline + 1),
    };
    let byte = if error.is_eof() { body.len() } else { line_start + error.column().max(1) - 1 };
    Refusal::Malformed { what, at: position_of(body, byte.min(body.len())) }
}

fn position_of(body: &[u8], byte: usize) -> Position {
    let before = &body[..byte];
    let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |newline| newline + 1);
    let line = 1 + before.iter().filter(|b| **b == b'\n').count();
    Position { line, column: byte - line_start + 1, byte }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(body: &str, form: Form) -> Vec<&str> {
        let pieces = split(body.as_bytes(), form, 100).unwrap();
        pieces.into_iter().map(|piece| std::str::from_utf8(piece.text).unwrap()).collect()
    }

    fn refusal(body: impl AsRef<[u8]>, form: Form) -> Refusal {
        split(body.as_ref(), form, 3).unwrap_err()
    }

    fn position(body: impl AsRef<[u8]>, form: Form) -> (usize, usize, usize) {
        match refusal(body, form) {
            Refusal::Malformed { at, .. } => (at.line, at.column, at.byte),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_array_is_split_into_its_elements_as_they_are_written() {
        assert_eq!(
            texts(" [ {\"a\": [1]} ,\n null,\"x\"] ", Form::Batch),
            ["{\"a\": [1]}", "null", "\"x\""]
        );
        assert!(texts("[]", Form::Batch).is_empty());
    }

    #[test]
    fn the_plain_form_is_one_event_or_an_array() {
        assert_eq!(texts("\n {\"a\":1} ", Form::Plain), ["{\"a\":1}"]);
        assert_eq!(texts("\n [1,2]", Form::Plain), ["1", "2"]);
    }

    #[test]
    fn blank_lines_hold_no_event_but_count() {
        let pieces = split(b"\n1\r\n \t\n2", Form::Lines, 9).unwrap();
        assert_eq!(
            pieces,
            [Piece { line: Some(2), text: b"1" }, Piece { line: Some(4), text: b"2" }]
        );
    }

    #[test]
    fn a_broken_line_is_still_a_piece() {
        assert_eq!(split(b"{\n\xff\n", Form::Lines, 9).unwrap().len(), 2);
    }

    #[test]
    fn one_event_too_many_is_refused_in_every_form() {
        assert_eq!(refusal("1\n2\n3\n4", Form::Lines), Refusal::TooManyEvents(3));
        assert_eq!(refusal("[1,2,3,4]", Form::Batch), Refusal::TooManyEvents(3));
        assert!(split(b"[1,2,3]", Form::Batch, 3).is_ok());
        assert!(split(b"1\n2\n3\n\n", Form::Lines, 3).is_ok());
    }

    #[test]
    fn broken_json_is_refused_with_line_column_and_byte() {
        assert_eq!(position("[1,\n {\"a\" 1}]", Form::Batch), (2, 7, 10));
        assert_eq!(position("x", Form::Structured), (1, 1, 0));
        assert_eq!(position("[1] 2", Form::Batch), (1, 5, 4));
        assert_eq!(position("{} {}", Form::Structured), (1, 4, 3));
    }

    #[test]
    fn json_that_ends_too_early_is_refused_at_its_end() {
        assert_eq!(position("{\"a\":\n[1,", Form::Structured), (2, 4, 9));
        assert_eq!(position("", Form::Plain), (1, 1, 0));
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_refused_where_they_stand() {
        assert_eq!(position(b"[1,\n\"\xff\"]", Form::Batch), (2, 2, 5));
    }

    #[test]
    fn a_byte_order_mark_is_named() {
        for form in [Form::Structured, Form::Batch, Form::Plain] {
            let said = refusal("\u{feff}[{}]", form).to_string();
            assert!(said.contains("byte order mark") && said.contains("byte 0"), "{said}");
        }
    }

    #[test]
    fn a_batch_that_is_no_array_is_refused() {
        assert_eq!(refusal("{\"a\":1}", Form::Batch), Refusal::NotAnArray);
        assert_eq!(refusal("\"secret\"", Form::Batch), Refusal::NotAnArray);
    }

    #[test]
    fn depth_alone_does_not_exhaust_the_stack() {
        let deep = "[".repeat(1_000_000);
        assert!(matches!(refusal(deep, Form::Batch), Refusal::Malformed { .. }));
    }

    proptest! {
        #[test]
        fn no_body_panics_and_positions_lie_within_it(
            body in prop::collection::vec(prop_oneof![Just(b'['), Just(b'"'), Just(b'\n'), Just(b','), any::<u8>()], 0..40),
            form in prop_oneof![Just(Form::Structured), Just(Form::Batch), Just(Form::Lines), Just(Form::Plain)],
        ) {
            if let Err(Refusal::Malformed { at, .. }) = split(&body, form, 3) {
                prop_assert!(at.byte <= body.len());
                prop_assert!(at.line >= 1 && at.column >= 1);
            }
        }
    }
}
