//! `bench cql-sink`: how fast the sink stores a backlog, beside a bare driver loop that writes the same
//! rows.

use anyhow::Result;
use clap::Args as ClapArgs;
use schemas::topics;

use crate::{
    cql::{Cql, CqlArg},
    kafka::{Kafka, KafkaArg},
    load,
    services::Site,
    template::Template,
    trial::{Trial, Trials},
};

#[derive(ClapArgs)]
pub struct Args {
    #[command(flatten)]
    kafka: KafkaArg,
    #[command(flatten)]
    cql: CqlArg,
    /// Events of the backlog, which each side of each round stores.
    #[arg(long, default_value_t = 500_000)]
    events: u64,
    /// Rounds that count.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Rounds before that, since a cold Cassandra is several times slower.
    #[arg(long, default_value_t = 2)]
    warm: u32,
    /// Batches that the bare loop has under way.
    #[arg(long, default_value_t = 32)]
    in_flight: usize,
}

const BARE: &str = "bare driver loop";
const SINK: &str = "penstock-sink";
const STORED: (&str, &str) = ("penstock_sink_records", "outcome=\"stored\"");

pub async fn run(args: &Args) -> Result<()> {
    let kafka = Kafka::fresh(&args.kafka).await?;
    let cql = Cql::connect(&args.cql).await?;
    kafka.produce(topics::CLEAN, Template::new(&load::now(), None).await?, 0..args.events)?;
    println!(
        "cql-sink: a backlog of {} events; sink, broker and store on {} cores",
        args.events,
        std::thread::available_parallelism()?
    );
    let mut trials = Trials::new("rows");
    for round in 0..args.warm + args.rounds {
        let number = (round + 1).saturating_sub(args.warm);
        // A keyspace of its own is a group of its own, which starts at the first record.
        let keyspace = cql.keyspace(round);
        let site = Site::new(&format!("{}{}", kafka.config(), cql.config(&keyspace)))?;
        let service = site.start(SINK).await?;
        let watched: Vec<_> =
            [service.watched()].into_iter().chain(cql.watched()).chain(kafka.watched()).collect();
        let (events, cost) = service.drain(STORED, args.events, &watched).await?;
        let memory = Some(service.memory()?.peak);
        service.stop().await?;
        let tables = cql.tables(&keyspace).await?;
        let definition = cql.definition(&keyspace).await?;
        cql.drop(&keyspace).await?;
        let rows = tables.len() as u64;
        trials.add(number, Trial { side: SINK, units: events * rows, cost, memory });

        let bare = format!("{keyspace}_bare");
        cql.make(&definition, &keyspace, &bare).await?;
        let cost = cql.write(&bare, &tables, args.events, args.in_flight).await?;
        cql.drop(&bare).await?;
        trials.add(number, Trial { side: BARE, units: args.events * rows, cost, memory: None });
    }
    trials.compare(SINK, BARE, Some(0.80));
    trials.memory(SINK, None);
    Ok(())
}
