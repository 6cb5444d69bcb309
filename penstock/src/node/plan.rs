//! All of a configuration that can be checked without touching data.

use anyhow::{Result, anyhow};
use processors::Planned;
use schemas::backbone::{Contract, contracts};
use service::config::{Instance, Loaded};
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
    /// Schemas to register.
    pub contracts: Vec<Contract>,
    /// What tells this process from others of its kind.
    pub instance: Instance,
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
        let configured = contracts(config).map_err(&mut take);
        let instance =
            config.log.instance().map_err(|text| take(vec![format!("log.instance: {text}")]));
        match (processors, definitions, configured, instance) {
            (Ok(processors), Ok(definitions), Ok(configured), Ok(instance)) => {
                let contracts = bundle.schemas.into_iter().chain(configured).collect();
                Ok(Self { processors, definitions, contracts, instance })
            }
            _ => Err(anyhow!(mistakes.join("\n"))),
        }
    }
}
