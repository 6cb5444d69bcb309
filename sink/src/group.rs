//! How a group value is written into a rollup's key: a JSON scalar of bounded length.
//!
//! The text is part of a key in the store for as long as the rollup is kept, so what is written
//! for a value must never change.

use schemas::Scalar;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of one value, as JSON: eight aliases of them are within what a store's key holds.
const MAX_VALUE: usize = 1_000;
/// Bytes that are left of a string that is longer; escaping makes six of each at most.
const CUT: usize = 128;

/// Writes a value as JSON: `null` when absent or no scalar; a string over 1,000 bytes as its
/// beginning, `~` and a hash of the whole, so that different values stay different groups.
pub(crate) fn write_value(value: Option<&Scalar>, into: &mut Vec<u8>) {
    let Some(value) = value else { return into.extend_from_slice(b"null") };
    let before = into.len();
    value.push_json(into);
    if let (Scalar::Text(text), MAX_VALUE..) = (value, into.len() - before) {
        let end = text.floor_char_boundary(CUT);
        let short = format!("{}~{:016x}", &text[..end], xxh3_64(text.as_bytes()));
        into.truncate(before);
        Scalar::Text(short.into()).push_json(into);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: Scalar) -> String {
        let mut into = Vec::new();
        write_value(Some(&value), &mut into);
        String::from_utf8(into).expect("UTF-8")
    }

    #[test]
    fn scalars_are_json() {
        assert_eq!(written(Scalar::Text("a\"b".into())), r#""a\"b""#);
        assert_eq!(written(Scalar::Float(1.5)), "1.5");
        assert_eq!(written(Scalar::Boolean(true)), "true");
    }

    #[test]
    fn long_strings_are_cut_and_stay_different() {
        let (one, other) = ("é".repeat(5_000), "é".repeat(5_000) + "x");
        let (one, other) = (written(Scalar::Text(one.into())), written(Scalar::Text(other.into())));
        assert!(one.len() < MAX_VALUE && other.len() < MAX_VALUE);
        assert_ne!(one, other);
    }

    #[test]
    fn as_many_values_as_there_may_be_aliases_fit_a_key() {
        let value = written(Scalar::Text("\u{1}".repeat(MAX_VALUE).into()));
        let group = service::config::MAX_ALIASES * (value.len().max(MAX_VALUE) + 1) + 1;
        assert!(group <= crate::store::MAX_GROUP_BYTES, "{group}");
    }
}
