//! `bench kafka-processor`: how fast a processor works off a backlog, beside a bare loop that consumes,
//! parses, modifies and produces.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args as ClapArgs;
use schemas::topics;

use crate::{
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
    /// Events of the backlog, which each side of each round works off.
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// Rounds that count.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
}

const BARE: &str = "bare loop";
const COPY: &str = "copy, exactly once";
const COPY_LOOSE: &str = "copy, at least once";
const REMAP: &str = "remap, exactly once";
const REMAP_LOOSE: &str = "remap, at least once";
const EXACTLY: &str = "exactly_once";
const AT_LEAST: &str = "at_least_once";
/// What the bare loop does, too.
const STEPS: &str = "[{ remap = { source = '''
.data.total = to_float!(.data.amount) * to_int!(.data.items)
.data.country = upcase!(.data.country)
''' } }]";
const SIDES: [(&str, &str, &str); 4] = [
    (COPY, "[]", EXACTLY),
    (COPY_LOOSE, "[]", AT_LEAST),
    (REMAP, STEPS, EXACTLY),
    (REMAP_LOOSE, STEPS, AT_LEAST),
];
/// What a processor may take at most, in MiB: 100 MB.
const MEMORY: u64 = 95;
const EMITTED: (&str, &str) = ("penstock_processor_records", "outcome=\"emitted\"");

pub async fn run(args: &Args) -> Result<()> {
    let kafka = Kafka::fresh(&args.kafka).await?;
    let record = Template::new(&load::now(), None).await?;
    kafka.produce(topics::RAW, record, 0..args.events)?;
    println!(
        "kafka-processor: a backlog of {} events; processor and broker on {} cores",
        args.events,
        std::thread::available_parallelism()?
    );
    let mut trials = Trials::new("events");
    for round in 0..=args.rounds {
        let cost = tokio::task::spawn_blocking({
            let (kafka, events) = (kafka.clone(), args.events);
            move || kafka.copy(topics::RAW, topics::CLEAN, events)
        })
        .await??;
        check(args, &kafka, BARE).await?;
        trials.add(round, Trial { side: BARE, units: args.events, cost, memory: None });
        for (number, (side, steps, delivery)) in SIDES.into_iter().enumerate() {
            // A name of its own is a group of its own, which starts at the first record.
            let processor = format!(
                "[[processors]]\nname = \"bench.{round}.{number}\"\ndelivery = \"{delivery}\"\n\
                 steps = {steps}\n"
            );
            let trial = drain(args, &kafka, side, &processor).await?;
            check(args, &kafka, side).await?;
            trials.add(round, trial);
        }
    }
    for (exactly, loosely) in [(COPY, COPY_LOOSE), (REMAP, REMAP_LOOSE)] {
        trials.compare(exactly, BARE, Some(0.70));
        trials.compare(exactly, loosely, Some(0.85));
        trials.memory(exactly, Some(MEMORY));
    }
    Ok(())
}

/// One processor, until the backlog is through.
async fn drain(args: &Args, kafka: &Kafka, side: &'static str, processor: &str) -> Result<Trial> {
    let site = Site::new(&format!("{}{processor}", kafka.config()))?;
    let service = site.start("penstock-processor").await?;
    let watched: Vec<_> = [service.watched()].into_iter().chain(kafka.watched()).collect();
    let (units, cost) = service.drain(EMITTED, args.events, &watched).await?;
    let memory = Some(service.memory()?.peak);
    service.stop().await?;
    Ok(Trial { side, units, cost, memory })
}

/// Counts what came out as a consumer sees it, and clears the way for the next side.
async fn check(args: &Args, kafka: &Kafka, side: &str) -> Result<()> {
    let written = kafka.committed(topics::CLEAN)?;
    ensure!(written == args.events, "{side}: {written} of {} events came out", args.events);
    kafka.delete(&[topics::CLEAN]).await?;
    kafka.make(&[topics::CLEAN]).await?;
    // What is left of deleting must not burden the next side.
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok(())
}
