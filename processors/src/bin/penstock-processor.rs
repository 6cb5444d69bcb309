//! The `penstock-processor` binary: see [`processors::run`].

use std::process::ExitCode;

use clap::Parser;
use service::cli::{self, ServiceArgs};

/// Transforms events between topics of the log, exactly once
///
/// Runs every processor of the configuration; without any, the one that copies events.raw to
/// events.clean. Start as many as the load needs, up to the number of partitions: they share the
/// work, and need no configuration of their own. SIGTERM commits what is under way and exits 0.
#[derive(Debug, Parser)]
#[command(
    name = "penstock-processor",
    version,
    after_help = "\
Examples:
  penstock-processor --config penstock.toml
  penstock-processor --config penstock.toml --only clean
  PENSTOCK__LOG__INSTANCE=@hostname penstock-processor --config penstock.toml

Exit codes: 0 success, 1 failure, 2 wrong usage."
)]
struct Args {
    #[command(flatten)]
    service: ServiceArgs,
    /// Run this processor of the configuration only; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
}

fn main() -> ExitCode {
    cli::service(
        |args: &Args| &args.service,
        |args, loaded, shutdown| async move {
            let chosen = processors::only(&loaded.config, &args.only)?;
            processors::run("penstock-processor", loaded, chosen, shutdown).await
        },
    )
}
