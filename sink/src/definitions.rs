//! From `[[rollups]]` to definitions: checked once, at start, with every mistake named.
//!
//! What a definition says is its version (the hash of its content), so nothing here may depend on
//! the order or the spelling of the configuration.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use schemas::Path;
use service::config::{RollupConfig, duration};

use crate::store::{Definition, Measure};

/// The rollup that `/v1/types` is read from.
pub const TYPES: &str = "_types";

/// What can be asked of a measure.
const KNOWN: [&str; 4] = ["sum", "min", "max", "avg"];
/// Columns that every row of a rollup has.
const RESERVED: [&str; 2] = ["start", "count"];
/// Each window is a row per group, and a group's text is bounded by its aliases.
const MAX_WINDOWS: usize = 8;
pub(crate) const MAX_ALIASES: usize = 8;
const MAX_MEASURES: usize = 32;

/// The definitions that a configuration asks for, and Penstock's own.
///
/// # Errors
/// Every mistake, one a line, each with the rollup and the setting it is in.
pub fn definitions(config: &[RollupConfig]) -> Result<Vec<Definition>, String> {
    let mut definitions = vec![types()];
    let mut mistakes = Vec::new();
    let mut names = BTreeSet::new();
    for rollup in config {
        if !names.insert(&rollup.name) {
            mistakes.push(format!("rollup `{}`: there are two of this name", rollup.name));
        }
        match definition(rollup) {
            Ok(definition) => definitions.push(definition),
            Err(found) => {
                mistakes.extend(found.into_iter().map(|m| format!("rollup `{}`: {m}", rollup.name)))
            }
        }
    }
    if mistakes.is_empty() { Ok(definitions) } else { Err(mistakes.join("\n")) }
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

fn definition(config: &RollupConfig) -> Result<Definition, Vec<String>> {
    let mut mistakes = Vec::new();
    if let Err(m) = name(&config.name) {
        mistakes.push(m);
    }
    if config.kind.is_empty() {
        mistakes.push("type: name the event type that it folds".into());
    }
    let windows = windows(&config.windows).unwrap_or_else(|m| {
        mistakes.extend(m);
        Vec::new()
    });
    let mut columns: BTreeSet<String> = RESERVED.iter().map(|&r| r.to_owned()).collect();
    if config.group_by.len() > MAX_ALIASES {
        mistakes.push(format!("group_by: at most {MAX_ALIASES} aliases"));
    }
    for (alias, path) in &config.group_by {
        mistakes.extend(identifier(alias).err().map(|m| format!("group_by.{alias}: {m}")));
        mistakes.extend(Path::parse(path).err().map(|m| format!("group_by.{alias}: {m}")));
        if !columns.insert(alias.clone()) {
            mistakes.push(format!("group_by.{alias}: every row has a column `{alias}` already"));
        }
    }
    if config.measures.len() > MAX_MEASURES {
        mistakes.push(format!("measures: at most {MAX_MEASURES}"));
    }
    let mut measures = BTreeMap::new();
    for (alias, measure) in &config.measures {
        let mut say = |m: String| mistakes.push(format!("measures.{alias}: {m}"));
        identifier(alias).err().map(&mut say);
        Path::parse(&measure.field).err().map(&mut say);
        if measure.of.is_empty() {
            say(format!("of: say what to keep, of {}", KNOWN.join(", ")));
        }
        for of in &measure.of {
            if let Err(m) = known(of) {
                say(m);
            } else if !columns.insert(format!("{alias}_{of}")) {
                say(format!("of: a column `{alias}_{of}` is there already"));
            }
        }
        // In one order, so that the order of the configuration makes no other version.
        let of = KNOWN.iter().filter(|&&k| measure.of.iter().any(|o| o == k));
        let of = of.map(|&k| k.to_owned()).collect();
        measures.insert(alias.clone(), Measure { field: measure.field.clone(), of });
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    Ok(Definition {
        name: config.name.as_str().into(),
        kind: Some(config.kind.clone()),
        windows,
        group_by: config.group_by.clone(),
        measures,
    })
}

fn windows(texts: &[String]) -> Result<Vec<i64>, Vec<String>> {
    let mut mistakes = Vec::new();
    let mut windows = BTreeSet::new();
    if texts.is_empty() {
        mistakes.push("windows: give at least one, such as `1h`".into());
    }
    if texts.len() > MAX_WINDOWS {
        mistakes.push(format!("windows: at most {MAX_WINDOWS}"));
    }
    for text in texts {
        match duration::parse(text) {
            Err(m) => mistakes.push(format!("windows: {m}")),
            Ok(w) if w < Duration::from_secs(1) || w > Duration::from_secs(366 * 86_400) => {
                mistakes.push(format!("windows: `{text}` is not between 1s and 366d"));
            }
            Ok(window) => {
                if !windows.insert(window.as_micros() as i64) {
                    mistakes.push(format!("windows: `{text}` is as long as another one"));
                }
            }
        }
    }
    if mistakes.is_empty() { Ok(windows.into_iter().collect()) } else { Err(mistakes) }
}

fn name(name: &str) -> Result<(), String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.starts_with('_') {
        Err("name: names that begin with `_` are Penstock's own".into())
    } else if name.is_empty() || name.len() > 100 || !name.chars().all(fine) {
        Err("name: use 1 to 100 letters, digits, `_`, `-` and `.`".into())
    } else {
        Ok(())
    }
}

fn identifier(alias: &str) -> Result<(), String> {
    let first = alias.chars().next().is_some_and(|c| c.is_ascii_alphabetic());
    let rest = alias.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if first && rest && alias.len() <= 100 {
        Ok(())
    } else {
        Err("an alias is a letter, then letters, digits and `_`, at most 100".into())
    }
}

fn known(of: &str) -> Result<(), String> {
    let quantile = of.strip_prefix('p').is_some_and(|n| n.parse::<f64>().is_ok());
    if KNOWN.contains(&of) {
        Ok(())
    } else if of == "distinct" || quantile {
        Err(format!(
            "of: `{of}` comes in a later version (distinct counts and quantiles do); now there are {}",
            KNOWN.join(", ")
        ))
    } else if of == "count" {
        Err("of: every row has `count` without asking".into())
    } else {
        Err(format!("of: `{of}` is not known; there are {}", KNOWN.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use service::config::MeasureConfig;

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
        definitions(&[config]).expect_err("refused")
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
        assert!(two.contains("two of this name"));
    }

    #[test]
    fn every_mistake_is_named_at_once() {
        let found = refusal(|c| {
            c.windows = vec!["soon".into()];
            c.group_by = [("count".to_owned(), "data.x".to_owned())].into();
        });
        assert_eq!(found.lines().count(), 2, "{found}");
    }
}
