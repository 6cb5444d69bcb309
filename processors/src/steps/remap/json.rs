//! JSON text to VRL values, sharing the text: a string without escapes is a slice of it.
//!
//! Events are mostly strings, and programs copy values freely; a slice costs no allocation, neither
//! when it is made nor when it is copied. What comes out equals what VRL's own `Deserialize` makes.

use std::fmt;

use bytes::Bytes;
use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};
use vrl::value::{KeyString, ObjectMap, Value};

/// Reads one JSON text.
pub(super) fn parse(text: &Bytes) -> Result<Value, serde_json::Error> {
    let mut from = serde_json::Deserializer::from_slice(text);
    let value = Shared(text).deserialize(&mut from)?;
    from.end()?;
    Ok(value)
}

/// The text that strings are slices of.
#[derive(Clone, Copy)]
struct Shared<'a>(&'a Bytes);

impl<'de> DeserializeSeed<'de> for Shared<'de> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Shared<'de> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Value, E> {
        let shared = self.0.slice_ref(text.as_bytes()).try_into();
        shared.map(Value::String).map_err(E::custom)
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Boolean(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Integer(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        match i64::try_from(number) {
            Ok(number) => Ok(Value::Integer(number)),
            Err(_) => self.visit_f64(number as f64),
        }
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::from_f64_or_zero(number)) // JSON has no NaN, the one number that would be zero
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(self)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        // Building the map at once is faster than insertions; the last of equal names stays.
        let mut entries: Vec<(KeyString, Value)> = Vec::with_capacity(16);
        while let Some(name) = members.next_key()? {
            entries.push((name, members.next_value_seed(self)?));
        }
        Ok(Value::Object(entries.into_iter().collect::<ObjectMap>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_as_vrl_reads_it(text: &'static str) {
        let expected: Value = serde_json::from_str(text).unwrap();
        assert_eq!(parse(&Bytes::from_static(text.as_bytes())).unwrap(), expected, "{text}");
    }

    #[test]
    fn values_are_those_that_vrl_reads() {
        assert_as_vrl_reads_it(r#" {"s":"x","e":"a\n\u00e9","n":-1,"f":1.5,"t":true,"z":null} "#);
        assert_as_vrl_reads_it(r#"[[], {}, "", 9223372036854775807, 9223372036854775808, 1e300]"#);
        assert_as_vrl_reads_it("18446744073709551616");
    }

    #[test]
    fn the_last_of_equal_names_stays() {
        assert_as_vrl_reads_it(r#"{"a":1,"b":2,"a":3}"#);
    }

    #[test]
    fn a_plain_string_is_a_slice_of_the_text() {
        let text = Bytes::from_static(b"\"plain\"");
        let Value::String(string) = parse(&text).unwrap() else { panic!("not a string") };
        assert_eq!(string.as_ptr(), text[1..].as_ptr());
    }

    #[test]
    fn text_after_the_value_is_refused() {
        assert!(parse(&Bytes::from_static(b"1 2")).is_err());
    }
}
