//! The members of an event's object, as they came: one pass, nothing judged.
//!
//! Every JSON value is taken whatever attribute it stands for, so that serde never has a reason to
//! describe a value in an error.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// An attribute's value before it is judged.
#[derive(Default)]
pub(super) enum Attribute<'a> {
    #[default]
    Absent,
    Text(Cow<'a, str>),
    Integer(i32),
    Boolean(bool),
    Other(&'static str),
}

/// The members of the object, as they came.
#[derive(Default)]
pub(super) struct Members<'a> {
    pub(super) specversion: Attribute<'a>,
    pub(super) id: Attribute<'a>,
    pub(super) source: Attribute<'a>,
    pub(super) kind: Attribute<'a>,
    pub(super) subject: Attribute<'a>,
    pub(super) time: Attribute<'a>,
    pub(super) datacontenttype: Attribute<'a>,
    pub(super) dataschema: Attribute<'a>,
    pub(super) data_base64: Attribute<'a>,
    pub(super) data: Option<&'a RawValue>,
    pub(super) extensions: Vec<(Cow<'a, str>, Attribute<'a>)>,
    seen: u16,
    pub(super) repeated: Vec<Cow<'a, str>>,
}

/// A string, borrowed when it holds no escapes.
pub(super) struct Name<'a>(pub(super) Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member's name")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        from.deserialize_str(Text)
    }
}

impl<'de> Deserialize<'de> for Attribute<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Attribute<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any JSON value")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Attribute::Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Attribute::Text(Cow::Owned(text.to_owned())))
            }
            fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
                Ok(Attribute::Boolean(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
                Ok(i32::try_from(value).map_or(
                    Attribute::Other("an integer of more than 32 bits"),
                    Attribute::Integer,
                ))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
                Ok(i32::try_from(value).map_or(
                    Attribute::Other("an integer of more than 32 bits"),
                    Attribute::Integer,
                ))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(Attribute::Other("a number that is not an integer"))
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Attribute::Absent)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Attribute::Other("an array"))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Attribute::Other("an object"))
            }
        }
        from.deserialize_any(Any)
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Members::default();
                while let Some(Name(name)) = map.next_key::<Name<'de>>()? {
                    members.member(name, &mut map)?;
                }
                Ok(members)
            }
        }
        from.deserialize_map(Object)
    }
}

impl<'de> Members<'de> {
    fn member<A: MapAccess<'de>>(
        &mut self,
        name: Cow<'de, str>,
        map: &mut A,
    ) -> Result<(), A::Error> {
        if name != "data" {
            let value = map.next_value()?;
            self.set(name, value);
            return Ok(());
        }
        let data = map.next_value::<&'de RawValue>()?;
        if self.data.replace(data).is_some() {
            self.repeated.push(name);
        }
        Ok(())
    }

    /// Takes an attribute; a later one of its name takes its place and is remembered as repeated.
    pub(super) fn set(&mut self, name: impl Into<Cow<'de, str>>, value: Attribute<'de>) {
        let name = name.into();
        let (bit, slot) = match &*name {
            "specversion" => (0, &mut self.specversion),
            "id" => (1, &mut self.id),
            "source" => (2, &mut self.source),
            "type" => (3, &mut self.kind),
            "subject" => (4, &mut self.subject),
            "time" => (5, &mut self.time),
            "datacontenttype" => (6, &mut self.datacontenttype),
            "dataschema" => (7, &mut self.dataschema),
            "data_base64" => (8, &mut self.data_base64),
            _ => return self.extensions.push((name, value)),
        };
        *slot = value;
        if self.seen & (1 << bit) != 0 {
            self.repeated.push(name);
        }
        self.seen |= 1 << bit;
    }
}
