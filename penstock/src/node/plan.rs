//! All of a configuration that can be checked without touching data.

use processors::Planned;
use schemas::backbone::{Contract, Setup};
use service::config::{ConfigError, Loaded};
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
    /// Builds it.
    ///
    /// # Errors
    /// Every mistake there is, each at its place.
    pub fn build(loaded: &Loaded, bundle: Bundle) -> Result<Self, ConfigError> {
        let config = &loaded.config;
        let all = processors::configured(&config.processors);
        let planned = processors::plan(loaded, all);
        match (planned, sink::definitions(&config.rollups), Setup::of(config)) {
            (Ok(processors), Ok(definitions), Ok(mut setup)) => {
                setup.contracts.extend(bundle.schemas);
                Ok(Self { processors, definitions, setup })
            }
            (processors, definitions, setup) => {
                let mut mistakes = processors.err().unwrap_or_default();
                let rollups = definitions.err().into_iter().flatten();
                mistakes.extend(rollups.map(|(setting, m)| config.origins.mistake(&setting, m)));
                mistakes.extend(setup.err().into_iter().flatten());
                Err(ConfigError::of(mistakes))
            }
        }
    }
}
