//! Times as callers write them: RFC 3339, or relative to now.
//!
//! Stores tell times apart to the microsecond. A bound that is finer is widened to whole ones for
//! them, and what they find is held against the bound's own digits by [`Asked::holds`].

use schemas::Timestamp;
use service::config::duration;

use super::{failure::Failure, params::Params};

const FORMS: &str = "must be a time: RFC 3339 such as `2026-01-31T12:00:00Z` (with an offset's `+` \
    written `%2B`), or relative such as `now`, `now-90m`, `now-7d` (units ms, s, m, h, d, w, y), \
    or rounded down such as `now-24h/1h`.";

/// A time before it is known what `now` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// An instant, which may be finer than a microsecond.
    At(Timestamp),
    /// So many microseconds before now, then down to a multiple of `step` since the epoch.
    Ago {
        /// How long before.
        ago: i64,
        /// What it is rounded to; 1 for not at all.
        step: i64,
    },
}

impl Moment {
    /// Reads one of the forms.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let Some(relative) = text.strip_prefix("now") else { return absolute(text) };
        let (shift, step) = match relative.split_once('/') {
            Some((shift, step)) => (shift, span(step).filter(|step| *step > 0)?),
            None => (relative, 1),
        };
        let ago = match shift {
            "" => 0,
            shift => span(shift.strip_prefix('-')?)?,
        };
        Some(Self::Ago { ago, step })
    }

    /// The instant, when it is `now`, as [`exact`] has it.
    fn resolve(&self, now: i64) -> (i64, &str) {
        match self {
            Self::At(time) => exact(time),
            Self::Ago { ago, step } => {
                let shifted = now.saturating_sub(*ago);
                (shifted.saturating_sub(shifted.rem_euclid(*step)), "")
            }
        }
    }
}

/// `from` and `to` as they were asked for; `None` is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) from: Option<Moment>,
    pub(super) to: Option<Moment>,
}

/// What is read: `from` inclusive, `to` exclusive, microseconds; open ends are the type's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) from: i64,
    pub(super) to: i64,
}

impl Range {
    /// All of time.
    pub(super) const ALL: Self = Self { from: i64::MIN, to: i64::MAX };
}

impl Asked {
    /// Takes both out of the parameters.
    pub(super) fn take(params: &mut Params) -> Result<Self, Failure> {
        let mut moment = |name: &str| {
            let Some(text) = params.take(name) else { return Ok(None) };
            Moment::parse(&text).map(Some).ok_or_else(|| Failure::parameter(name, FORMS))
        };
        Ok(Self { from: moment("from")?, to: moment("to")? })
    }

    /// The range, when it is `now`, in whole microseconds that hold all of it. One that ends before
    /// it starts is a mistake.
    pub(super) fn resolve(&self, now: i64) -> Result<Range, Failure> {
        let from = self.from.as_ref().map_or((i64::MIN, ""), |moment| moment.resolve(now));
        let to = self.to.as_ref().map_or((i64::MAX, ""), |moment| moment.resolve(now));
        if from > to {
            return Err(Failure::bad(
                "invalid_range",
                "The range ends before it starts",
                "`from` must not be after `to`; `from` is in the range, `to` is not.",
            ));
        }
        Ok(Range { from: from.0, to: to.0.saturating_add(i64::from(!to.1.is_empty())) })
    }

    /// Whether a time that is in the resolved range is in it to the last digit.
    pub(super) fn holds(&self, time: &Timestamp) -> bool {
        let at = exact(time);
        !matches!(&self.from, Some(Moment::At(from)) if at < exact(from))
            && !matches!(&self.to, Some(Moment::At(to)) if at >= exact(to))
    }

    /// Whether a bound lies within a microsecond.
    pub(super) fn is_finer(&self) -> bool {
        let finer = |moment: &Moment| matches!(moment, Moment::At(at) if !exact(at).1.is_empty());
        [&self.from, &self.to].into_iter().flatten().any(finer)
    }
}

/// Microseconds since the Unix epoch, and the digits past them. Those end in no zero, so that such
/// pairs compare as their times do.
pub(super) fn exact(time: &Timestamp) -> (i64, &str) {
    let fraction = time.text.split_once('.').map_or("", |(_, fraction)| fraction);
    let end = fraction.find(|c: char| !c.is_ascii_digit()).unwrap_or(fraction.len());
    (time.micros, fraction[..end].get(6..).unwrap_or("").trim_end_matches('0'))
}

/// RFC 3339 in UTC, with as many digits as needed.
pub(super) fn format(micros: i64) -> String {
    Timestamp::from_micros(micros).text
}

/// As [`format()`]; `None` outside of the years 0000 to 9999, which RFC 3339 cannot write.
pub(super) fn format_exact(micros: i64) -> Option<String> {
    let time = Timestamp::from_micros(micros);
    (time.micros == micros).then_some(time.text)
}

/// Reads a length such as `90m`.
fn span(text: &str) -> Option<i64> {
    i64::try_from(duration::parse(text).ok()?.as_micros()).ok()
}

/// Reads RFC 3339. A space where the offset's sign belongs can only have been a `+` that was not
/// escaped in the URL, so it is read as one.
fn absolute(text: &str) -> Option<Moment> {
    let sign = text.len().checked_sub(6)?;
    let repaired = match text.as_bytes()[sign] {
        b' ' if sign > 10 => format!("{}+{}", &text[..sign], &text[sign + 1..]),
        _ => text.to_owned(),
    };
    Timestamp::parse(&repaired).ok().map(Moment::At)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;
    const NOW: i64 = 1_000 * HOUR + 30 * 60_000_000 + 7;

    fn resolved(text: &str) -> Option<i64> {
        Moment::parse(text).map(|moment| moment.resolve(NOW).0)
    }

    #[test]
    fn absolute_times_are_read_with_any_offset_and_fraction() {
        assert_eq!(resolved("1970-01-01T00:00:01Z"), Some(1_000_000));
        assert_eq!(resolved("1970-01-01T01:00:00.000001+01:00"), Some(1));
        assert_eq!(resolved("1969-12-31T23:59:59.999999Z"), Some(-1));
    }

    #[test]
    fn an_offset_whose_plus_became_a_space_is_still_read() {
        assert_eq!(resolved("1970-01-01T02:00:00 01:00"), Some(HOUR));
    }

    #[test]
    fn relative_times_count_back_from_now() {
        assert_eq!(resolved("now"), Some(NOW));
        assert_eq!(resolved("now-90m"), Some(NOW - 90 * 60_000_000));
        assert_eq!(resolved("now-1w"), Some(NOW - 7 * 24 * HOUR));
    }

    #[test]
    fn relative_times_are_rounded_down_on_demand() {
        assert_eq!(resolved("now/1h"), Some(1_000 * HOUR));
        assert_eq!(resolved("now-2h/1d"), Some((998 / 24) * 24 * HOUR));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "yesterday",
            "now-",
            "now-1",
            "now-1x",
            "now+1h",
            "now-1.5h",
            "now--1h",
            "now/0h",
            "now/",
            "now-99999999999999999999d",
            "now-9999999999999w",
            "2026-01-31",
            "2026-01-31T12:00:00",
            "2026-02-30T00:00:00Z",
            "1769860800",
            "é€é€é€",
        ] {
            assert_eq!(Moment::parse(text), None, "{text}");
        }
    }

    /// From one fraction of a second to another.
    fn asked(from: &str, to: &str) -> Asked {
        let moment = |fraction: &str| Moment::parse(&format!("1970-01-01T00:00:00.{fraction}Z"));
        Asked { from: moment(from), to: moment(to) }
    }

    #[test]
    fn a_range_that_ends_before_it_starts_is_refused_and_an_empty_one_is_not() {
        for (from, to) in [("000002", "000001"), ("0000019", "0000015")] {
            let failure = asked(from, to).resolve(0).unwrap_err();
            assert_eq!(failure.problem().code, "invalid_range");
        }
        let empty = asked("000001", "000001").resolve(0).unwrap();
        assert_eq!(empty, Range { from: 1, to: 1 });
    }

    #[test]
    fn a_range_finer_than_a_microsecond_is_widened_and_holds_what_it_says() {
        let asked = asked("0000011", "00000150");
        assert!(asked.is_finer());
        assert_eq!(asked.resolve(0).unwrap(), Range { from: 1, to: 2 });
        let holds = |fraction: &str| {
            let text = format!("1970-01-01T01:00:00.{fraction}+01:00");
            asked.holds(&Timestamp::parse(&text).unwrap())
        };
        for inside in ["0000011", "00000110", "00000111", "000001499999999999"] {
            assert!(holds(inside), "{inside}");
        }
        for outside in ["000001", "00000109", "0000015", "000001500", "00000150001", "000002"] {
            assert!(!holds(outside), "{outside}");
        }
    }

    #[test]
    fn zeros_past_the_microsecond_make_a_range_no_finer() {
        assert!(!asked("000001000", "5").is_finer());
    }

    #[test]
    fn open_ends_hold_all_of_time() {
        assert_eq!(Asked { from: None, to: None }.resolve(NOW).unwrap(), Range::ALL);
    }

    #[test]
    fn times_are_written_as_short_as_they_are() {
        assert_eq!(format(0), "1970-01-01T00:00:00Z");
        assert_eq!(format(1_500_000), "1970-01-01T00:00:01.500Z");
        assert_eq!(format_exact(1_500_000).as_deref(), Some("1970-01-01T00:00:01.500Z"));
        assert_eq!((format_exact(i64::MIN), format_exact(i64::MAX)), (None, None));
    }
}
