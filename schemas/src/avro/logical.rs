//! Logical types between their JSON text and the number or bytes that stand for them.

use crate::{
    calendar::{self, DAY, DAYS},
    time,
};

/// The unit of a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Millis,
    Micros,
    Nanos,
}

impl Unit {
    fn per_second(self) -> i64 {
        1_000_000_000 / self.nanos()
    }

    fn nanos(self) -> i64 {
        match self {
            Self::Millis => 1_000_000,
            Self::Micros => 1_000,
            Self::Nanos => 1,
        }
    }

    /// `None` when it does not fit a long: nanoseconds do so only from 1677 to 2262.
    fn count(self, seconds: i64, nanos: u32) -> Option<i64> {
        let whole = seconds.checked_mul(self.per_second())?;
        whole.checked_add(i64::from(nanos) / self.nanos())
    }

    /// Seconds and nanoseconds.
    fn split(self, count: i64) -> (i64, u32) {
        let rest = count.rem_euclid(self.per_second()) * self.nanos();
        (count.div_euclid(self.per_second()), rest as u32) // below 1e9: it fits
    }
}

/// `2013-01-31`
pub(super) fn parse_date(text: &str) -> Option<i32> {
    let days = calendar::date(text.as_bytes()).filter(|_| text.len() == 10)?;
    i32::try_from(days).ok()
}

/// `None` outside of the years 0000 to 9999.
pub(super) fn push_date(out: &mut Vec<u8>, days: i32) -> Option<()> {
    let days = i64::from(days);
    DAYS.contains(&days).then(|| calendar::push_date(out, days))
}

/// `10:15:00.25`; a leap second has no place in a day's count.
pub(super) fn parse_time(text: &str, unit: Unit) -> Option<i64> {
    let (seconds, nanos, used) = calendar::clock(text.as_bytes())?;
    let leap = text.as_bytes()[6] == b'6';
    (used == text.len() && !leap).then(|| unit.count(seconds, nanos))?
}

/// `None` outside of a day.
pub(super) fn push_time(out: &mut Vec<u8>, count: i64, unit: Unit) -> Option<()> {
    let (seconds, nanos) = unit.split(count);
    (0..DAY).contains(&seconds).then(|| calendar::push_clock(out, seconds, nanos))
}

/// An RFC 3339 text, or one without offset.
pub(super) fn parse_timestamp(text: &str, unit: Unit, local: bool) -> Option<i64> {
    let (seconds, nanos) = if local {
        let (seconds, nanos, rest) = time::parse_local(text.as_bytes())?;
        let whole = rest.is_empty() && DAYS.contains(&seconds.div_euclid(DAY));
        whole.then_some((seconds, nanos))?
    } else {
        time::parse_instant(text).ok()?
    };
    unit.count(seconds, nanos)
}

/// `None` outside of the years 0000 to 9999.
pub(super) fn push_timestamp(out: &mut Vec<u8>, count: i64, unit: Unit, local: bool) -> Option<()> {
    let (seconds, nanos) = unit.split(count);
    if !DAYS.contains(&seconds.div_euclid(DAY)) {
        return None;
    }
    time::push_instant(out, seconds, nanos);
    if local {
        out.pop(); // the Z
    }
    Some(())
}

/// `-12.5` as a whole number of 10^-scale; `None` when it is no such text or has more digits
/// than precision or scale allow.
pub(super) fn parse_decimal(text: &str, precision: u32, scale: u32) -> Option<i128> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let numeric = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !numeric(whole) || !numeric(fraction) {
        return None;
    }
    let kept = fraction.trim_end_matches('0');
    let missing = (scale as usize).checked_sub(kept.len())?;
    let mut unscaled: i128 = 0;
    for digit in whole.bytes().chain(kept.bytes()).chain(std::iter::repeat_n(b'0', missing)) {
        unscaled = unscaled.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    (unscaled < 10_i128.pow(precision)).then_some(if digits.len() < text.len() {
        -unscaled
    } else {
        unscaled
    })
}

/// Writes with exactly `scale` digits after the point.
pub(super) fn push_decimal(out: &mut Vec<u8>, unscaled: i128, scale: u32) {
    let width = scale as usize + 1;
    let digits = format!("{:0width$}", unscaled.unsigned_abs());
    let (whole, fraction) = digits.split_at(digits.len() - scale as usize);
    if unscaled < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(whole.as_bytes());
    if scale > 0 {
        out.push(b'.');
        out.extend_from_slice(fraction.as_bytes());
    }
}

/// Two's complement, big-endian, in the fewest bytes (at least one), and where they begin.
pub(super) fn decimal_bytes(unscaled: i128) -> ([u8; 16], usize) {
    let bytes = unscaled.to_be_bytes();
    let sign = if unscaled < 0 { 0xFF } else { 0 };
    let mut start = 0;
    while start < 15 && bytes[start] == sign && (bytes[start + 1] ^ sign) < 0x80 {
        start += 1;
    }
    (bytes, start)
}

/// `None` when there are no bytes, or more than 128 bits are needed.
pub(super) fn decimal_from(bytes: &[u8]) -> Option<i128> {
    let sign = if *bytes.first()? < 0x80 { 0 } else { 0xFF };
    let (above, low) = bytes.split_at(bytes.len().saturating_sub(16));
    if above.iter().any(|b| *b != sign) || (low[0] ^ sign) >= 0x80 {
        return None;
    }
    let mut wide = [sign; 16];
    wide[16 - low.len()..].copy_from_slice(low);
    Some(i128::from_be_bytes(wide))
}

/// The 36-character text of a UUID.
pub(super) fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let text: &[u8; 36] = text.as_bytes().try_into().ok()?;
    let mut uuid = [0; 16];
    let mut at = 0;
    for byte in &mut uuid {
        if matches!(at, 8 | 13 | 18 | 23) {
            if text[at] != b'-' {
                return None;
            }
            at += 1;
        }
        let digit = |b: u8| char::from(b).to_digit(16);
        let value = digit(text[at])? * 16 + digit(text[at + 1])?;
        *byte = value as u8; // two hexadecimal digits
        at += 2;
    }
    Some(uuid)
}

pub(super) fn push_uuid(out: &mut Vec<u8>, uuid: &[u8; 16]) {
    for (at, byte) in uuid.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        for nibble in [byte >> 4, byte & 15] {
            out.push(b"0123456789abcdef"[usize::from(nibble)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn given_decimals_beyond_scale_or_precision_then_they_are_refused() {
        assert_eq!(parse_decimal("12.50", 4, 2), Some(1250));
        assert_eq!(parse_decimal("12.500", 4, 2), Some(1250), "zeros say nothing more");
        for bad in ["12.345", "123.45", "1e3", "", "-", ".5", "5.", "+1", "1.2.3"] {
            assert_eq!(parse_decimal(bad, 4, 2), None, "{bad}");
        }
    }

    #[test]
    fn given_a_time_of_day_with_a_leap_second_then_it_is_refused() {
        assert_eq!(parse_time("23:59:60", Unit::Millis), None);
        assert_eq!(parse_time("23:59:59.9999", Unit::Millis), Some(86_399_999));
    }

    #[test]
    fn given_an_instant_that_nanoseconds_cannot_count_then_it_is_refused() {
        assert_eq!(parse_timestamp("2300-01-01T00:00:00Z", Unit::Nanos, false), None);
        assert!(parse_timestamp("2200-01-01T00:00:00Z", Unit::Nanos, false).is_some());
    }

    proptest! {
        #[test]
        fn given_any_decimal_then_text_and_bytes_give_it_back(
            unscaled in -(10_i128.pow(38) - 1)..10_i128.pow(38), shift in 0_u32..120, scale in 0_u32..=38
        ) {
            let unscaled = unscaled >> shift;
            let written = text(|out| push_decimal(out, unscaled, scale));
            prop_assert_eq!(parse_decimal(&written, 38, scale), Some(unscaled));
            let (bytes, start) = decimal_bytes(unscaled);
            prop_assert_eq!(decimal_from(&bytes[start..]), Some(unscaled));
            if start < 15 {
                prop_assert_ne!(decimal_from(&bytes[start + 1..]), Some(unscaled), "fewest bytes");
            }
        }

        #[test]
        fn given_any_uuid_then_its_text_reads_back(uuid in any::<[u8; 16]>()) {
            prop_assert_eq!(parse_uuid(&text(|out| push_uuid(out, &uuid))), Some(uuid));
        }

        #[test]
        fn given_any_count_that_can_be_written_then_it_reads_back(
            count in any::<i64>(), shift in 0_u32..40, local in any::<bool>(),
            unit in prop::sample::select(vec![Unit::Millis, Unit::Micros, Unit::Nanos]),
        ) {
            let mut out = Vec::new();
            if push_timestamp(&mut out, count >> shift, unit, local).is_some() {
                let text = String::from_utf8(out).unwrap();
                prop_assert_eq!(parse_timestamp(&text, unit, local), Some(count >> shift));
            }
        }
    }
}
