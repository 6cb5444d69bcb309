//! The `penstock-query` binary: see [`sink::query::run`].

use std::process::ExitCode;

use clap::Parser;
use service::cli::{self, ServiceArgs};

/// Answers over HTTP what is in the store
///
/// Start as many as the load needs, behind a load balancer that asks `/readyz` of each. SIGTERM
/// answers what was let in, within `shutdown.deadline`, and exits 0.
#[derive(Debug, Parser)]
#[command(
    name = "penstock-query",
    version,
    after_help = "\
Examples:
  penstock-query --config penstock.toml
  PENSTOCK__STORE__URL=scylla://a:9042/shop PENSTOCK__HTTP__LISTEN=127.0.0.1:9000 penstock-query

Exit codes: 0 success, 1 failure, 2 wrong usage."
)]
struct Args {
    #[command(flatten)]
    service: ServiceArgs,
}

fn main() -> ExitCode {
    cli::service(
        |args: &Args| &args.service,
        |_, loaded, shutdown| async { sink::query::run(loaded, shutdown).await },
    )
}
