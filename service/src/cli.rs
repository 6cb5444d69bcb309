//! The outside of every binary: arguments in, an exit code out.
//!
//! Exit codes: 0 success, 1 failure, 2 wrong usage. What failed is one message on stderr.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Args, Parser};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{self, ConfigError, Loaded},
    lifecycle,
    probe::{self, Probe},
    telemetry,
};

/// `--config FILE`, as every binary takes it.
#[derive(Clone, Debug, Args)]
pub struct ConfigFile {
    /// The configuration; relative paths in it are relative to it. `PENSTOCK__SECTION__KEY` in the
    /// environment overrides a setting
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl ConfigFile {
    /// Loads and checks it, with this process's environment over it.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        config::load_here(self.config.as_deref())
    }
}

/// What every binary that serves takes.
#[derive(Clone, Debug, Args)]
pub struct ServiceArgs {
    /// Its configuration.
    #[command(flatten)]
    pub config: ConfigFile,
    /// Start nothing; ask the process that runs with this configuration, and exit 0 if it works
    /// (livez) or can serve now (readyz). For health checks of containers
    #[arg(long, value_name = "WHICH")]
    pub probe: Option<Probe>,
}

impl ServiceArgs {
    /// Starts logging and runs the service until a signal stops it, or asks the one that runs.
    pub async fn run<F>(&self, run: impl FnOnce(Loaded, CancellationToken) -> F) -> Result<()>
    where
        F: Future<Output = Result<()>>,
    {
        if let Some(probe) = self.probe {
            return probe::ask(probe, self.config.load()?.config.admin.listen).await;
        }
        // First: until then a signal ends the process by force, or not at all where it is a container's first.
        let shutdown = CancellationToken::new();
        lifecycle::on_signal(shutdown.clone());
        let loaded = self.config.load()?;
        telemetry::init(&loaded.config.telemetry);
        run(loaded, shutdown).await
    }
}

/// Wrong usage that only shows once the configuration is known: exit code 2.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// The `main` of a service: parses, then does what [`ServiceArgs::run`] does.
pub fn service<A, F>(
    common: impl FnOnce(&A) -> &ServiceArgs,
    run: impl FnOnce(A, Loaded, CancellationToken) -> F,
) -> ExitCode
where
    A: Parser,
    F: Future<Output = Result<()>>,
{
    let args = match parse::<A>() {
        Ok(args) => args,
        Err(code) => return code,
    };
    let common = common(&args).clone();
    block_on(common.run(|loaded, shutdown| run(args, loaded, shutdown)))
}

/// The arguments, or the exit code when there is nothing to run.
pub fn parse<A: Parser>() -> Result<A, ExitCode> {
    A::try_parse().map_err(|error| {
        let _ = error.print(); // there is no other place to say it
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
    })
}

/// Runs a command to its end.
pub fn block_on(command: impl Future<Output = Result<()>>) -> ExitCode {
    // Without its text, which may quote an event.
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!(at = panic.location().map(ToString::to_string), "a panic: a defect");
    }));
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| {
            let outcome = runtime.block_on(command);
            // A thread that still waits for standard input or a server must not keep the process.
            runtime.shutdown_background();
            outcome
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            if error.is::<Usage>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}
