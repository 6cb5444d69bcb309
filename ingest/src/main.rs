//! The `penstock-ingest` binary: see [`ingest::run`].

use std::process::ExitCode;

use clap::Parser;
use service::cli::{self, ServiceArgs};

/// Takes events over HTTP and appends them to the log
///
/// Start as many as the load needs, behind a load balancer that asks `/readyz` of each. SIGTERM
/// answers what was let in, within `shutdown.deadline`, and exits 0.
#[derive(Debug, Parser)]
#[command(
    name = "penstock-ingest",
    version,
    after_help = "\
Examples:
  penstock-ingest --config penstock.toml
  PENSTOCK__LOG__URL=kafka://a:9092,b:9092 PENSTOCK__HTTP__LISTEN=127.0.0.1:9000 penstock-ingest

Exit codes: 0 success, 1 failure, 2 wrong usage."
)]
struct Args {
    #[command(flatten)]
    service: ServiceArgs,
}

fn main() -> ExitCode {
    cli::service(
        |args: &Args| &args.service,
        |_, loaded, shutdown| async { ingest::run(loaded, shutdown).await },
    )
}
