//! `bench ingest`: POST to acknowledged by the embedded log, beside a bare append loop.

use anyhow::Result;
use clap::Args as ClapArgs;

use crate::{
    baseline,
    load::{self, EVENT_BYTES, Shape},
    measure::{Meter, mib},
    server::Server,
    trial::{Trial, Trials},
};

#[derive(ClapArgs)]
pub struct Args {
    #[command(flatten)]
    shape: Shape,
    /// Events to send.
    #[arg(long, default_value_t = 5_000_000)]
    events: u64,
}

const BARE: &str = "bare append loop";
const DOOR: &str = "door and log";

pub async fn run(args: &Args) -> Result<()> {
    println!(
        "ingest: {} events of {EVENT_BYTES} B, batches of {}, {} clients, durable acks",
        args.events, args.shape.batch, args.shape.clients
    );
    let dir = tempfile::tempdir()?;
    let mut trials = Trials::new("events");
    let (units, cost) = baseline::append(&dir.path().join("bare"), args.events, args.shape).await?;
    trials.add(1, Trial { side: BARE, units, cost, memory: None });

    let server = Server::start("serve-ingest", Some(dir.path().join("log").as_os_str())).await?;
    let fifth = args.shape.whole(args.events as f64 / 5.0);
    let warm = args.shape.whole(args.events as f64 / 20.0);
    load::run(&args.shape.plan(server.http, warm, 5 * fifth)).await?;
    let meter = Meter::start(&[server.watched(), ("load", std::process::id())])?;
    let mut acknowledgements = Vec::new();
    let mut memory = Vec::new();
    for n in 0..5 {
        let report = load::run(&args.shape.plan(server.http, fifth, n * fifth)).await?;
        acknowledgements.extend(report.acknowledgements);
        memory.push(server.memory()?);
    }
    let cost = meter.read()?;
    let highest = memory.last().map(|memory| memory.peak);
    trials.add(1, Trial { side: DOOR, units: 5 * fifth, cost, memory: highest });

    trials.compare(DOOR, BARE, None);
    acknowledgements.sort_unstable();
    load::print_quantiles("ack", &acknowledgements);
    let fifths: Vec<_> = memory.iter().map(|memory| mib(memory.resident).to_string()).collect();
    println!("  MiB at each fifth: {}", fifths.join(" "));
    server.stop().await
}
