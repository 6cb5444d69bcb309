//! Measures Penstock on this machine: what is measured and the load share the cores, what is measured is
//! a process of its own, and a bare loop on the same disk, broker or store in the same run says what there
//! was to reach. The README of this folder says how to run it.

mod baseline;
mod cores;
mod cql;
mod door_bench;
mod ingest_bench;
mod kafka;
mod kafka_ingest;
mod latency_bench;
mod load;
mod measure;
mod neighbour_bench;
mod pipeline_bench;
mod probe;
mod process;
mod processor_bench;
mod server;
mod services;
mod sink_bench;
mod template;
mod trial;

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
    /// Embedded: the door and the log, batches acknowledged when durable.
    Ingest(ingest_bench::Args),
    /// Embedded: everything. POST, a VRL step, deduplication, rows and rollups.
    Pipeline(pipeline_bench::Args),
    /// The ingest service on Kafka, one event per request, beside a bare server.
    Door(door_bench::Args),
    /// The ingest service on Kafka, beside a bare producer.
    KafkaIngest(kafka_ingest::Args),
    /// The processor, exactly once and at least once, beside a bare loop.
    KafkaProcessor(processor_bench::Args),
    /// The sink on a CQL store, beside a bare driver loop.
    CqlSink(sink_bench::Args),
    /// Four services, Kafka and a CQL store: POST to visible at half of the most they bear.
    ClusterLatency(latency_bench::Args),
    /// Embedded: one key, while another one floods, dawdles and bombs.
    Neighbour(neighbour_bench::Args),
    /// The bare server of `door`.
    #[command(hide = true)]
    ServeBare,
    /// The bare server of `door` that produces.
    #[command(hide = true)]
    ServeBareProducer {
        /// Where Kafka is.
        brokers: String,
    },
    /// The misbehaving clients of `neighbour`.
    #[command(hide = true)]
    Misbehave(neighbour_bench::Load),
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
        Command::Door(args) => door_bench::run(&args).await,
        Command::KafkaIngest(args) => kafka_ingest::run(&args).await,
        Command::KafkaProcessor(args) => processor_bench::run(&args).await,
        Command::CqlSink(args) => sink_bench::run(&args).await,
        Command::ClusterLatency(args) => latency_bench::run(&args).await,
        Command::Neighbour(args) => neighbour_bench::run(&args).await,
        Command::Misbehave(load) => neighbour_bench::misbehave(&load).await,
        Command::ServeBare => server::serve_bare().await,
        Command::ServeBareProducer { brokers } => server::serve_bare_producer(&brokers).await,
        Command::ServeIngest { dir } => server::serve_ingest(&dir).await,
        Command::ServePipeline { config } => server::serve_pipeline(&config).await,
    }
}
