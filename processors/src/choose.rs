//! Which processors a binary runs: all of a configuration, some by name, or one program.

use std::{collections::BTreeMap, path::PathBuf};

use service::{
    cli::Usage,
    config::{Config, DeliveryMode, ProcessorConfig},
};

use crate::configured;

/// What `penstock-remap` is told beside the configuration.
#[derive(Clone, Debug, Default)]
pub struct Single {
    /// The program; a path relative to the working directory.
    pub program: Option<PathBuf>,
    /// The processor's name.
    pub name: Option<String>,
    /// The topic it reads.
    pub from: Option<String>,
    /// The topic it writes.
    pub to: Option<String>,
}

/// The processors of these names, or all without any.
///
/// # Errors
/// A name that the configuration does not have.
pub fn only(config: &Config, names: &[String]) -> Result<Vec<ProcessorConfig>, Usage> {
    let all = configured(&config.processors);
    let known = all.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(", ");
    if let Some(unknown) = names.iter().find(|name| all.iter().all(|p| p.name != **name)) {
        return Err(Usage(format!(
            "--only {unknown}: there is no such processor; there is {known}"
        )));
    }
    Ok(all.into_iter().filter(|p| names.is_empty() || names.contains(&p.name)).collect())
}

/// The one `remap` processor that was asked for: the program given, or the configuration's. What
/// is not given is taken from the configuration's processor of that name, if it has one.
///
/// # Errors
/// What to give instead.
pub fn single(config: &Config, told: Single) -> Result<ProcessorConfig, Usage> {
    let mut processor = match &told.program {
        Some(program) => {
            let program = std::path::absolute(program)
                .map_err(|error| Usage(format!("--program {}: {error}", program.display())))?;
            let name = told.name.clone().unwrap_or_else(|| "clean".to_owned());
            let known = config.processors.iter().find(|p| p.name == name);
            let base = known.cloned().unwrap_or_else(|| unnamed(name));
            let step = toml::Value::String(program.display().to_string());
            ProcessorConfig { steps: vec![BTreeMap::from([("remap".to_owned(), step)])], ..base }
        }
        None => of_configuration(config, told.name.as_deref())?,
    };
    processor.from = told.from.unwrap_or(processor.from);
    processor.to = told.to.unwrap_or(processor.to);
    if processor.from == processor.to {
        let topic = processor.to;
        return Err(Usage(format!("--to {topic} is also what is read: that never ends")));
    }
    Ok(processor)
}

fn unnamed(name: String) -> ProcessorConfig {
    ProcessorConfig {
        name,
        from: schemas::topics::RAW.into(),
        to: schemas::topics::CLEAN.into(),
        steps: Vec::new(),
        delivery: DeliveryMode::default(),
    }
}

fn of_configuration(config: &Config, name: Option<&str>) -> Result<ProcessorConfig, Usage> {
    let found = match (name, config.processors.as_slice()) {
        (Some(name), all) => all.iter().find(|p| p.name == name).ok_or_else(|| {
            Usage(format!(
                "--name {name}: the configuration has no such processor; give --program FILE"
            ))
        })?,
        (None, [one]) => one,
        (None, []) => {
            return Err(Usage("the configuration has no processors: give --program FILE".into()));
        }
        (None, _) => {
            return Err(Usage(
                "the configuration has several processors: choose one by --name, or give \
                 --program FILE"
                    .into(),
            ));
        }
    };
    match found.steps.as_slice() {
        [step] if step.keys().eq(["remap"]) => Ok(found.clone()),
        _ => Err(Usage(format!(
            "processor `{0}` is not one `remap` step: run it by `penstock-processor --only {0}`",
            found.name
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(processors: &str) -> Config {
        toml::from_str(processors).unwrap()
    }

    const TWO: &str = "processors = [
        { name = 'a', from = 'x', to = 'y', delivery = 'at_least_once', steps = [{ remap = 'a.vrl' }] },
        { name = 'b', steps = [{ remap = 'b.vrl' }, { remap = 'c.vrl' }] } ]";

    fn told(program: Option<&str>, name: Option<&str>) -> Single {
        let owned = |text: &str| text.to_owned();
        Single { program: program.map(PathBuf::from), name: name.map(owned), from: None, to: None }
    }

    fn refusal(processors: &str, told: Single) -> String {
        single(&config(processors), told).unwrap_err().to_string()
    }

    #[test]
    fn without_names_all_processors_run_and_with_names_those() {
        let names = |only_these: &[&str]| {
            let these: Vec<_> = only_these.iter().map(|&name| name.to_owned()).collect();
            let chosen = only(&config(TWO), &these).map_err(|usage| usage.to_string())?;
            Ok::<_, String>(chosen.into_iter().map(|p| p.name).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(names(&[]), Ok("a b".into()));
        assert_eq!(names(&["b"]), Ok("b".into()));
        assert!(names(&["c"]).unwrap_err().contains("there is a, b"));
        assert_eq!(only(&Config::default(), &[]).unwrap()[0].name, "clean");
    }

    #[test]
    fn a_program_alone_goes_from_raw_to_clean_and_is_relative_to_where_one_stands() {
        let processor = single(&Config::default(), told(Some("p.vrl"), None)).unwrap();
        assert_eq!(
            (&*processor.name, &*processor.from, &*processor.to),
            ("clean", "events.raw", "events.clean")
        );
        let here = std::env::current_dir().unwrap().join("p.vrl");
        assert_eq!(processor.steps[0]["remap"].as_str().unwrap(), here.to_str().unwrap());
    }

    #[test]
    fn a_program_under_a_name_of_the_configuration_has_its_topics_and_delivery() {
        let mut told = told(Some("p.vrl"), Some("a"));
        told.to = Some("z".into());
        let processor = single(&config(TWO), told).unwrap();
        assert_eq!((&*processor.from, &*processor.to), ("x", "z"));
        assert_eq!(processor.delivery, DeliveryMode::AtLeastOnce);
        assert!(processor.steps[0]["remap"].as_str().unwrap().ends_with("/p.vrl"));
    }

    #[test]
    fn without_a_program_the_configurations_is_taken_if_it_is_one_remap_step() {
        assert_eq!(
            single(&config(TWO), told(None, Some("a"))).unwrap().steps[0]["remap"].as_str(),
            Some("a.vrl")
        );
        assert!(refusal(TWO, told(None, Some("b"))).contains("penstock-processor --only b"));
        assert!(refusal(TWO, told(None, Some("c"))).contains("no such processor"));
        assert!(refusal(TWO, told(None, None)).contains("by --name"));
        assert!(refusal("", told(None, None)).contains("give --program FILE"));
    }

    #[test]
    fn a_loop_is_refused() {
        let mut told = told(Some("p.vrl"), None);
        told.from = Some("events.clean".into());
        assert!(refusal("", told).contains("never ends"));
    }
}
