//! Days, clocks and their text: the arithmetic under every timestamp of this crate.
//!
//! Works on the proleptic Gregorian calendar, years 0000 to 9999, as RFC 3339 does. It knows no
//! time zones; callers add offsets.

/// Days since the Unix epoch of 0000-01-01 and 9999-12-31.
pub(crate) const DAYS: std::ops::RangeInclusive<i64> = -719_528..=2_932_896;

/// Seconds in a day.
pub(crate) const DAY: i64 = 86_400;

/// Reads two ASCII digits.
fn two(b: &[u8], at: usize) -> Option<i64> {
    let (tens, ones) = (b.get(at)?.wrapping_sub(b'0'), b.get(at + 1)?.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| i64::from(tens * 10 + ones))
}

/// Reads `HH:MM` at the start of `b`, with hours below 24.
pub(crate) fn hours_minutes(b: &[u8]) -> Option<i64> {
    let (hours, minutes) = (two(b, 0)?, two(b, 3)?);
    (b[2] == b':' && hours < 24 && minutes < 60).then_some(hours * 3600 + minutes * 60)
}

/// Reads `YYYY-MM-DD` at the start of `b`: days since the Unix epoch.
pub(crate) fn date(b: &[u8]) -> Option<i64> {
    let year = two(b, 0)? * 100 + two(b, 2)?;
    let (month, day) = (two(b, 5)?, two(b, 8)?);
    let whole = b[4] == b'-' && b[7] == b'-' && (1..=12).contains(&month);
    (whole && day >= 1 && day <= month_days(year, month)).then(|| days(year, month, day))
}

/// Reads `HH:MM:SS[.fraction]` at the start of `b`: seconds of the day, nanoseconds (rounded
/// down), and how many bytes were read. A second of 60 is taken as it is written.
pub(crate) fn clock(b: &[u8]) -> Option<(i64, u32, usize)> {
    let minutes = hours_minutes(b)?;
    let seconds = two(b, 6)?;
    if b[5] != b':' || seconds > 60 {
        return None;
    }
    let (mut nanos, mut used) = (0, 8);
    if b.get(8) == Some(&b'.') {
        let digits = b[9..].iter().take_while(|d| d.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        used = 9 + digits;
        for place in 0..9 {
            let digit = if place < digits { b[9 + place] - b'0' } else { 0 };
            nanos = nanos * 10 + u32::from(digit);
        }
    }
    Some((minutes + seconds, nanos, used))
}

fn month_days(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since the Unix epoch of a date. Counts years from March, so that the leap day is a year's
/// last, and eras of 400 years, which all have the same length.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The date of a day since the Unix epoch: year, month, day.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn push_two(out: &mut Vec<u8>, number: i64) {
    let number = (number % 100) as u8; // two digits: it fits
    out.extend_from_slice(&[b'0' + number / 10, b'0' + number % 10]);
}

/// Writes `YYYY-MM-DD`; `days` must lie in [`DAYS`].
pub(crate) fn push_date(out: &mut Vec<u8>, days: i64) {
    let (year, month, day) = civil(days);
    push_two(out, year / 100);
    push_two(out, year);
    out.push(b'-');
    push_two(out, month);
    out.push(b'-');
    push_two(out, day);
}

/// Writes `HH:MM:SS` and, unless it is zero, a fraction of 3, 6 or 9 digits.
pub(crate) fn push_clock(out: &mut Vec<u8>, seconds: i64, nanos: u32) {
    push_two(out, seconds / 3600);
    out.push(b':');
    push_two(out, seconds / 60 % 60);
    out.push(b':');
    push_two(out, seconds % 60);
    if nanos == 0 {
        return;
    }
    let (mut rest, places) = match nanos {
        n if n % 1_000_000 == 0 => (n / 1_000_000, 3),
        n if n % 1_000 == 0 => (n / 1_000, 6),
        n => (n, 9),
    };
    let mut digits = [b'0'; 9];
    for digit in digits[..places].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8; // one digit: it fits
        rest /= 10;
    }
    out.push(b'.');
    out.extend_from_slice(&digits[..places]);
}

#[cfg(test)]
mod tests {
    use chrono::{Datelike, NaiveDate};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn given_the_first_and_the_last_year_then_the_range_of_days_is_theirs() {
        assert_eq!(date(b"0000-01-01"), Some(*DAYS.start()));
        assert_eq!(date(b"9999-12-31"), Some(*DAYS.end()));
    }

    #[test]
    fn given_the_29th_of_february_then_only_a_leap_year_has_it() {
        let has = |year: &str| date(format!("{year}-02-29").as_bytes()).is_some();
        assert_eq!(["2000", "1900", "2024", "2023"].map(has), [true, false, true, false]);
    }

    #[test]
    fn given_a_fraction_longer_than_nanoseconds_then_the_rest_is_dropped_but_read() {
        assert_eq!(clock(b"00:00:01.1234567899Z"), Some((1, 123_456_789, 19)));
    }

    proptest! {
        #[test]
        fn given_any_day_then_it_is_the_date_that_chrono_knows(day in -719_528_i64..=2_932_896) {
            let (year, month, d) = civil(day);
            let theirs = NaiveDate::from_num_days_from_ce_opt(day as i32 + 719_163).unwrap();
            prop_assert_eq!((year, month, d),
                (i64::from(theirs.year()), i64::from(theirs.month()), i64::from(theirs.day())));
            let mut text = Vec::new();
            push_date(&mut text, day);
            prop_assert_eq!(date(&text), Some(day));
        }

        #[test]
        fn given_any_time_of_day_then_its_text_reads_back(s in 0_i64..DAY, nanos in 0_u32..1_000_000_000) {
            let mut text = Vec::new();
            push_clock(&mut text, s, nanos);
            prop_assert_eq!(clock(&text), Some((s, nanos, text.len())));
        }
    }
}
