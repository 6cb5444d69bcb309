//! The table of built-in steps. A new one is a file in `steps/` and a line here.

use std::path::Path;

use service::config::closest;

use crate::Step;

mod remap;

/// Makes a step from its settings; relative paths in them start at the directory. The error says
/// what is wrong with the settings.
type Build = fn(&toml::Value, &Path) -> Result<Box<dyn Step>, String>;

/// Names as they stand in a configuration.
const STEPS: &[(&str, Build)] = &[("remap", remap::build)];

/// Makes the step of that name.
pub(crate) fn build(
    name: &str,
    settings: &toml::Value,
    base_dir: &Path,
) -> Result<Box<dyn Step>, String> {
    match STEPS.iter().find(|(known, _)| *known == name) {
        Some((_, build)) => build(settings, base_dir),
        None => Err(unknown(name)),
    }
}

fn unknown(name: &str) -> String {
    let known: Vec<_> = STEPS.iter().map(|(known, _)| *known).collect();
    match closest(name, &known) {
        Some(meant) => format!("there is no step `{name}`; did you mean `{meant}`?"),
        None => format!("there is no step `{name}`; there is `{}`", known.join("`, `")),
    }
}
