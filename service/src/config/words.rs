//! What serde says of a value that does not fit, in words for people and without the value.
//!
//! The invariant: no text that comes from here repeats a value. A secret may be written where it
//! does not belong, or as a number, so there is no list of settings that this is for.

use super::mistake::closest;

/// A message and the known name that was probably meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) message: String,
    pub(super) suggestion: Option<String>,
}

/// The message of a deserializer in plain words. One that a settings type wrote itself stays.
pub(super) fn plain(message: &str) -> Told {
    let told = |message: String| Told { message, suggestion: None };
    // The last one: a value may hold anything, what is expected is always words of code.
    let (given, expected) = message.rsplit_once(", expected ").unwrap_or((message, ""));
    if let Some(wrong) = given.strip_prefix("unknown variant `") {
        let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
        let suggestion = closest(wrong.trim_end_matches('`'), &known).map(str::to_owned);
        return Told { message: format!("must be one of: {}", known.join(", ")), suggestion };
    }
    if let Some(kind) =
        given.strip_prefix("invalid type: ").or_else(|| given.strip_prefix("invalid value: "))
    {
        return told(misfit(kind_of(kind), &in_words(expected)));
    }
    if given.starts_with("invalid length ") {
        return told(format!("must be {}", in_words(expected)));
    }
    told(match message {
        "wanted string or table" => "must be text".to_owned(),
        "integer number overflowed" | "floating-point number overflowed" => {
            "is a number too large".to_owned()
        }
        _ => message.lines().next().unwrap_or_default().to_owned(),
    })
}

/// As the configuration says it, for settings that a step reads itself.
pub fn without_value(message: &str) -> String {
    plain(message).message
}

fn misfit(given: &str, expected: &str) -> String {
    match (given, expected) {
        (FRACTION | WHOLE | "true or false", TEXT) => {
            format!("must be {expected}, not {given}: put it in quotes")
        }
        // Serde knows a date of TOML as a table.
        ("a table", TEXT) => format!("must be {expected}, not a table or a date"),
        // Of the right kind, and too small or too large.
        (WHOLE, expected) if expected.starts_with(WHOLE) => format!("must be {expected}"),
        _ => format!("must be {expected}, not {given}"),
    }
}

const TEXT: &str = "text";
const WHOLE: &str = "a whole number";
const FRACTION: &str = "a number with a fraction";

/// The kind of value that serde came upon; the value itself follows its name there.
fn kind_of(unexpected: &str) -> &'static str {
    match unexpected.split(' ').next().unwrap_or_default() {
        "string" | "character" => TEXT,
        "boolean" => "true or false",
        "integer" => WHOLE,
        "floating" => FRACTION,
        "sequence" => "a list",
        "map" => "a table",
        _ => "this",
    }
}

fn in_words(expected: &str) -> String {
    let whole = |from: String, to: String| format!("{WHOLE} from {from} to {to}");
    match expected {
        "a string" | "path string" => TEXT.to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "a table".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "u8" => whole("0".into(), u8::MAX.to_string()),
        "u16" => whole("0".into(), u16::MAX.to_string()),
        "u32" => whole("0".into(), u32::MAX.to_string()),
        "u64" | "usize" => whole("0".into(), u64::MAX.to_string()),
        "i32" => whole(i32::MIN.to_string(), i32::MAX.to_string()),
        "i64" | "isize" => whole(i64::MIN.to_string(), i64::MAX.to_string()),
        table if table.starts_with("struct ") => "a table".to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_is_repeated_whatever_it_holds() {
        for message in [
            "invalid type: string \"{ sasl = s3cret\", expected a map",
            "invalid type: string \"s3cret, expected a map\", expected struct TlsConfig",
            "invalid value: integer `53cret`, expected u32",
            "unknown variant `s3cret\n`s3cret`, expected `optional` or `required`",
        ] {
            let told = plain(message);
            assert!(told.message.starts_with("must be "), "{told:?}");
            assert!(!format!("{told:?}").contains("3cret"), "{told:?}");
        }
    }

    #[test]
    fn what_is_expected_is_said_in_words() {
        for (message, says) in [
            ("invalid type: integer `7`, expected a string", "text, not a whole number: put it"),
            ("invalid type: string \"x\", expected a boolean", "true or false, not text"),
            ("invalid type: map, expected a sequence", "a list, not a table"),
            ("invalid type: map, expected a string", "text, not a table or a date"),
            ("invalid type: sequence, expected path string", "text, not a list"),
            ("invalid type: string \"x\", expected struct TlsConfig", "a table, not text"),
            ("invalid length 1, expected struct TlsConfig with 4 elements", "a table"),
            ("wanted string or table", "text"),
        ] {
            let told = plain(message).message;
            assert!(told.starts_with(&format!("must be {says}")), "{message}: {told}");
        }
    }

    #[test]
    fn a_number_out_of_range_is_told_the_range() {
        for (message, says) in [
            ("invalid value: integer `-1`, expected u16", "must be a whole number from 0 to 65535"),
            (
                "invalid type: integer `99999999999999999999` as i128, expected usize",
                "must be a whole number from 0 to 18446744073709551615",
            ),
            (
                "invalid type: floating point `1.5`, expected u8",
                "must be a whole number from 0 to 255, not a number with a fraction",
            ),
        ] {
            assert_eq!(plain(message).message, says);
        }
    }

    #[test]
    fn one_of_several_names_is_suggested_if_it_is_close() {
        let told = plain("unknown variant `requird`, expected `optional` or `required`");
        assert_eq!(told.message, "must be one of: optional, required");
        assert_eq!(told.suggestion.as_deref(), Some("required"));
        assert_eq!(plain("unknown variant `x`, expected `none`").suggestion, None);
    }

    #[test]
    fn what_a_setting_says_itself_stays() {
        assert_eq!(plain("`7x` is not a duration").message, "`7x` is not a duration");
    }
}
