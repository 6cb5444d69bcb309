//! The commands as users type them, and how each ends: exit 0 on success, 1 on failure, 2 on
//! wrong usage, with what failed on stderr.

mod urls;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use reqwest::Url;

use service::{
    auth::Scope,
    cli::{self, ConfigFile, ServiceArgs},
    config::{TelemetryConfig, check_name},
    telemetry,
};

use self::urls::Unrepeated;
use crate::{
    demo::{self, DemoOptions},
    keys::{self, NewKey},
    post::{self, PostOptions},
    remote::Server,
    run,
    schemas::{self, InferOptions},
};

/// A self-hosted event pipeline in one binary.
#[derive(Debug, Parser)]
#[command(version, about, after_help = EXAMPLES, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  penstock demo                              the whole way on a month of real flights
  penstock run --config penstock.toml        a pipeline of your own
  penstock post events.ndjson                events from a file
  penstock config check --config penstock.toml

Exit codes: 0 success, 1 failure, 2 wrong usage.";

#[derive(Debug, Subcommand)]
enum Command {
    Demo(DemoArgs),
    Run(RunArgs),
    Post(PostArgs),
    Config(ConfigArgs),
    Keys(KeysArgs),
    Schemas(SchemasArgs),
}

/// Show the whole way, from HTTP POST to answers, on a month of real flights
///
/// Starts everything in this process, posts the 27,004 flights of January 2013 over HTTP, reads
/// back what came out, and prints it beside what the file itself says. Then it keeps serving, so
/// that you can look around.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  penstock demo
  penstock demo --once                      exit 0 only if every number is right
  penstock demo --data ./flights --listen 127.0.0.1:9000
  penstock demo --log kafka://localhost:9092 --store scylla://localhost:9042/demo")]
struct DemoArgs {
    /// End when the table is printed, with exit code 1 if any number differs
    #[arg(long)]
    once: bool,
    /// Keep the data in this folder (a temporary one otherwise)
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where to serve; port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Use this log instead of an embedded one, such as kafka://localhost:9092
    ///
    /// Its topics are made if they are not there: events.raw, events.clean, events.dlq and
    /// penstock.schemas. A demo that comes again finds the events of the former one, and counts
    /// each once.
    #[arg(long, value_name = "URL", value_parser = Unrepeated(urls::log))]
    log: Option<String>,
    /// Use this store instead of an embedded one, such as scylla://localhost:9042/demo
    #[arg(long, value_name = "URL", value_parser = Unrepeated(urls::store))]
    store: Option<String>,
}

/// Run everything in one process
///
/// Without a configuration: on loopback, data under ./penstock-data. SIGTERM and Ctrl-C finish
/// what is under way, within the drain deadline, and exit 0.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  penstock run
  penstock run --config penstock.toml
  PENSTOCK__HTTP__LISTEN=127.0.0.1:9000 penstock run      every key can be set like this")]
struct RunArgs {
    #[command(flatten)]
    service: ServiceArgs,
}

/// Check or show a configuration
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  penstock config check --config penstock.toml
  penstock config show")]
struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Explain every mistake, with its file, line and a suggestion
    #[command(after_help = "\
Examples:
  penstock config check                     the defaults, and what the environment sets
  penstock config check --config penstock.toml")]
    Check(ConfigFile),
    /// Print the effective configuration, secrets masked
    #[command(after_help = "\
Examples:
  penstock config show
  penstock config show --config penstock.toml")]
    Show(ConfigFile),
}

/// Make API keys
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  penstock keys new --name checkout --namespace shop --scope write
  penstock keys new --name reports --namespace shop --scope read --json")]
struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    New(NewKeyArgs),
}

/// Make a key, and print it with the [[keys]] table to paste
///
/// The key is printed this once and kept nowhere: the table holds its hash. Servers take the table
/// in without a restart. Nothing is asked of a server, and no file is changed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  penstock keys new --name checkout --namespace shop --scope write --scope read
  penstock keys new --name checkout --namespace shop --scope write --json | jq -r .key")]
struct NewKeyArgs {
    /// What logs and metrics call it
    #[arg(long, value_parser = name)]
    name: String,
    /// The tenant whose events it writes and reads
    #[arg(long, value_parser = name)]
    namespace: String,
    /// What it may do: write, read, admin or operator; may be given several times
    #[arg(long = "scope", required = true, value_name = "SCOPE", value_parser = Scope::parse)]
    scopes: Vec<Scope>,
    /// Print JSON: the key, and what the table holds
    #[arg(long)]
    json: bool,
}

fn name(text: &str) -> Result<String, String> {
    check_name(text).map(|()| text.to_owned())
}

/// Post NDJSON files of structured CloudEvents, one event per line
///
/// Batches that are answered with 429 or 503, or not at all, are tried again; that is safe,
/// because every event carries its own id. For the same reason an interrupted post is resumed by
/// running it again. Events that are refused for good are written to FILE.rejects.ndjson (an
/// older file of that name is replaced) with the reason beside each, and the exit code is 1. Of a
/// line of more than 16 MiB its beginning is written there.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  penstock post events.ndjson
  PENSTOCK_KEY=pk_... penstock post events.ndjson
  zcat january.ndjson.gz | penstock post - --url https://pipeline:8443 --ca ca.crt
  jq -c .event events.ndjson.rejects.ndjson | penstock post -     once they are corrected")]
struct PostArgs {
    /// Files to post; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    at: ServerArgs,
    /// Events in a request
    #[arg(long, default_value_t = 500, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    batch: u32,
    /// Requests at once; 1 keeps the order of the file within each subject
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    concurrency: u32,
    /// How long a batch is tried before giving up, such as 30s or 5m
    #[arg(long, default_value = "1m", value_name = "TIME", value_parser = service::config::duration::parse)]
    give_up: Duration,
}

/// See, check and register the schemas of event types, and propose them from samples
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  penstock schemas list
  penstock schemas show order.placed
  penstock schemas infer events.ndjson > order.placed.avsc
  penstock schemas check order.placed.avsc --type order.placed
  PENSTOCK_KEY=pk_... penstock schemas register order.placed.avsc --type order.placed")]
struct SchemasArgs {
    #[command(subcommand)]
    command: SchemasCommand,
}

#[derive(Debug, Subcommand)]
enum SchemasCommand {
    /// List the types that have a schema, with their latest versions
    #[command(after_help = "\
Examples:
  penstock schemas list
  penstock schemas list --url https://pipeline:8443 --ca ca.crt --json")]
    List {
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Print the schema of a type
    #[command(after_help = "\
Examples:
  penstock schemas show order.placed > order.placed.avsc
  penstock schemas show order.placed --version 2 --json")]
    Show {
        /// The event type
        #[arg(value_name = "TYPE")]
        kind: String,
        /// Its version
        #[arg(long, default_value = "latest", value_name = "N")]
        version: String,
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Tell whether a schema could be registered, before anything is deployed: exit 1 and why when not
    #[command(after_help = "\
Examples:
  penstock schemas check order.placed.avsc --type order.placed")]
    Check(ContractArgs),
    /// Register a schema as the next version of a type's; the same one again changes nothing
    #[command(after_help = "\
Examples:
  penstock schemas register order.placed.avsc --type order.placed
  PENSTOCK_KEY=pk_... penstock schemas register order.placed.avsc --type order.placed --json")]
    Register(ContractArgs),
    Infer(InferArgs),
}

/// A schema for a type.
#[derive(Debug, Args)]
struct ContractArgs {
    /// A file with an Avro schema
    file: PathBuf,
    /// The event type
    #[arg(long = "type", value_name = "TYPE")]
    kind: String,
    #[command(flatten)]
    ask: AskArgs,
}

/// A server to speak to.
#[derive(Debug, Args)]
struct ServerArgs {
    /// The server, over http or https
    #[arg(long, default_value = "http://127.0.0.1:8080", value_parser = Unrepeated(urls::server))]
    url: Url,
    /// A file with the API key alone in it; without, the key is in the environment's PENSTOCK_KEY,
    /// and without that none is sent
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Trust the certificate authorities in this PEM file alone behind https, not those of the
    /// operating system
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl ServerArgs {
    fn server(self) -> Result<Server> {
        let Self { url, key_file, ca } = self;
        Ok(Server { url, key: keys::of_caller(key_file.as_deref())?, authorities: ca })
    }
}

/// A server to ask.
#[derive(Debug, Args)]
struct AskArgs {
    #[command(flatten)]
    at: ServerArgs,
    /// Print the server's JSON
    #[arg(long)]
    json: bool,
}

impl AskArgs {
    fn client(self) -> Result<schemas::Client> {
        schemas::Client::new(self.at.server()?)
    }
}

/// Propose a schema from sample events; it takes all of them
///
/// Reads structured CloudEvents, one a line, and asks no server. Fields that are absent or null in
/// some events may be null; an object with names that Avro does not have is a map.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  penstock schemas infer events.ndjson --type order.placed > order.placed.avsc
  penstock schemas infer events.ndjson --out schemas")]
struct InferArgs {
    /// An NDJSON file of events; `-` is standard input
    file: PathBuf,
    /// Look at events of this type only
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Make strings that are RFC 3339 times in every event timestamps: they come back in UTC, to the
    /// microsecond
    #[arg(long)]
    timestamps: bool,
    /// Write a file for each type into this folder
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

async fn schemas_command(command: SchemasCommand) -> Result<()> {
    match command {
        SchemasCommand::List { ask } => {
            let json = ask.json;
            schemas::list(&ask.client()?, json).await
        }
        SchemasCommand::Show { kind, version, ask } => {
            let json = ask.json;
            schemas::show(&ask.client()?, &kind, &version, json).await
        }
        SchemasCommand::Check(ContractArgs { file, kind, ask }) => {
            let json = ask.json;
            schemas::check(&ask.client()?, &file, &kind, json).await
        }
        SchemasCommand::Register(ContractArgs { file, kind, ask }) => {
            let json = ask.json;
            schemas::register(&ask.client()?, &file, &kind, json).await
        }
        SchemasCommand::Infer(InferArgs { file, kind, timestamps, out }) => {
            schemas::infer(&InferOptions { file, kind, timestamps, out })
        }
    }
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    match cli::parse::<Cli>() {
        Ok(cli) => cli::block_on(dispatch(cli.command)),
        Err(code) => code,
    }
}

async fn dispatch(command: Command) -> Result<()> {
    match command {
        Command::Demo(DemoArgs { once, data, listen, log, store }) => {
            demo::demo(DemoOptions { once, data, listen, log, store }).await
        }
        Command::Run(args) => args.service.run(run::run).await,
        Command::Config(args) => match args.command {
            ConfigCommand::Check(file) => run::check(file.config.as_deref()),
            ConfigCommand::Show(file) => run::show(file.config.as_deref()),
        },
        Command::Keys(KeysArgs { command: KeysCommand::New(new) }) => {
            let NewKeyArgs { name, namespace, scopes, json } = new;
            keys::new(NewKey { name, namespace, scopes, json })
        }
        Command::Schemas(args) => schemas_command(args.command).await,
        Command::Post(args) => {
            telemetry::init(&TelemetryConfig { filter: Some("warn".into()), ..Default::default() });
            post::post(PostOptions {
                files: args.files,
                server: args.at.server()?,
                batch: args.batch as usize,
                concurrency: args.concurrency as usize,
                give_up: args.give_up,
            })
            .await
        }
    }
}
