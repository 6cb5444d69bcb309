//! `bench cluster-latency`: POST to visible through four services, Kafka and a CQL store, at half of the
//! load that they bear at most.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args as ClapArgs;

use crate::{
    cores::Apart,
    cql::{Cql, CqlArg},
    kafka::{Kafka, KafkaArg},
    load::{self, EVENT_BYTES, Shape},
    measure::{Meter, mib},
    pipeline_bench::STEPS_AND_ROLLUPS,
    probe,
    services::{Service, Site},
    trial::{Trial, Trials},
};

#[derive(ClapArgs)]
pub struct Args {
    #[command(flatten)]
    kafka: KafkaArg,
    #[command(flatten)]
    cql: CqlArg,
    #[command(flatten)]
    shape: Shape,
    /// Events of each round that looks for the most they bear.
    #[arg(long, default_value_t = 300_000)]
    events: u64,
    /// Rounds of that.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Seconds at half of it, and the same before, to settle.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Events per second instead of half of the most.
    #[arg(long)]
    rate: Option<f64>,
    /// The store has a core of its own, as on a machine of its own, and all else the others.
    #[arg(long)]
    store_apart: bool,
}

const ALL: &str = "whole way";
const STORED: (&str, &str) = ("penstock_sink_records", "outcome=\"stored\"");

pub async fn run(args: &Args) -> Result<()> {
    let kafka = Kafka::fresh(&args.kafka).await?;
    let cql = Cql::connect(&args.cql).await?;
    let cores = std::thread::available_parallelism()?;
    let mut _apart = None;
    if args.store_apart {
        let (_, store) =
            cql.watched().context("--store-apart: the store is not on this machine")?;
        _apart = Some(Apart::new(store, kafka.watched().map(|(_, pid)| pid))?);
    }
    let keyspace = cql.keyspace(0);
    let config = format!("{}{}{STEPS_AND_ROLLUPS}", kafka.config(), cql.config(&keyspace));
    let site = Site::new(&config)?;
    let ingest = site.start("penstock-ingest").await?;
    let processor = site.start("penstock-processor").await?;
    let sink = site.start("penstock-sink").await?;
    let query = site.start("penstock-query").await?;
    let services = [&ingest, &processor, &sink, &query];
    let load = ("load", std::process::id());
    let watched: Vec<_> = services
        .map(Service::watched)
        .into_iter()
        .chain([load])
        .chain(kafka.watched())
        .chain(cql.watched())
        .collect();
    println!(
        "cluster-latency: events of {EVENT_BYTES} B, batches of {}, {} clients; VRL step, exactly once, 2 \
         rollup windows; load, 4 services{} on {cores} cores",
        args.shape.batch,
        args.shape.clients,
        if args.store_apart { " and broker beside a store" } else { ", broker and store" }
    );

    let mut trials = Trials::new("events");
    let mut sent = 0;
    for round in 0..=args.rounds {
        let meter = Meter::start(&watched)?;
        load::run(&args.shape.plan(ingest.http, args.events, sent)).await?;
        sent += args.events;
        stored(&sink, sent).await?;
        let cost = meter.read()?;
        trials.add(round, Trial { side: ALL, units: args.events, cost, memory: None });
    }
    let most = trials.rate(ALL).context("every round lost too much to steal: run it again")?;
    let rate = args.rate.unwrap_or(most / 2.0);
    println!("  {ALL}: {most:.0} events/s at most; now {rate:.0} events/s");

    let events = args.shape.whole(rate * args.seconds as f64);
    for measured in [false, true] {
        let plan = load::Plan { rate: Some(rate), ..args.shape.plan(ingest.http, events, sent) };
        let steady = tokio::spawn(async move { load::run(&plan).await });
        sent += events;
        if measured {
            let meter = Meter::start(&watched)?;
            let took =
                probe::run(ingest.http, query.http, Duration::from_secs(args.seconds)).await?;
            let steady = steady.await??;
            let cost = meter.read()?;
            sent += took.len() as u64;
            load::print_quantiles("ack", &steady.acknowledgements);
            load::print_quantiles("POST to visible (target: below 75 / 250 ms)", &took);
            println!("  CPU s per million: {}", cost.per_million(events));
            println!("  {}", cost.beside());
        } else {
            steady.await??;
        }
    }
    stored(&sink, sent).await?;
    for service in [query, ingest, processor, sink] {
        println!("  {}: {} MiB at most", service.watched().0, mib(service.memory()?.peak));
        service.stop().await?;
    }
    cql.drop(&keyspace).await
}

/// Waits until the sink has stored so many events.
async fn stored(sink: &Service, events: u64) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(300);
    loop {
        let count = sink.count(STORED.0, STORED.1).await?;
        ensure!(count <= events, "{count} events were stored, {events} were sent");
        if count == events {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "only {count} of {events} events were stored");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
