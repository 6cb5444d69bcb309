//! The process's own log: lines on stderr, for people or as JSON.
//!
//! Values of events and secrets are never logged; that is up to those who write the lines.

use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, TelemetryConfig};

/// The driver of the store tells of each connection, and twice of each try to make the first one,
/// which we name ourselves. It also passes on what a server warns of: Cassandra does so for every
/// batch of more than ten partitions, which is how the sink writes.
const DEFAULT_FILTER: &str =
    "info,scylla=warn,scylla::cluster::metadata=off,scylla::network::connection=error";

/// Starts logging. Only the first call of a process has an effect.
pub fn init(config: &TelemetryConfig) {
    let filter = config.filter.as_deref().unwrap_or(DEFAULT_FILTER);
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _ = match config.format {
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
        LogFormat::Human => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
            lines.with_ansi(colour).try_init()
        }
    };
}

/// Says what is wrong with a filter, for the configuration's check.
pub fn check_filter(filter: &str) -> Result<(), String> {
    EnvFilter::try_new(filter).map(|_| ()).map_err(|error| {
        format!("is not a filter ({error}): write a level such as `info`, or `sink=debug,info`")
    })
}
