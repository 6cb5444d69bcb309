//! Windows against ranges: rows cannot be split, so a range holds whole windows or is refused
//! with one that does.

use std::time::Duration;

use service::config::duration;

use super::{
    failure::Failure,
    params::echo,
    time::{Range, format_exact},
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

/// Passes when the range holds whole windows only. None begins at a bound that is `finer` than the
/// range's microseconds.
pub(super) fn check(range: Range, finer: bool, window: i64) -> Result<(), Failure> {
    if !finer && aligns(range, window) {
        return Ok(());
    }
    let (mut members, mut proposed) = (Vec::new(), Vec::new());
    for (name, bound, aligned) in
        [("from", range.from, floor(range.from, window)), ("to", range.to, ceil(range.to, window))]
    {
        if is_open(bound) {
            continue;
        }
        match format_exact(aligned) {
            Some(text) => {
                proposed.push(format!("`{name}={text}`"));
                members.push((name, text));
            }
            // The window reaches past what can be written, so only an open end holds it.
            None => proposed.push(format!("no `{name}`")),
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
pub(super) fn widest(range: Range, finer: bool, kept: &[i64]) -> Result<i64, Failure> {
    let length = |window: i64| if window == ALL_TIME { i64::MAX } else { window };
    let fitting = kept.iter().copied().filter(|window| !finer && aligns(range, *window));
    if let Some(window) = fitting.max_by_key(|window| length(*window)) {
        return Ok(window);
    }
    let shortest = kept.iter().copied().min_by_key(|window| length(*window));
    let shortest = shortest.ok_or_else(|| Failure::internal("a rollup has no windows"))?;
    check(range, finer, shortest).map(|()| shortest)
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

    use super::{
        super::{
            params::Params,
            time::{Asked, Moment},
        },
        *,
    };

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
        let failure = check(range(HOUR + 1, 2 * HOUR + 1), false, HOUR).unwrap_err();
        assert_eq!(failure.problem().code, "unaligned_range");
        assert_eq!(failure.problem().more["from"], "1970-01-01T01:00:00Z");
        assert_eq!(failure.problem().more["to"], "1970-01-01T03:00:00Z");
    }

    #[test]
    fn an_open_end_aligns_and_is_not_proposed() {
        check(range(i64::MIN, DAY), false, DAY).unwrap();
        let failure = check(range(HOUR, i64::MAX), false, DAY).unwrap_err();
        assert!(!failure.problem().more.contains_key("to"));
    }

    #[test]
    fn the_longest_window_that_fits_is_taken() {
        assert_eq!(widest(range(0, 2 * DAY), false, &[HOUR, DAY]).unwrap(), DAY);
        assert_eq!(widest(range(0, DAY + HOUR), false, &[HOUR, DAY]).unwrap(), HOUR);
        assert_eq!(widest(Range::ALL, false, &[HOUR, DAY]).unwrap(), DAY);
        assert_eq!(widest(Range::ALL, false, &[0, HOUR]).unwrap(), 0);
    }

    #[test]
    fn when_no_window_fits_the_shortest_one_is_proposed() {
        let failure = widest(range(1, DAY), false, &[HOUR, DAY]).unwrap_err();
        assert_eq!(failure.problem().more["window"], "1h");
        assert_eq!(failure.problem().more["from"], "1970-01-01T00:00:00Z");
    }

    /// What a refusal proposes, read as the parameters of the next request.
    fn proposed(failure: &Failure) -> Range {
        let more = &failure.problem().more;
        let sent = ["from", "to"].map(|name| match more.get(name).and_then(|text| text.as_str()) {
            Some(text) => format!("{name}={text}"),
            None => String::new(),
        });
        let mut params = Params::parse(Some(&sent.join("&"))).unwrap();
        Asked::take(&mut params).unwrap().resolve(0).unwrap()
    }

    #[test]
    fn an_end_whose_window_reaches_past_what_can_be_written_is_proposed_open() {
        let asked = range(first() + 1, last() - 1);
        let failure = check(asked, false, 7 * DAY).unwrap_err();
        assert_eq!(proposed(&failure), Range::ALL);
        assert!(failure.problem().detail.contains("One that does: no `from`, no `to`."));
    }

    #[test]
    fn a_bound_that_is_finer_never_aligns() {
        assert_eq!(proposed(&check(range(0, DAY), true, DAY).unwrap_err()), range(0, DAY));
        assert_eq!(proposed(&widest(range(0, DAY), true, &[DAY]).unwrap_err()), range(0, DAY));
    }

    /// The first and the last microsecond that can be written.
    fn first() -> i64 {
        schemas::Timestamp::from_micros(i64::MIN).micros
    }

    fn last() -> i64 {
        schemas::Timestamp::from_micros(i64::MAX).micros
    }

    fn any_bound() -> impl Strategy<Value = i64> {
        let near = 0..1_000 * DAY;
        prop_oneof![
            near.clone().prop_map(|after| first() + after),
            near.prop_map(|before| last() - before),
            first()..=last(),
            Just(i64::MIN),
            Just(i64::MAX),
        ]
    }

    proptest! {
        #[test]
        fn what_is_proposed_is_accepted_and_holds_what_was_asked(
            one in any_bound(), other in any_bound(), seconds in 1..366 * 86_400i64, finer: bool,
        ) {
            let (window, asked) = (seconds * 1_000_000, range(one.min(other), one.max(other)));
            if let Err(failure) = check(asked, finer, window) {
                let wider = proposed(&failure);
                prop_assert!(check(wider, false, window).is_ok());
                let relative = format!("now/{}", name(window));
                prop_assert!(Moment::parse(&relative).is_some(), "{relative}");
                prop_assert!(wider.from <= asked.from && asked.to <= wider.to);
                prop_assert!(is_open(wider.from) || asked.from - wider.from < window);
                prop_assert!(is_open(wider.to) || wider.to - asked.to < window);
            }
        }
    }
}
