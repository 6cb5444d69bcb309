//! Durations as text: a whole number and a unit (`ms`, `s`, `m`, `h`, `d`, `w`, `y` of 365 days).

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de::Error};

const UNITS: [(&str, u64); 7] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("w", 604_800_000),
    ("y", 31_536_000_000),
];

/// Parses such a text.
pub fn parse(text: &str) -> Result<Duration, String> {
    let bad = || {
        format!(
            "`{text}` is not a duration: write a whole number and one of ms, s, m, h, d, w, y, such as `7d`"
        )
    };
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
    let (number, unit) = text.split_at(digits);
    let (_, millis) = UNITS.iter().find(|(u, _)| *u == unit).ok_or_else(bad)?;
    let number: u64 = number.parse().map_err(|_| bad())?;
    number.checked_mul(*millis).map(Duration::from_millis).ok_or_else(bad)
}

/// Writes the largest unit that divides it.
pub fn format(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    let (unit, size) = UNITS
        .iter()
        .rev()
        .find(|(_, size)| millis.is_multiple_of(u128::from(*size)))
        .unwrap_or(&UNITS[0]);
    format!("{}{unit}", millis / u128::from(*size))
}

/// For `#[serde(with)]`.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(from)?).map_err(D::Error::custom)
}

/// For `#[serde(with)]`.
pub fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&format(*duration))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_written_as_it_is_read() {
        for text in ["250ms", "90s", "1h", "7d", "2y", "36h"] {
            assert_eq!(parse(&format(parse(text).unwrap())), parse(text), "{text}");
        }
        assert_eq!(format(parse("14d").unwrap()), "2w");
        assert_eq!(format(Duration::ZERO), "0s");
    }

    #[test]
    fn what_is_no_duration_is_refused_with_an_example() {
        for text in ["", "7", "d", "1.5h", "-1s", "7 d", "7days", "99999999999999999999y"] {
            assert!(parse(text).unwrap_err().contains("such as `7d`"), "{text}");
        }
    }
}
