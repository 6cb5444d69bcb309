//! All of a configuration that can be checked without touching data.

use anyhow::{Result, anyhow};
use processors::Planned;
use schemas::backbone::{Contract, Setup};
use service::config::Loaded;
use sink::store::Definition;

/// What a command brings along beside the configuration.
#[derive(Clone, Debug, Default)]
pub struct Bundle {
    /// Schemas to register at start: event type and Avro text.
    pub schemas: Vec<Contract>,
}

/// A configuration made into parts that are ready to run.
pub struct Plan {
    /// Processors with their chains.
    pub processors: Vec<Planned>,
    /// Rollups.
    pub definitions: Vec<Definition>,
    /// What is brought to the log.
    pub setup: Setup,
}

impl Plan {
    /// Builds it, with every mistake there is, one a line.
    pub fn build(loaded: &Loaded, bundle: Bundle) -> Result<Self> {
        let config = &loaded.config;
        let mut mistakes = Vec::new();
        let mut take = |found: Vec<String>| mistakes.extend(found);
        let all = processors::configured(&config.processors);
        let processors = processors::plan(loaded, all).map_err(&mut take);
        let definitions = sink::definitions(&config.rollups).map_err(|text| take(vec![text]));
        let setup = Setup::of(config).map_err(&mut take);
        match (processors, definitions, setup) {
            (Ok(processors), Ok(definitions), Ok(mut setup)) => {
                setup.contracts.extend(bundle.schemas);
                Ok(Self { processors, definitions, setup })
            }
            _ => Err(anyhow!(mistakes.join("\n"))),
        }
    }
}
