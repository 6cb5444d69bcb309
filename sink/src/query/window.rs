//! Windows against ranges: rows cannot be split, so a range holds whole windows or is refused
//! with one that does.

use std::time::Duration;

use service::config::duration;

use super::{
    failure::Failure,
    params::echo,
    time::{Range, format},
};

/// The window that holds all of time.
const ALL_TIME: i64 = 0;

/// Reads `window=` as one of those the rollup keeps.
pub(super) fn parse(text: &str, kept: &[i64]) -> Result<i64, Failure> {
    duration::parse(text)
        .ok()
        .and_then(|length| i64::try_from(length.as_micros()).ok())
        .filter(|window| *window != ALL_TIME && kept.contains(window))
        .ok_or_else(|| {
            let kept: Vec<String> = kept.iter().copied().map(name).collect();
            Failure::bad(
                "unknown_window",
                "The rollup has no such window",
                format!("Window {} is not one of: {}.", echo(text), kept.join(", ")),
            )
            .with("parameter", "window")
            .with("windows", kept)
        })
}

/// A window's length as it is configured.
pub(super) fn name(window: i64) -> String {
    match u64::try_from(window) {
        Ok(micros) if window != ALL_TIME => duration::format(Duration::from_micros(micros)),
        _ => "all".to_owned(),
    }
}

/// Passes when the range holds whole windows only.
pub(super) fn check(range: Range, window: i64) -> Result<(), Failure> {
    if aligns(range, window) {
        return Ok(());
    }
    let (mut members, mut proposed) = (Vec::new(), Vec::new());
    for (name, bound, aligned) in
        [("from", range.from, floor(range.from, window)), ("to", range.to, ceil(range.to, window))]
    {
        if !is_open(bound) {
            let text = format(aligned);
            proposed.push(format!("`{name}={text}`"));
            members.push((name, text));
        }
    }
    let length = name(window);
    let failure = Failure::bad(
        "unaligned_range",
        "The range does not align with the window",
        format!(
            "The range must begin and end where a window of {length} does (windows are counted \
             from 1970-01-01T00:00:00Z). One that does: {}. A relative time is rounded down by \
             `/{length}` after it, as in `now/{length}`.",
            proposed.join(", ")
        ),
    )
    .with("window", length);
    Err(members.into_iter().fold(failure, |failure, (name, text)| failure.with(name, text)))
}

/// The longest window that fits the range, so that the fewest rows are read; refused with a
/// proposal for the shortest one when none does.
pub(super) fn widest(range: Range, kept: &[i64]) -> Result<i64, Failure> {
    let length = |window: i64| if window == ALL_TIME { i64::MAX } else { window };
    let fitting = kept.iter().copied().filter(|window| aligns(range, *window));
    if let Some(window) = fitting.max_by_key(|window| length(*window)) {
        return Ok(window);
    }
    let shortest = kept.iter().copied().min_by_key(|window| length(*window));
    let shortest = shortest.ok_or_else(|| Failure::internal("a rollup has no windows"))?;
    check(range, shortest).map(|()| shortest)
}

fn aligns(range: Range, window: i64) -> bool {
    [range.from, range.to]
        .into_iter()
        .all(|bound| is_open(bound) || (window != ALL_TIME && bound.rem_euclid(window) == 0))
}

fn is_open(bound: i64) -> bool {
    bound == i64::MIN || bound == i64::MAX
}

fn floor(micros: i64, window: i64) -> i64 {
    if window == ALL_TIME {
        return i64::MIN;
    }
    micros.saturating_sub(micros.rem_euclid(window))
}

fn ceil(micros: i64, window: i64) -> i64 {
    if window == ALL_TIME {
        return i64::MAX;
    }
    match micros.rem_euclid(window) {
        0 => micros,
        over => micros.saturating_add(window - over),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 3_600_000_000;
    const DAY: i64 = 24 * HOUR;

    fn range(from: i64, to: i64) -> Range {
        Range { from, to }
    }

    #[test]
    fn a_window_is_known_by_its_length_however_it_is_written() {
        assert_eq!(parse("1h", &[HOUR, DAY]).unwrap(), HOUR);
        assert_eq!(parse("24h", &[HOUR, DAY]).unwrap(), DAY);
        assert_eq!(parse("60m", &[HOUR, DAY]).unwrap(), HOUR);
    }

    #[test]
    fn an_unknown_window_is_refused_with_those_there_are() {
        for text in ["2h", "1 hour", "", "0s", "99999999999999999y"] {
            let failure = parse(text, &[HOUR, DAY, 0]).unwrap_err();
            assert_eq!(failure.problem().code, "unknown_window");
            assert_eq!(failure.problem().more["windows"], serde_json::json!(["1h", "1d", "all"]));
        }
    }

    #[test]
    fn an_unaligned_range_is_refused_with_the_next_wider_one() {
        let failure = check(range(HOUR + 1, 2 * HOUR + 1), HOUR).unwrap_err();
        assert_eq!(failure.problem().code, "unaligned_range");
        assert_eq!(failure.problem().more["from"], "1970-01-01T01:00:00Z");
        assert_eq!(failure.problem().more["to"], "1970-01-01T03:00:00Z");
    }

    #[test]
    fn an_open_end_aligns_and_is_not_proposed() {
        check(range(i64::MIN, DAY), DAY).unwrap();
        let failure = check(range(HOUR, i64::MAX), DAY).unwrap_err();
        assert!(!failure.problem().more.contains_key("to"));
    }

    #[test]
    fn the_longest_window_that_fits_is_taken() {
        assert_eq!(widest(range(0, 2 * DAY), &[HOUR, DAY]).unwrap(), DAY);
        assert_eq!(widest(range(0, DAY + HOUR), &[HOUR, DAY]).unwrap(), HOUR);
        assert_eq!(widest(Range::ALL, &[HOUR, DAY]).unwrap(), DAY);
        assert_eq!(widest(Range::ALL, &[0, HOUR]).unwrap(), 0);
    }

    #[test]
    fn when_no_window_fits_the_shortest_one_is_proposed() {
        let failure = widest(range(1, DAY), &[HOUR, DAY]).unwrap_err();
        assert_eq!(failure.problem().more["window"], "1h");
        assert_eq!(failure.problem().more["from"], "1970-01-01T00:00:00Z");
    }

    proptest! {
        #[test]
        fn what_is_proposed_aligns_and_holds_what_was_asked(
            from in -1_000 * DAY..1_000 * DAY, length in 0..50 * DAY, minutes in 1i64..3_000,
        ) {
            let (window, to) = (minutes * 60_000_000, from + length);
            let wider = range(floor(from, window), ceil(to, window));
            prop_assert!(aligns(wider, window));
            prop_assert!(wider.from <= from && from - wider.from < window);
            prop_assert!(wider.to >= to && wider.to - to < window);
        }
    }
}
