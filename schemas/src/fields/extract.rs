//! The scalars at several paths, in one pass over the data.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{Path, Place, attribute};
use crate::{Data, Event};

/// A JSON value that holds no others.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar<'e> {
    /// `null`
    Null,
    /// `true` or `false`
    Boolean(bool),
    /// A whole number that fits.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// A string.
    Text(Cow<'e, str>),
}

impl Scalar<'_> {
    /// The number, if it is one.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Integer(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
            _ => None,
        }
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Appends it as JSON.
    pub fn push_json(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Boolean(true) => out.extend_from_slice(b"true"),
            Self::Boolean(false) => out.extend_from_slice(b"false"),
            Self::Integer(number) => out.extend_from_slice(number.to_string().as_bytes()),
            Self::Float(number) => crate::json::push_f64(out, *number),
            Self::Text(text) => crate::json::push_string(out, text),
        }
    }
}

/// Takes the scalars at a fixed list of paths out of events.
#[derive(Clone, Debug, Default)]
pub struct Extractor {
    paths: usize,
    attributes: Vec<(usize, String)>,
    data: Wanted,
}

/// What is wanted of one JSON value: itself for these places, and these of its members.
#[derive(Clone, Debug, Default)]
struct Wanted {
    itself: Vec<usize>,
    members: Vec<(String, Wanted)>,
}

impl Wanted {
    fn add(&mut self, segments: &[String], place: usize) {
        let Some((first, rest)) = segments.split_first() else {
            self.itself.push(place);
            return;
        };
        let at = self.members.iter().position(|(name, _)| name == first).unwrap_or_else(|| {
            self.members.push((first.clone(), Self::default()));
            self.members.len() - 1
        });
        self.members[at].1.add(rest, place);
    }
}

impl Extractor {
    /// An extractor of the scalars at these paths.
    pub fn new(paths: &[Path]) -> Self {
        let mut extractor = Self { paths: paths.len(), ..Self::default() };
        for (place, path) in paths.iter().enumerate() {
            match &path.0 {
                Place::Attribute(name) => extractor.attributes.push((place, name.clone())),
                Place::Data(segments) => extractor.data.add(segments, place),
            }
        }
        extractor
    }

    /// The scalar at each path, in the order of the paths; `None` where there is nothing, an
    /// object or an array. Of a member that is given twice the last counts.
    pub fn extract<'e>(&self, event: &'e Event) -> Vec<Option<Scalar<'e>>> {
        let mut found = vec![None; self.paths];
        self.extract_into(event, &mut found);
        found
    }

    /// As [`Extractor::extract`], into a slice with a place for each path.
    pub fn extract_into<'e>(&self, event: &'e Event, found: &mut [Option<Scalar<'e>>]) {
        found.fill(None);
        for (place, name) in &self.attributes {
            found[*place] = attribute(event, name).map(Scalar::Text);
        }
        let wants_data = !self.data.itself.is_empty() || !self.data.members.is_empty();
        if let (true, Data::Json(text)) = (wants_data, &event.data) {
            let text = std::str::from_utf8(text).unwrap_or_default();
            let mut from = serde_json::Deserializer::from_str(text);
            // JSON that breaks off gives what was found before; `Data::Json` never is
            let _ = Seed { wanted: &self.data, found }.deserialize(&mut from);
        }
    }
}

struct Seed<'w, 'f, 'de> {
    wanted: &'w Wanted,
    found: &'f mut [Option<Scalar<'de>>],
}

impl<'de> Seed<'_, '_, 'de> {
    fn put<E>(self, scalar: Option<Scalar<'de>>) -> Result<(), E> {
        for place in &self.wanted.itself {
            self.found[*place] = scalar.clone();
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_, '_, 'de> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_, 'de> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        self.put(Some(Scalar::Null))
    }
    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.put(Some(Scalar::Boolean(value)))
    }
    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.put(Some(Scalar::Integer(value)))
    }
    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.put(Some(i64::try_from(value).map_or(Scalar::Float(value as f64), Scalar::Integer)))
    }
    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.put(Some(Scalar::Float(value)))
    }
    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<(), E> {
        self.put(Some(Scalar::Text(Cow::Borrowed(value))))
    }
    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.put(Some(Scalar::Text(Cow::Owned(value.to_owned()))))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        self.put(None)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(name)) = map.next_key::<Key<'de>>()? {
            match self.wanted.members.iter().find(|(member, _)| *member == name) {
                Some((_, wanted)) => {
                    map.next_value_seed(Seed { wanted, found: &mut *self.found })?
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        self.put(None)
    }
}

/// A member's name, borrowed when it holds no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::tests::event;

    fn extract(paths: &[&str], data: &'static str) -> Vec<Option<Scalar<'static>>> {
        let event = Event { data: Data::Json(data.into()), ..event() };
        let paths: Vec<_> = paths.iter().map(|p| Path::parse(p).unwrap()).collect();
        let own = |s: Scalar<'_>| match s {
            Scalar::Text(text) => Scalar::Text(Cow::Owned(text.into_owned())),
            Scalar::Null => Scalar::Null,
            Scalar::Boolean(b) => Scalar::Boolean(b),
            Scalar::Integer(n) => Scalar::Integer(n),
            Scalar::Float(n) => Scalar::Float(n),
        };
        Extractor::new(&paths).extract(&event).into_iter().map(|s| s.map(own)).collect()
    }

    fn text(value: &str) -> Option<Scalar<'static>> {
        Some(Scalar::Text(Cow::Owned(value.to_owned())))
    }

    #[test]
    fn given_several_paths_then_each_gets_its_scalar_in_order() {
        let data =
            r#"{"a":{"b":1.5,"c":"\u0041"},"d":null,"e":[1],"f":-2,"g":18446744073709551615}"#;
        let paths =
            ["data.a.b", "type", "data.a.c", "data.d", "data.e", "data.f", "data.g", "data.x"];
        assert_eq!(
            extract(&paths, data),
            [
                Some(Scalar::Float(1.5)),
                text("order.placed"),
                text("A"),
                Some(Scalar::Null),
                None,
                Some(Scalar::Integer(-2)),
                Some(Scalar::Float(u64::MAX as f64)),
                None,
            ]
        );
    }

    #[test]
    fn given_the_same_path_twice_then_both_places_are_filled() {
        assert_eq!(extract(&["data.a", "data.a"], r#"{"a":"x"}"#), [text("x"), text("x")]);
    }

    #[test]
    fn given_a_path_through_a_scalar_then_nothing_is_found() {
        assert_eq!(
            extract(&["data.a.b", "data.a"], r#"{"a":true}"#),
            [None, Some(Scalar::Boolean(true))]
        );
    }

    #[test]
    fn given_data_that_is_a_scalar_itself_then_the_path_data_is_it() {
        assert_eq!(extract(&["data"], "7"), [Some(Scalar::Integer(7))]);
    }
}
