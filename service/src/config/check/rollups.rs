//! What a rollup must be, but for the paths into events, which only those who fold them can read.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Found, check_name};
use crate::config::{MeasureConfig, RollupConfig, duration};

/// What can be asked of a measure.
pub const MEASURES: [&str; 4] = ["sum", "min", "max", "avg"];
/// Columns that every row of a rollup has.
const RESERVED: [&str; 2] = ["start", "count"];
/// Each window is a row per group.
const MAX_WINDOWS: usize = 8;
/// Aliases that a rollup groups by; they bound a group's text.
pub const MAX_ALIASES: usize = 8;
const MAX_MEASURES: usize = 32;
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// Every rule that is broken: setting, such as `rollups[0].windows`, and message.
pub fn check_rollups(rollups: &[RollupConfig]) -> Vec<(String, String)> {
    let mut found = Found::new();
    let mut names = BTreeSet::new();
    for (n, rollup) in rollups.iter().enumerate() {
        let mut say = |key: &str, m: String| found.push((format!("rollups[{n}].{key}"), m));
        if let Err(message) = check_name(&rollup.name) {
            say("name", message);
        }
        if rollup.name.starts_with('_') {
            say("name", "names that begin with `_` are Penstock's own".into());
        }
        if !names.insert(&rollup.name) {
            say("name", format!("`{}` is taken by another rollup", rollup.name));
        }
        if rollup.kind.is_empty() {
            say("type", "is empty: name the event type to count".into());
        }
        windows(&rollup.windows).into_iter().for_each(|m| say("windows", m));
        let mut columns = RESERVED.map(str::to_owned).into();
        group_by(&rollup.group_by, &mut columns, &mut say);
        measures(&rollup.measures, &mut columns, &mut say);
    }
    found
}

fn windows(windows: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    if windows.is_empty() {
        found.push("is empty: name at least one, such as `1h`".to_owned());
    }
    if windows.len() > MAX_WINDOWS {
        found.push(format!("are {}: at most {MAX_WINDOWS} are possible", windows.len()));
    }
    let mut seen = BTreeSet::new();
    for text in windows {
        match duration::parse(text) {
            Err(message) => found.push(message),
            Ok(window) if !(SHORTEST..=LONGEST).contains(&window) => {
                found.push(format!("`{text}` is not between 1s and 366d"));
            }
            Ok(window) if !seen.insert(window) => {
                found.push(format!("`{text}` is as long as another one"));
            }
            Ok(_) => {}
        }
    }
    found
}

fn group_by(
    aliases: &BTreeMap<String, String>,
    columns: &mut BTreeSet<String>,
    say: &mut impl FnMut(&str, String),
) {
    if aliases.len() > MAX_ALIASES {
        say(
            "group_by",
            format!("has {} aliases: at most {MAX_ALIASES} are possible", aliases.len()),
        );
    }
    for alias in aliases.keys() {
        let at = format!("group_by.{alias}");
        identifier(alias).err().into_iter().for_each(|m| say(&at, m));
        if !columns.insert(alias.clone()) {
            say(&at, format!("every row has a column `{alias}` already"));
        }
    }
}

fn measures(
    measures: &BTreeMap<String, MeasureConfig>,
    columns: &mut BTreeSet<String>,
    say: &mut impl FnMut(&str, String),
) {
    if measures.len() > MAX_MEASURES {
        say("measures", format!("are {}: at most {MAX_MEASURES} are possible", measures.len()));
    }
    for (alias, measure) in measures {
        let at = format!("measures.{alias}");
        identifier(alias).err().into_iter().for_each(|m| say(&at, m));
        let of_at = format!("{at}.of");
        if measure.of.is_empty() {
            say(&of_at, format!("is empty: name some of {}", MEASURES.join(", ")));
        }
        for of in &measure.of {
            if let Err(message) = known(of) {
                say(&of_at, message);
            } else if !columns.insert(format!("{alias}_{of}")) {
                say(&of_at, format!("a column `{alias}_{of}` is there already"));
            }
        }
    }
}

fn identifier(alias: &str) -> Result<(), String> {
    let first = alias.chars().next().is_some_and(|c| c.is_ascii_alphabetic());
    let rest = alias.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    match first && rest && alias.len() <= 100 {
        true => Ok(()),
        false => Err("an alias is a letter, then letters, digits and `_`, at most 100".into()),
    }
}

fn known(of: &str) -> Result<(), String> {
    let quantile = of.strip_prefix('p').is_some_and(|n| n.parse::<f64>().is_ok());
    if MEASURES.contains(&of) {
        Ok(())
    } else if of == "distinct" || quantile {
        Err(format!(
            "`{of}` comes in a later version (distinct counts and quantiles do); now there are {}",
            MEASURES.join(", ")
        ))
    } else if of == "count" {
        Err("every row has `count` without asking".into())
    } else {
        Err(format!("`{of}` is not known; there are {}", MEASURES.join(", ")))
    }
}
