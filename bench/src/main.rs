//! Measures Penstock on this machine: server and load on the same cores, the server a process of
//! its own, and a bare loop on the same disk in the same run to compare with.
//!
//! ```sh
//! cargo run --release -p bench -- ingest
//! cargo run --release -p bench -- pipeline
//! ```

mod baseline;
mod ingest_bench;
mod load;
mod measure;
mod pipeline_bench;
mod server;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Measures Penstock on this machine")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The door and the log: batches, acknowledged when durable.
    Ingest(ingest_bench::Args),
    /// Everything: POST, a VRL step, deduplication, rows and rollups.
    Pipeline(pipeline_bench::Args),
    /// The server process of `ingest`.
    #[command(hide = true)]
    ServeIngest {
        /// Where the log is.
        dir: PathBuf,
    },
    /// The server process of `pipeline`.
    #[command(hide = true)]
    ServePipeline {
        /// Its configuration.
        config: PathBuf,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Ingest(args) => ingest_bench::run(&args).await,
        Command::Pipeline(args) => pipeline_bench::run(&args).await,
        Command::ServeIngest { dir } => server::serve_ingest(&dir).await,
        Command::ServePipeline { config } => server::serve_pipeline(&config).await,
    }
}
