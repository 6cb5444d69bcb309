//! All of a configuration that can be checked without touching data.

use anyhow::{Context, Result, anyhow};
use processors::Chain;
use service::config::{Loaded, ProcessorConfig};
use sink::store::Definition;

/// What a command brings along beside the configuration.
#[derive(Clone, Debug, Default)]
pub struct Bundle {
    /// Schemas to register at start: event type and Avro text.
    pub schemas: Vec<(String, String)>,
}

/// A configuration made into parts that are ready to run.
pub struct Plan {
    /// Processors with their chains.
    pub processors: Vec<(ProcessorConfig, Chain)>,
    /// Rollups.
    pub definitions: Vec<Definition>,
    /// Schemas to register: event type and Avro text.
    pub schemas: Vec<(String, String)>,
}

impl Plan {
    /// Builds it, with every mistake there is, one a line.
    pub fn build(loaded: &Loaded, bundle: Bundle) -> Result<Self> {
        let mut mistakes = Vec::new();
        let mut built = Vec::new();
        for config in processors::configured(&loaded.config.processors) {
            match Chain::build(&config, &loaded.base_dir) {
                Ok(chain) => built.push((config, chain)),
                Err(error) => mistakes.push(format!("processor `{}`: {error}", config.name)),
            }
        }
        let definitions = sink::definitions(&loaded.config.rollups);
        let definitions = definitions.map_err(|error| mistakes.push(error)).unwrap_or_default();
        let mut schemas = bundle.schemas;
        for (kind, path) in &loaded.config.schemas.register {
            let read = std::fs::read_to_string(path)
                .with_context(|| format!("schema of `{kind}`: cannot read {}", path.display()));
            match read {
                Ok(text) => schemas.push((kind.clone(), text)),
                Err(error) => mistakes.push(format!("{error:#}")),
            }
        }
        if mistakes.is_empty() {
            return Ok(Self { processors: built, definitions, schemas });
        }
        Err(anyhow!("{}", mistakes.join("\n")))
    }
}
