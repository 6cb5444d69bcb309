//! How a group value is written into a rollup's key: a JSON scalar of bounded length.
//!
//! The text is part of a key in the store for as long as the rollup is kept, so what is written
//! for a value must never change.

use schemas::Scalar;
use xxhash_rust::xxh3::xxh3_64;

/// A longer string is cut, because keys of a store are short.
const MAX_TEXT: usize = 512;

/// Writes a value as JSON: `null` when absent or no scalar; a string over 512 bytes as its beginning,
/// `~` and a hash of the whole, so that different values stay different groups.
pub(crate) fn write_value(value: Option<&Scalar>, into: &mut Vec<u8>) {
    match value {
        Some(Scalar::Text(text)) if text.len() > MAX_TEXT => {
            let mut end = MAX_TEXT - 20;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            let short = format!("{}~{:016x}", &text[..end], xxh3_64(text.as_bytes()));
            Scalar::Text(short.into()).push_json(into);
        }
        Some(value) => value.push_json(into),
        None => into.extend_from_slice(b"null"),
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
        assert!(one.len() < 600 && other.len() < 600);
        assert_ne!(one, other);
    }
}
