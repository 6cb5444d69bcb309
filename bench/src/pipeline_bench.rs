//! `bench pipeline`: POST to visible, through everything.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Args as ClapArgs;

use crate::{
    baseline,
    load::{self, EVENT_BYTES, Plan, Shape},
    measure::Meter,
    probe,
    server::Server,
    trial::{Trial, Trials},
};

#[derive(ClapArgs)]
pub struct Args {
    #[command(flatten)]
    shape: Shape,
    /// Events of the throughput part.
    #[arg(long, default_value_t = 2_000_000)]
    events: u64,
    /// Events per second of the latency part.
    #[arg(long, default_value_t = 20_000.0)]
    rate: f64,
    /// Seconds of the latency part.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
}

const BARE: &str = "bare append loop";
const ALL: &str = "POST to visible";
const LISTENERS_AND_FILES: &str = r#"
[http]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[log]
url = "file:./log"
[store]
url = "file:./store"
"#;

/// What happens to the events of the load.
pub const STEPS_AND_ROLLUPS: &str = r#"
[[processors]]
name = "bench"
steps = [{ remap = { source = '''
.data.total = to_float!(.data.amount) * to_int!(.data.items)
.data.country = upcase!(.data.country)
del(.data.note)
''' } }]
[[rollups]]
name = "orders"
type = "bench.order"
windows = ["1m", "1h"]
group_by = { country = "data.country" }
measures = { total = { field = "data.total", of = ["sum", "avg", "min", "max"] } }
"#;

pub async fn run(args: &Args) -> Result<()> {
    println!(
        "pipeline: {} events of {EVENT_BYTES} B, batches of {}, {} clients; VRL step, deduplication, rows, 2 rollup windows",
        args.events, args.shape.batch, args.shape.clients
    );
    let dir = tempfile::tempdir()?;
    let config = dir.path().join("penstock.toml");
    std::fs::write(&config, format!("{LISTENERS_AND_FILES}{STEPS_AND_ROLLUPS}"))?;
    let mut trials = Trials::new("events");
    let (units, cost) = baseline::append(&dir.path().join("bare"), args.events, args.shape).await?;
    trials.add(1, Trial { side: BARE, units, cost, memory: None });
    let server = Server::start("serve-pipeline", Some(config.as_os_str())).await?;

    // As fast as it goes: from the first POST until every event is visible.
    let meter = Meter::start(&[server.watched(), ("load", std::process::id())])?;
    let report = load::run(&args.shape.plan(server.http, args.events, 0)).await?;
    visible(server.http, args.events).await?;
    let cost = meter.read()?;
    let memory = Some(server.memory()?.peak);
    trials.add(1, Trial { side: ALL, units: args.events, cost, memory });
    let accepted = args.events as f64 / report.elapsed.as_secs_f64();
    println!("  accepted at {accepted:.0} events/s");
    trials.compare(ALL, BARE, None);

    // At a steady rate: how long until a probe is visible.
    let events = args.shape.whole(args.rate * args.seconds as f64);
    let plan = args.shape.plan(server.http, events, args.events);
    let plan = Plan { rate: Some(args.rate), ..plan };
    let meter = Meter::start(&[server.watched(), ("load", std::process::id())])?;
    let steady = tokio::spawn(async move { load::run(&plan).await });
    let time = Duration::from_secs(args.seconds);
    let probes = probe::run(server.http, server.http, time).await?;
    let steady = steady.await??;
    let cost = meter.read()?;
    visible(server.http, args.events + events).await?;
    println!("  at {:.0} events/s; {}", args.rate, cost.beside());
    load::print_quantiles("ack", &steady.acknowledgements);
    load::print_quantiles("POST to visible", &probes);
    server.stop().await
}

/// Waits until `/v1/types` counts so many events.
async fn visible(http: SocketAddr, events: u64) -> Result<()> {
    let url = format!("http://{http}/v1/types");
    let deadline = Instant::now() + Duration::from_secs(300);
    loop {
        let types: serde_json::Value =
            serde_json::from_str(&reqwest::get(&url).await?.text().await?)?;
        let order = types["types"]
            .as_array()
            .context("no types")?
            .iter()
            .find(|t| t["type"] == "bench.order");
        let count = order.and_then(|t| t["count"].as_u64()).unwrap_or(0);
        ensure!(count <= events, "{count} events are visible, {events} were sent");
        if count == events {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "only {count} of {events} events became visible");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
