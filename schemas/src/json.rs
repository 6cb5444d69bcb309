//! JSON text: strings written, and data that was only skimmed checked for what skimming misses.

/// Writes a JSON string.
pub(crate) fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut clean = 0;
    for (at, b) in bytes.iter().enumerate() {
        if *b >= 0x20 && *b != b'"' && *b != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[clean..at]);
        clean = at + 1;
        match b {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                out.extend_from_slice(b"\\u00");
                for nibble in [b >> 4, b & 15] {
                    out.push(b"0123456789abcdef"[usize::from(nibble)]);
                }
            }
        }
    }
    out.extend_from_slice(&bytes[clean..]);
    out.push(b'"');
}

/// Writes a finite double, always with a fraction or an exponent, the shortest that reads back.
pub(crate) fn push_f64(out: &mut Vec<u8>, number: f64) {
    let _ = serde_json::to_writer(out, &number); // a Vec takes every write
}

/// How deep data may nest: below serde_json's own limit of 128, with room for what a reader wraps
/// around it.
pub(crate) const MAX_DEPTH: usize = 100;

/// What a JSON text may not hold although its grammar is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// Nested deeper than [`MAX_DEPTH`].
    Depth,
    /// A `\u` escape that is half of a surrogate pair: no text.
    Surrogate,
    /// A number too large for a double.
    Number,
}

impl Unfit {
    pub(crate) fn detail(self) -> &'static str {
        match self {
            Self::Depth => "`data` is nested more than 100 levels deep",
            Self::Surrogate => "a string of `data` holds half of a surrogate pair",
            Self::Number => "a number of `data` is too large for a double",
        }
    }
}

/// Checks a text that is known to follow the JSON grammar for what would stop a later reader
/// from building values of it. Skimming parsers (`RawValue`) let these pass.
pub(crate) fn check_skimmed(text: &str) -> Result<(), Unfit> {
    let b = text.as_bytes();
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(byte) = b.get(at) {
        at += 1;
        match byte {
            b'"' => at = check_string(b, at)?,
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(Unfit::Depth);
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'0'..=b'9' => {
                let start = at - 1;
                let mut exponent = false;
                while let Some(b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-') = b.get(at) {
                    exponent |= matches!(b[at], b'e' | b'E');
                    at += 1;
                }
                // 1e308 is about the largest double: without an exponent it takes 309 digits
                let large = exponent || at - start > 308;
                if large && !text[start..at].parse::<f64>().is_ok_and(f64::is_finite) {
                    return Err(Unfit::Number);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Passes a string whose opening quote was read; answers the place after its closing quote.
fn check_string(b: &[u8], mut at: usize) -> Result<usize, Unfit> {
    let unit = |at: usize| {
        let digits = b.get(at..at + 4).and_then(|d| std::str::from_utf8(d).ok())?;
        u16::from_str_radix(digits, 16).ok()
    };
    while let Some(byte) = b.get(at) {
        at += 1;
        match byte {
            b'"' => break,
            b'\\' if b.get(at) == Some(&b'u') => {
                let high = unit(at + 1);
                at += 5;
                if high.is_some_and(|u| (0xDC00..=0xDFFF).contains(&u)) {
                    return Err(Unfit::Surrogate);
                }
                if high.is_some_and(|u| (0xD800..=0xDBFF).contains(&u)) {
                    let paired = b.get(at) == Some(&b'\\')
                        && b.get(at + 1) == Some(&b'u')
                        && unit(at + 2).is_some_and(|u| (0xDC00..=0xDFFF).contains(&u));
                    if !paired {
                        return Err(Unfit::Surrogate);
                    }
                    at += 6;
                }
            }
            b'\\' => at += 1,
            _ => {}
        }
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, value::RawValue};

    use super::*;

    fn fits(text: &str) -> Result<(), Unfit> {
        serde_json::from_str::<&RawValue>(text).unwrap();
        check_skimmed(text)
    }

    #[test]
    fn given_half_a_surrogate_pair_then_it_is_found() {
        for text in [r#"["\ud800"]"#, r#""\udc00""#, r#""\ud800\ud800""#, r#""\ud800\n""#] {
            assert_eq!(fits(text), Err(Unfit::Surrogate), "{text}");
        }
        assert_eq!(fits(r#""\ud83d\ude00 \\ud800""#), Ok(()));
    }

    #[test]
    fn given_a_number_beyond_a_double_then_it_is_found() {
        assert_eq!(fits("[1e999]"), Err(Unfit::Number));
        assert_eq!(fits(&"9".repeat(400)), Err(Unfit::Number));
        assert_eq!(fits(r#"[1e300, -0.5E-999, "1e999"]"#), Ok(()));
    }

    #[test]
    fn given_nesting_beyond_the_limit_then_it_is_found_but_brackets_in_strings_do_not_count() {
        let nest = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert_eq!(fits(&nest(MAX_DEPTH)), Ok(()));
        assert_eq!(fits(&nest(MAX_DEPTH + 1)), Err(Unfit::Depth));
        assert_eq!(fits(&format!("\"\\\"{}\"", "[".repeat(500))), Ok(()));
    }

    proptest! {
        #[test]
        fn given_any_text_then_the_string_written_reads_back(text in any::<String>()) {
            let mut out = Vec::new();
            push_string(&mut out, &text);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn given_a_skimmed_text_that_fits_then_a_value_can_be_built(
            text in r#"\["(\\u[dD][89abcdef][0-9a-f]{2}|\\u0041|\\\\|a){0,4}",-?[1-9]e-?[0-9]{1,4}\]"#
        ) {
            if serde_json::from_str::<&RawValue>(&text).is_ok() {
                prop_assert_eq!(check_skimmed(&text).is_ok(), serde_json::from_str::<Value>(&text).is_ok());
            }
        }
    }
}
