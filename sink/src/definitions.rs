//! From `[[rollups]]` to definitions: checked once, at start, with every mistake named.
//!
//! What a definition says is its version (the hash of its content), so nothing here may depend on
//! the order or the spelling of the configuration.

use std::collections::{BTreeMap, BTreeSet};

use schemas::Path;
use service::config::{MEASURES, MeasureConfig, RollupConfig, check_rollups, duration};

use crate::store::{Definition, Measure};

/// The rollup that `/v1/types` is read from.
pub const TYPES: &str = "_types";

/// The definitions that a configuration asks for, and Penstock's own.
///
/// # Errors
/// Every mistake: the setting, such as `rollups[0].windows`, and what is wrong with it.
pub fn definitions(config: &[RollupConfig]) -> Result<Vec<Definition>, Vec<(String, String)>> {
    let mut mistakes = check_rollups(config);
    for (n, rollup) in config.iter().enumerate() {
        let grouped =
            rollup.group_by.iter().map(|(alias, path)| (format!("group_by.{alias}"), path));
        let measured = rollup.measures.iter();
        let measured = measured.map(|(alias, m)| (format!("measures.{alias}.field"), &m.field));
        let wrong = grouped.chain(measured).filter_map(|(key, path)| {
            Some((format!("rollups[{n}].{key}"), Path::parse(path).err()?.to_string()))
        });
        mistakes.extend(wrong);
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    Ok(std::iter::once(types()).chain(config.iter().map(definition)).collect())
}

fn types() -> Definition {
    let time = Measure { field: "time".into(), of: vec!["min".into(), "max".into()] };
    Definition {
        name: TYPES.into(),
        kind: None,
        windows: vec![0],
        group_by: BTreeMap::from([("type".into(), "type".into())]),
        measures: BTreeMap::from([("time".into(), time)]),
    }
}

/// Of a rollup that was checked.
fn definition(config: &RollupConfig) -> Definition {
    let windows = config.windows.iter().filter_map(|text| duration::parse(text).ok());
    let windows: BTreeSet<i64> = windows.map(|window| window.as_micros() as i64).collect();
    let measure = |(alias, measure): (&String, &MeasureConfig)| {
        // In one order, so that the order of the configuration makes no other version.
        let of = MEASURES.iter().filter(|&&k| measure.of.iter().any(|o| o == k));
        let of = of.map(|&k| k.to_owned()).collect();
        (alias.clone(), Measure { field: measure.field.clone(), of })
    };
    Definition {
        name: config.name.as_str().into(),
        kind: Some(config.kind.clone()),
        windows: windows.into_iter().collect(),
        group_by: config.group_by.clone(),
        measures: config.measures.iter().map(measure).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn departures() -> RollupConfig {
        RollupConfig {
            name: "departures".into(),
            kind: "flight.departed".into(),
            windows: vec!["1d".into(), "1h".into()],
            group_by: [("carrier".to_owned(), "data.carrier".to_owned())].into(),
            measures: [("delay".to_owned(), measure(&["avg", "sum"]))].into(),
        }
    }

    fn measure(of: &[&str]) -> MeasureConfig {
        MeasureConfig {
            field: "data.dep_delay".into(),
            of: of.iter().map(|&o| o.to_owned()).collect(),
        }
    }

    fn refusal(change: impl FnOnce(&mut RollupConfig)) -> String {
        let mut config = departures();
        change(&mut config);
        lines(&definitions(&[config]).expect_err("refused"))
    }

    fn lines(mistakes: &[(String, String)]) -> String {
        let lines: Vec<_> = mistakes.iter().map(|(setting, m)| format!("{setting}: {m}")).collect();
        lines.join("\n")
    }

    #[test]
    fn a_rollup_becomes_a_definition_beside_our_own() {
        let found = definitions(&[departures()]).expect("valid");
        assert_eq!(&*found[0].name, TYPES);
        assert_eq!(found[1].windows, [3_600_000_000, 86_400_000_000]);
        assert_eq!(found[1].measures["delay"].of, ["sum", "avg"]);
    }

    #[test]
    fn the_order_of_the_configuration_makes_no_other_version() {
        let mut other = departures();
        other.windows.reverse();
        other.measures = [("delay".to_owned(), measure(&["sum", "avg"]))].into();
        assert_eq!(definitions(&[departures()]), definitions(&[other]));
    }

    #[test]
    fn windows_must_be_distinct_and_at_least_a_second() {
        assert!(refusal(|c| c.windows = vec!["60m".into(), "1h".into()]).contains("as long as"));
        assert!(refusal(|c| c.windows = vec!["10ms".into()]).contains("between 1s"));
        assert!(refusal(|c| c.windows.clear()).contains("at least one"));
    }

    #[test]
    fn an_alias_cannot_take_a_column_that_is_there() {
        let grouped = |a: &str| [(a.to_owned(), "data.x".to_owned())].into();
        assert!(refusal(|c| c.group_by = grouped("start")).contains("group_by.start"));
        assert!(refusal(|c| c.group_by = grouped("delay_sum")).contains("`delay_sum`"));
        assert!(refusal(|c| c.group_by = grouped("9x")).contains("group_by.9x"));
    }

    #[test]
    fn what_comes_later_is_told_from_what_is_unknown() {
        let of = |o: &str| [("delay".to_owned(), measure(&[o]))].into();
        assert!(refusal(|c| c.measures = of("p99")).contains("later version"));
        assert!(refusal(|c| c.measures = of("distinct")).contains("later version"));
        assert!(refusal(|c| c.measures = of("median")).contains("not known"));
    }

    #[test]
    fn names_are_unique_and_do_not_begin_with_an_underscore() {
        assert!(refusal(|c| c.name = "_mine".into()).contains("Penstock's own"));
        let two = definitions(&[departures(), departures()]).expect_err("refused");
        assert_eq!(lines(&two), "rollups[1].name: `departures` is taken by another rollup");
    }

    #[test]
    fn every_mistake_is_named_at_once() {
        let found = refusal(|c| {
            c.windows = vec!["soon".into()];
            c.group_by = [("count".to_owned(), "data..x".to_owned())].into();
            c.measures.get_mut("delay").expect("there").field = "".into();
        });
        for setting in ["windows", "group_by.count", "measures.delay.field"] {
            assert!(found.contains(&format!("rollups[0].{setting}: ")), "{setting}: {found}");
        }
        assert_eq!(found.lines().count(), 4, "{found}");
    }
}
