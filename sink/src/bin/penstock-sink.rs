//! The `penstock-sink` binary: see [`sink::run`].

use std::process::ExitCode;

use clap::Parser;
use service::cli::{self, ServiceArgs};

/// Stores events and rollups of them, each event once
///
/// Start as many as the load needs, up to the number of partitions: they share the work, and need
/// no configuration of their own. SIGTERM writes and commits what was read and exits 0.
#[derive(Debug, Parser)]
#[command(
    name = "penstock-sink",
    version,
    after_help = "\
Examples:
  penstock-sink --config penstock.toml
  PENSTOCK__STORE__URL=scylla://a:9042,b:9042/shop penstock-sink --config penstock.toml
  PENSTOCK__LOG__INSTANCE=@hostname penstock-sink --config penstock.toml

Exit codes: 0 success, 1 failure, 2 wrong usage."
)]
struct Args {
    #[command(flatten)]
    service: ServiceArgs,
}

fn main() -> ExitCode {
    cli::service(
        |args: &Args| &args.service,
        |_, loaded, shutdown| async { sink::run(loaded, shutdown).await },
    )
}
