//! The `penstock-remap` binary: see [`processors::run`].

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use processors::Single;
use service::{
    cli::{self, ServiceArgs},
    config::{check_name, check_topic},
};

/// Runs one program in the Vector Remap Language over a topic of the log, exactly once
///
/// Settings that are not given come from the configuration's processor of that name, if it has
/// one. Replicas of the same name share the work; programs that run side by side need different
/// names, because the consumer group bears the name. SIGTERM commits what is under way and exits 0.
#[derive(Debug, Parser)]
#[command(
    name = "penstock-remap",
    version,
    after_help = "\
Examples:
  penstock-remap --config penstock.toml --program flights.vrl
  penstock-remap --config penstock.toml --name clean          the program of the configuration
  penstock-remap --program fraud.vrl --name fraud --from events.clean --to events.fraud

Exit codes: 0 success, 1 failure, 2 wrong usage."
)]
struct Args {
    #[command(flatten)]
    service: ServiceArgs,
    /// The program, relative to the working directory [default: the configuration's]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// The processor's name, which its consumer group bears [default: clean, or the configuration's only one]
    #[arg(long, value_name = "NAME", value_parser = name)]
    name: Option<String>,
    /// The topic it reads [default: events.raw]
    #[arg(long, value_name = "TOPIC", value_parser = topic)]
    from: Option<String>,
    /// The topic it writes [default: events.clean]
    #[arg(long, value_name = "TOPIC", value_parser = topic)]
    to: Option<String>,
}

fn name(text: &str) -> Result<String, String> {
    check_name(text).map(|()| text.to_owned())
}

fn topic(text: &str) -> Result<String, String> {
    check_topic(text).map(|()| text.to_owned())
}

fn main() -> ExitCode {
    cli::service(
        |args: &Args| &args.service,
        |args, loaded, shutdown| async move {
            let Args { program, name, from, to, .. } = args;
            let chosen = processors::single(&loaded.config, Single { program, name, from, to })?;
            processors::run("penstock-remap", loaded, vec![chosen], shutdown).await
        },
    )
}
