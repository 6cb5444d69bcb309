//! A JSON value that borrows from its text.
//!
//! Objects stay lists in the order they came: cheaper to build than a map, and an encoder that
//! knows the fields finds them where it expects them.

use std::{borrow::Cow, collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json<'a> {
    Null,
    Boolean(bool),
    Integer(i64),
    /// Above `i64::MAX`.
    Large(u64),
    Float(f64),
    Text(Cow<'a, str>),
    Array(Vec<Json<'a>>),
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

impl Json<'_> {
    /// What it is, in words for a fault.
    pub(super) fn found(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean(_) => "a boolean",
            Self::Integer(_) | Self::Large(_) => "an integer",
            Self::Float(_) => "a number with a fraction",
            Self::Text(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    /// The integer it is. Doubles are exact up to 2^53; a larger one may already have lost digits.
    pub(super) fn integer(&self) -> Option<i64> {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        match self {
            Self::Integer(number) => Some(*number),
            Self::Float(number) if number.fract() == 0.0 && number.abs() <= EXACT => {
                Some(*number as i64)
            }
            _ => None,
        }
    }
}

/// Places of an object's members whose name an earlier one has.
pub(super) fn repeated(members: &[(Cow<'_, str>, Json<'_>)]) -> Vec<usize> {
    let seen_before = |at: &usize| members[..*at].iter().any(|(name, _)| *name == members[*at].0);
    if members.len() <= FEW {
        return (0..members.len()).filter(seen_before).collect();
    }
    let mut seen = HashSet::with_capacity(members.len());
    (0..members.len()).filter(|at| !seen.insert(&*members[*at].0)).collect()
}

/// Members up to which comparing each with each is faster than hashing.
const FEW: usize = 8;

impl<'de> Deserialize<'de> for Json<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Json<'de>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }
    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Boolean(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Json<'de>, E> {
        Ok(Json::Integer(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Json<'de>, E> {
        Ok(i64::try_from(value).map_or(Json::Large(value), Json::Integer))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Json<'de>, E> {
        Ok(Json::Float(value))
    }
    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(value)))
    }
    fn visit_str<E>(self, value: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(value.to_owned())))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json<'de>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json<'de>, A::Error> {
        // not made larger in advance: a body may be full of small objects
        let mut members = Vec::new();
        while let Some(Key(name)) = map.next_key::<Key<'de>>()? {
            members.push((name, map.next_value()?));
        }
        Ok(Json::Object(members))
    }
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_an_object_of_one_member_then_it_takes_no_room_for_many() {
        let Json::Object(members) = serde_json::from_str(r#"{"":0}"#).unwrap() else {
            panic!("an object");
        };
        assert!(members.capacity() <= 4, "{}", members.capacity());
    }

    #[test]
    fn given_few_members_or_many_then_the_later_ones_of_a_name_are_found() {
        for count in [FEW, 10 * FEW] {
            let mut members: Vec<_> =
                (0..count).map(|at| (Cow::from(at.to_string()), Json::Null)).collect();
            assert_eq!(repeated(&members), [0; 0]);
            members[count - 1].0 = "0".into();
            assert_eq!(repeated(&members), [count - 1]);
        }
    }
}
