//! Extension attributes: text, booleans and 32-bit integers (CloudEvents 1.0, "Type System").
//!
//! Where only text can be kept (headers of records, the stores' maps of attributes), a value is its
//! canonical string, as any other consumer expects it, and one more entry, [`TYPED`], names those that
//! are not text. Which of the two a named one is, its text says itself: `true` and `false` are no
//! integers. So text costs nothing, what was written before there were types is still what it was,
//! and `_`, which no attribute's name may hold, keeps the entry apart from all of them.

use std::{borrow::Cow, collections::BTreeMap};

/// The entry that names the extensions that are not text, with commas between them.
pub(crate) const TYPED: &str = "penstock_typed";

/// The value of an extension attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extension {
    /// Text.
    Text(String),
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number of 32 bits.
    Integer(i32),
}

impl Extension {
    /// Its canonical string.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Boolean(true) => Cow::Borrowed("true"),
            Self::Boolean(false) => Cow::Borrowed("false"),
            Self::Integer(number) => Cow::Owned(number.to_string()),
        }
    }

    /// The value that is not text, of its canonical string; any other text stays text.
    fn typed(text: String) -> Self {
        match (text.as_str(), text.parse::<i32>()) {
            ("true", _) => Self::Boolean(true),
            ("false", _) => Self::Boolean(false),
            (_, Ok(number)) if number.to_string() == text => Self::Integer(number),
            _ => Self::Text(text),
        }
    }
}

impl From<&str> for Extension {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Extension {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// The extensions of an event, by name.
pub type Extensions = BTreeMap<String, Extension>;

/// Extensions as texts by name, with one more entry where some are not text.
pub fn to_texts(extensions: &Extensions) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
    let typed = typed_names(extensions).map(|names| (TYPED, Cow::Owned(names)));
    extensions.iter().map(|(name, value)| (name.as_str(), value.text())).chain(typed)
}

/// Takes back what [`to_texts`] gave.
pub fn from_texts(texts: impl IntoIterator<Item = (String, String)>) -> Extensions {
    let mut typed = String::new();
    let mut extensions = Extensions::new();
    for (name, text) in texts {
        if name == TYPED {
            typed = text;
        } else {
            extensions.insert(name, Extension::Text(text));
        }
    }
    set_types(&mut extensions, &typed);
    extensions
}

/// The names of those that are not text; `None` where all are.
pub(crate) fn typed_names(extensions: &Extensions) -> Option<String> {
    let is_text = |value: &Extension| matches!(value, Extension::Text(_));
    let names = extensions.iter().filter(|(_, value)| !is_text(value));
    let names: Vec<_> = names.map(|(name, _)| name.as_str()).collect();
    (!names.is_empty()).then(|| names.join(","))
}

/// Makes those that are named what their texts say.
pub(crate) fn set_types(extensions: &mut Extensions, names: &str) {
    for name in names.split(',') {
        if let Some(value) = extensions.get_mut(name)
            && let Extension::Text(text) = value
        {
            *value = Extension::typed(std::mem::take(text));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Any value that an event may have.
    pub(crate) fn any_extension() -> impl Strategy<Value = Extension> {
        prop_oneof![
            prop_oneof!["[ -~ß😀]{0,10}", "true|false|-?[0-9]{1,11}"].prop_map(Extension::Text),
            any::<bool>().prop_map(Extension::Boolean),
            any::<i32>().prop_map(Extension::Integer),
        ]
    }

    fn owned(extensions: &Extensions) -> Vec<(String, String)> {
        to_texts(extensions).map(|(name, text)| (name.to_owned(), text.into_owned())).collect()
    }

    #[test]
    fn given_only_text_then_nothing_is_added_to_it() {
        let extensions = Extensions::from([("a".into(), "true".into()), ("b".into(), "5".into())]);
        assert_eq!(
            owned(&extensions),
            [("a".into(), "true".into()), ("b".into(), "5".into())] as [(String, String); 2]
        );
    }

    #[test]
    fn given_names_of_what_is_no_boolean_or_integer_then_it_stays_text() {
        for text in ["", "TRUE", "05", "+5", "-0", "2147483648", "5.0"] {
            let texts = [("a", text), (TYPED, "a,,missing")];
            let read = from_texts(texts.map(|(name, text)| (name.to_owned(), text.to_owned())));
            assert_eq!(read, [("a".to_owned(), text.into())].into());
        }
    }

    proptest! {
        #[test]
        fn given_any_extensions_then_their_texts_give_them_back(
            extensions in prop::collection::btree_map("[a-z0-9]{1,5}", any_extension(), 0..6),
        ) {
            prop_assert_eq!(from_texts(owned(&extensions)), extensions);
        }
    }
}
