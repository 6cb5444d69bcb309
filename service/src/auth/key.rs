//! What an API key is: text that its holder keeps and everybody else knows by its hash.
//!
//! A plain SHA-256 is enough, and fast enough to be made for each request, because a key is no
//! password: [`generate`] makes it of 256 random bits, which nobody can try out.

use std::fmt::Write;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

/// What keys made here begin with, so that people and scanners for leaked secrets recognise them.
pub const PREFIX: &str = "pk_";
const KIND: &str = "sha256:";

/// The SHA-256 of a key.
pub type KeyHash = [u8; 32];

/// The hash of a key.
pub fn hash(key: &str) -> KeyHash {
    Sha256::digest(key).into()
}

/// The hash as a configuration holds it.
pub fn write_hash(hash: &KeyHash) -> String {
    hash.iter().fold(KIND.to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
        text
    })
}

/// The hash that such a text stands for. The error does not repeat the text, which may be a key.
pub fn read_hash(text: &str) -> Result<KeyHash, String> {
    const ADVICE: &str = "write `sha256:` and 64 hexadecimal digits; `penstock keys new` makes one";
    if text.starts_with(PREFIX) {
        return Err(format!("is a key where its hash belongs, so nobody may use it now: {ADVICE}"));
    }
    let digits = text.strip_prefix(KIND).unwrap_or_default().as_bytes();
    let mut hash = KeyHash::default();
    if digits.len() != 2 * hash.len() {
        return Err(format!("is not the hash of a key: {ADVICE}"));
    }
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        match (digit(pair[0]), digit(pair[1])) {
            (Some(high), Some(low)) => *byte = (high * 16 + low) as u8,
            _ => return Err(format!("is not the hash of a key: {ADVICE}")),
        }
    }
    Ok(hash)
}

/// A new key, from 256 bits of the operating system's randomness.
///
/// # Errors
/// The operating system gives none.
pub fn generate() -> Result<String, getrandom::Error> {
    let mut bits = [0; 32];
    getrandom::fill(&mut bits)?;
    Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bits)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_read_as_it_is_written() {
        let hash = hash("abc");
        let text = write_hash(&hash);
        // FIPS 180-2, B.1
        assert_eq!(text, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(read_hash(&text), Ok(hash));
        assert_eq!(read_hash(&text.replace("ba", "BA")), Ok(hash));
    }

    #[test]
    fn what_is_no_hash_is_refused_without_repeating_it() {
        let long = format!("sha256:{}", "g".repeat(64));
        for text in ["", "sha256:", "sha256:00", &"0".repeat(64), &long, "sha256:é", "pk_s3cret"] {
            let error = read_hash(text).unwrap_err();
            assert!(text.is_empty() || !error.contains(text) || text == "sha256:", "{error}");
            assert!(error.contains("penstock keys new"), "{error}");
        }
    }

    #[test]
    fn new_keys_differ_and_are_recognised() {
        let (first, second) = (generate().unwrap(), generate().unwrap());
        assert_ne!(first, second);
        assert!(first.starts_with("pk_") && first.len() == 3 + 43, "{first}");
    }
}
