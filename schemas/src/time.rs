//! RFC 3339 instants, fast: every event passes here at least twice.
//!
//! The text a producer wrote is kept beside the number, so that an event leaves as it came.

use crate::{
    Timestamp,
    calendar::{self, DAY, DAYS},
};

/// Why a text is not an instant. It does not repeat the text, which may be anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// Not of the form, or a date or time of day that does not exist.
    #[error("not an RFC 3339 time such as 2013-01-01T10:15:00Z")]
    Form,
    /// In UTC it lies outside of the years 0000 to 9999.
    #[error("outside of the years 0000 to 9999 (UTC)")]
    Range,
}

/// The first and the last microsecond that RFC 3339 can write.
pub(crate) const MICROS: std::ops::RangeInclusive<i64> =
    *DAYS.start() * DAY * 1_000_000..=(*DAYS.end() + 1) * DAY * 1_000_000 - 1;

impl Timestamp {
    /// Reads an RFC 3339 text, such as `2013-01-01T05:15:00.25-05:00`.
    ///
    /// `T` and `Z` may be lower case. Digits beyond microseconds are dropped (rounded down) from
    /// the number, not from the text. A leap second (`:60`) is the first second of the next minute.
    pub fn parse(text: &str) -> Result<Self, TimeError> {
        Ok(Self { micros: parse_micros(text)?, text: text.to_owned() })
    }

    /// The instant so many microseconds after the Unix epoch, written in UTC. What lies outside of
    /// the years 0000 to 9999, which RFC 3339 cannot write, becomes the nearest it can.
    pub fn from_micros(micros: i64) -> Self {
        let micros = micros.clamp(*MICROS.start(), *MICROS.end());
        let mut text = Vec::with_capacity(27);
        push_instant(&mut text, micros.div_euclid(1_000_000), nanos_of(micros));
        Self { micros, text: String::from_utf8(text).unwrap_or_default() } // digits and signs only
    }
}

fn nanos_of(micros: i64) -> u32 {
    micros.rem_euclid(1_000_000) as u32 * 1_000 // below 1e6: it fits
}

/// Writes seconds since the Unix epoch as an RFC 3339 text in UTC.
pub(crate) fn push_instant(out: &mut Vec<u8>, seconds: i64, nanos: u32) {
    calendar::push_date(out, seconds.div_euclid(DAY));
    out.push(b'T');
    calendar::push_clock(out, seconds.rem_euclid(DAY), nanos);
    out.push(b'Z');
}

/// Reads a date, `T` and a time of day: seconds since the epoch as if in UTC, nanoseconds, and
/// what follows.
pub(crate) fn parse_local(b: &[u8]) -> Option<(i64, u32, &[u8])> {
    let days = calendar::date(b)?;
    if !matches!(b.get(10), Some(b'T' | b't')) {
        return None;
    }
    let (seconds, nanos, used) = calendar::clock(&b[11..])?;
    Some((days * DAY + seconds, nanos, &b[11 + used..]))
}

/// Reads an RFC 3339 text: seconds since the Unix epoch and nanoseconds.
pub(crate) fn parse_instant(text: &str) -> Result<(i64, u32), TimeError> {
    let (seconds, nanos, zone) = parse_local(text.as_bytes()).ok_or(TimeError::Form)?;
    let offset = match zone {
        [b'Z' | b'z'] => 0,
        [b'+', rest @ ..] if rest.len() == 5 => {
            calendar::hours_minutes(rest).ok_or(TimeError::Form)?
        }
        [b'-', rest @ ..] if rest.len() == 5 => {
            -calendar::hours_minutes(rest).ok_or(TimeError::Form)?
        }
        _ => return Err(TimeError::Form),
    };
    let seconds = seconds - offset;
    if !DAYS.contains(&seconds.div_euclid(DAY)) {
        return Err(TimeError::Range);
    }
    Ok((seconds, nanos))
}

/// Reads an RFC 3339 text: microseconds since the Unix epoch.
pub(crate) fn parse_micros(text: &str) -> Result<i64, TimeError> {
    let (seconds, nanos) = parse_instant(text)?;
    Ok(seconds * 1_000_000 + i64::from(nanos / 1_000))
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, SecondsFormat};
    use proptest::prelude::*;

    use super::*;

    fn micros(text: &str) -> Result<i64, TimeError> {
        Timestamp::parse(text).map(|t| t.micros)
    }

    #[test]
    fn given_an_offset_then_it_is_taken_off() {
        assert_eq!(micros("2013-01-01T05:15:00-05:00"), micros("2013-01-01T10:15:00Z"));
    }

    #[test]
    fn given_a_time_before_the_epoch_with_nanoseconds_then_it_is_rounded_down() {
        assert_eq!(micros("1969-12-31T23:59:59.9999999Z"), Ok(-1));
    }

    #[test]
    fn given_a_leap_second_then_it_is_the_next_minute_and_the_text_stays() {
        let leap = Timestamp::parse("2016-12-31T23:59:60.5Z").unwrap();
        assert_eq!(Ok(leap.micros), micros("2017-01-01T00:00:00.5Z"));
        assert_eq!(leap.text, "2016-12-31T23:59:60.5Z");
    }

    #[test]
    fn given_an_instant_that_an_offset_moves_out_of_the_years_then_it_is_out_of_range() {
        assert_eq!(micros("0000-01-01T00:00:00+00:01"), Err(TimeError::Range));
        assert_eq!(micros("9999-12-31T23:59:60Z"), Err(TimeError::Range));
        assert!(micros("9999-12-31T23:59:59.999999Z").is_ok());
    }

    #[test]
    fn given_what_is_nearly_rfc_3339_then_it_is_refused() {
        for text in [
            "",
            "2013",
            "2013-01-01",
            "2013-01-01T10:15",
            "2013-01-01T10:15:00",
            "2013-01-01 10:15:00Z",
            "2013-01-01T10:15:00.Z",
            "2013-01-01T24:00:00Z",
            "2013-01-01T10:60:00Z",
            "2013-01-01T10:15:61Z",
            "2013-13-01T10:15:00Z",
            "2013-02-29T10:15:00Z",
            "2013-01-01T10:15:00+0500",
            "2013-01-01T10:15:00+24:00",
            "2013-01-01T10:15:00Z ",
            "+013-01-01T10:15:00Z",
            "2013-01-01T10:15:00ZZ",
        ] {
            assert_eq!(micros(text), Err(TimeError::Form), "{text}");
        }
    }

    #[test]
    fn given_micros_out_of_range_then_the_nearest_instant_is_written() {
        assert_eq!(Timestamp::from_micros(i64::MAX).text, "9999-12-31T23:59:59.999999Z");
        assert_eq!(Timestamp::from_micros(i64::MIN).text, "0000-01-01T00:00:00Z");
    }

    proptest! {
        #[test]
        fn given_any_instant_then_its_text_reads_back_and_is_what_chrono_writes(
            at in *MICROS.start()..=*MICROS.end()
        ) {
            let ours = Timestamp::from_micros(at);
            prop_assert_eq!(parse_micros(&ours.text), Ok(at));
            let theirs = DateTime::from_timestamp_micros(at).unwrap();
            prop_assert_eq!(ours.text, theirs.to_rfc3339_opts(SecondsFormat::AutoSi, true));
        }

        #[test]
        fn given_any_text_of_the_form_then_chrono_agrees(
            text in r"[0-2][0-9]{3}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\.[0-9]{1,10})?(Z|z|[+-][0-2][0-9]:[0-6][0-9])"
        ) {
            let theirs = DateTime::parse_from_rfc3339(&text).ok()
                .map(|t| t.timestamp_micros()).filter(|t| MICROS.contains(t));
            prop_assert_eq!(parse_micros(&text).ok(), theirs);
        }
    }
}
