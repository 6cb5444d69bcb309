//! Processors as a process of their own: `penstock-processor` and `penstock-remap`.
//!
//! Replicas of a processor need no configuration: they share its consumer group, which bears its
//! name, and each makes up a name for its transactions unless `log.instance` gives one.

use std::net::SocketAddr;

use anyhow::Result;
use schemas::{Backbone, backbone::Setup, topics};
use service::{
    app::{App, StageId, announce},
    config::{Config, ConfigError, Instance, Loaded, Mistake, ProcessorConfig, Shared},
    http, process,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{Chain, Metrics, Runner, StepError};

/// A processor with its steps, ready to run.
pub type Planned = (ProcessorConfig, Chain);

/// Everything that can be checked, compiled and bound without touching data.
pub struct Server {
    /// Where operators look.
    pub admin_addr: SocketAddr,
    name: &'static str,
    config: Config,
    setup: Setup,
    planned: Vec<Planned>,
    admin: TcpListener,
}

/// Runs these processors, as the binary of that name, until the token is cancelled or a part fails.
///
/// # Errors
/// A mistake in the configuration or a program (a `file:` log included, which other services could
/// not read), an address in use, or a failure that a retry cannot mend.
pub async fn run(
    name: &'static str,
    loaded: Loaded,
    processors: Vec<ProcessorConfig>,
    shutdown: CancellationToken,
) -> Result<()> {
    loaded.config.require_shared(name, &[Shared::Log])?;
    Server::bind(name, loaded, processors).await?.run(shutdown).await
}

impl Server {
    /// Checks, compiles and binds.
    pub async fn bind(
        name: &'static str,
        loaded: Loaded,
        processors: Vec<ProcessorConfig>,
    ) -> Result<Self> {
        let both = (plan(&loaded, processors), Setup::of(&loaded.config));
        let (planned, setup) = match both {
            (Ok(planned), Ok(setup)) => (planned, setup),
            (planned, setup) => {
                let mistakes = [planned.err(), setup.err()].into_iter().flatten().flatten();
                return Err(ConfigError::of(mistakes).into());
            }
        };
        let config = loaded.config;
        let admin = http::bind(config.admin.listen, "admin.listen").await?;
        let admin_addr = admin.local_addr()?;
        Ok(Self { admin_addr, name, config, setup, planned, admin })
    }

    /// Opens the log, however long that takes, and processes.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let Self { admin_addr, name, config, setup, planned, admin } = self;
        let mut meters = process::meters(name);
        let log_metrics = eventlog::Metrics::register(&mut meters);
        let metrics = Metrics::register(&mut meters);
        let mut app = App::start(name, admin, meters, &config)?;
        announce(name, None, admin_addr, &config);
        let (work, upkeep) = (app.stage(), app.stage());
        let part = app.part("log");
        let assemble = async {
            let topics = topics_of(planned.iter().map(|(processor, _)| processor));
            let open = Backbone::open(&config, &setup, &topics, log_metrics, &part);
            let backbone = open.await?;
            backbone.attend(&mut app, upkeep, part.clone());
            spawn(&mut app, work, planned, &backbone, &metrics, &setup.instance);
            app.ready();
            Ok(())
        };
        let assembled = shutdown.run_until_cancelled(assemble).await.unwrap_or(Ok(()));
        app.until(shutdown, assembled).await
    }
}

/// Makes the chains of these processors.
///
/// # Errors
/// Every mistake in them, at its step where the configuration has it.
pub fn plan(
    loaded: &Loaded,
    processors: Vec<ProcessorConfig>,
) -> Result<Vec<Planned>, Vec<Mistake>> {
    let mut planned = Vec::new();
    let mut mistakes = Vec::new();
    for config in processors {
        match Chain::build_or_all(&config, &loaded.base_dir) {
            Ok(chain) => planned.push((config, chain)),
            Err(errors) => {
                mistakes.extend(errors.into_iter().map(|error| mistake(loaded, &config, error)));
            }
        }
    }
    if mistakes.is_empty() { Ok(planned) } else { Err(mistakes) }
}

fn mistake(loaded: &Loaded, processor: &ProcessorConfig, error: StepError) -> Mistake {
    let index = error.number - 1;
    // A step that a command made is not the configuration's of that name.
    let same = |p: &ProcessorConfig| {
        p.name == processor.name && p.steps.get(index) == processor.steps.get(index)
    };
    match loaded.config.processors.iter().position(same) {
        Some(n) => {
            let setting = format!("processors[{n}].steps[{index}]");
            loaded.config.origins.mistake(&setting, error.detail)
        }
        None => loaded.config.origins.mistake("", error.to_string()),
    }
}

/// Every topic that these processors read or write.
pub fn topics_of<'a>(processors: impl Iterator<Item = &'a ProcessorConfig>) -> Vec<&'a str> {
    let theirs = processors.flat_map(|p| [p.from.as_str(), p.to.as_str()]);
    theirs.chain([topics::DEAD_LETTERS]).collect()
}

/// Runs processors as parts of an app.
pub fn spawn(
    app: &mut App,
    stage: StageId,
    planned: Vec<Planned>,
    backbone: &Backbone,
    metrics: &Metrics,
    instance: &Instance,
) {
    for (config, chain) in planned {
        let name = format!("processor {}", config.name);
        let (from, to) = (config.from.as_str(), config.to.as_str());
        tracing::info!(from, to, steps = config.steps.len(), delivery = ?config.delivery, "{name}");
        let runner = Runner {
            instance: instance.name.clone(),
            config,
            chain,
            log: backbone.log.clone(),
            codec: backbone.codec.clone(),
            metrics: metrics.clone(),
            health: app.part(&name),
            dead_letters: topics::DEAD_LETTERS.into(),
        };
        app.spawn(stage, &name, |token| async move { Ok(runner.run(token).await?) });
    }
}
