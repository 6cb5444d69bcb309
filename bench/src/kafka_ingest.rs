//! `bench kafka-ingest`: POST to acknowledged by Kafka, beside a bare producer.

use anyhow::{Result, ensure};
use clap::Args as ClapArgs;
use schemas::topics;

use crate::{
    kafka::{Kafka, KafkaArg},
    load::{self, EVENT_BYTES, Shape},
    measure::Meter,
    services::Site,
    template::Template,
    trial::{Trial, Trials},
};

#[derive(ClapArgs)]
pub struct Args {
    #[command(flatten)]
    kafka: KafkaArg,
    #[command(flatten)]
    shape: Shape,
    /// Give their type a schema: the service checks and encodes them as Avro, both sides write that.
    #[arg(long)]
    avro: bool,
    /// Events of each side of a round.
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// Rounds that count.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
}

const BARE: &str = "bare producer";
const DOOR: &str = "penstock-ingest";

pub async fn run(args: &Args) -> Result<()> {
    let kafka = Kafka::fresh(&args.kafka).await?;
    let schema = args.avro.then_some(load::SCHEMA);
    if let Some(schema) = schema {
        kafka.register(schema).await?;
    }
    let record = Template::new(&load::now(), schema).await?;
    let service = Site::new(&kafka.config())?;
    let service = service.start(DOOR).await?;
    let watched: Vec<_> = [service.watched(), ("load", std::process::id())]
        .into_iter()
        .chain(kafka.watched())
        .collect();
    println!(
        "kafka-ingest: {} events of {EVENT_BYTES} B a side and round, {}, batches of {}, {} clients; \
         load, service and broker on {} cores",
        args.events,
        if args.avro { "as Avro" } else { "as JSON" },
        args.shape.batch,
        args.shape.clients,
        std::thread::available_parallelism()?
    );
    let mut trials = Trials::new("events");
    let mut acknowledgements = Vec::new();
    for round in 0..=args.rounds {
        let bare = format!("bench.bare.{round}");
        kafka.make(&[&bare]).await?;
        let cost = tokio::task::spawn_blocking({
            let (kafka, bare, record, events) =
                (kafka.clone(), bare.clone(), record.clone(), args.events);
            move || kafka.produce(&bare, record, 0..events)
        })
        .await??;
        kafka.delete(&[&bare]).await?;
        trials.add(round, Trial { side: BARE, units: args.events, cost, memory: None });

        let meter = Meter::start(&watched)?;
        let first = u64::from(round) * args.events;
        let report = load::run(&args.shape.plan(service.http, args.events, first)).await?;
        let cost = meter.read()?;
        let memory = Some(service.memory()?.peak);
        trials.add(round, Trial { side: DOOR, units: args.events, cost, memory });
        if round > 0 {
            acknowledgements.extend(report.acknowledgements);
        }
    }
    let (stored, rounds) = (kafka.committed(topics::RAW)?, u64::from(args.rounds) + 1);
    ensure!(
        stored == rounds * args.events,
        "{stored} events are in {}, {} were sent",
        topics::RAW,
        rounds * args.events
    );
    service.stop().await?;

    acknowledgements.sort_unstable();
    trials.compare(DOOR, BARE, Some(0.60));
    trials.memory(DOOR, None);
    load::print_quantiles("ack", &acknowledgements);
    Ok(())
}
