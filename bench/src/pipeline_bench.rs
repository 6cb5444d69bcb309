//! `bench pipeline`: POST to visible, through everything.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args as ClapArgs;

use crate::{
    baseline,
    load::{self, EVENT_BYTES, Plan},
    measure,
    server::Server,
};

#[derive(ClapArgs)]
pub struct Args {
    /// Events of the throughput part.
    #[arg(long, default_value_t = 2_000_000)]
    events: u64,
    /// Events of a request.
    #[arg(long, default_value_t = 500)]
    batch: usize,
    /// Clients.
    #[arg(long, default_value_t = 8)]
    clients: usize,
    /// Events per second of the latency part.
    #[arg(long, default_value_t = 20_000.0)]
    rate: f64,
    /// Seconds of the latency part.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
}

const CONFIG: &str = r#"
[http]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[log]
url = "file:./log"
[store]
url = "file:./store"
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
    let dir = tempfile::tempdir()?;
    let config = dir.path().join("penstock.toml");
    std::fs::write(&config, CONFIG)?;
    let steal = measure::steal()?;
    let bare = baseline::append(
        &dir.path().join("bare"),
        args.events.min(2_000_000),
        args.batch,
        args.clients,
    )
    .await?;
    let server = Server::start("serve-pipeline", &config).await?;
    let plan = |events, first, rate| Plan {
        url: format!("http://{}/v1/events", server.http),
        events,
        batch: args.batch,
        clients: args.clients,
        rate,
        first,
        time: "2026-01-01T00:00:00Z".into(),
    };

    // As fast as it goes: from the first POST until every event is visible.
    let cpu = measure::cpu(server.pid())?;
    let start = Instant::now();
    let report = load::run(&plan(args.events, 0, None)).await?;
    visible(&server, args.events).await?;
    let elapsed = start.elapsed();
    let cpu = (measure::cpu(server.pid())? - cpu).as_secs_f64();
    let rate = args.events as f64 / elapsed.as_secs_f64();
    let accepted = args.events as f64 / report.elapsed.as_secs_f64();
    let (after, high) = measure::memory(server.pid())?;
    let millions = args.events as f64 / 1e6;

    // At a steady rate: how long until a probe is visible.
    let events = (args.rate * args.seconds as f64) as u64;
    let steady = tokio::spawn({
        let plan = plan(events, args.events, Some(args.rate));
        async move { load::run(&plan).await }
    });
    let mut probes = Vec::new();
    let until = Instant::now() + Duration::from_secs(args.seconds);
    let client = reqwest::Client::builder().tcp_nodelay(true).build()?;
    let mut n = 0;
    while Instant::now() < until {
        probes.push(probe(&client, &server, n).await?);
        n += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    probes.sort_unstable();
    let steady = steady.await??;
    visible(&server, args.events + events).await?;

    println!(
        "pipeline: {} events of {EVENT_BYTES} B, batches of {}, {} clients; VRL step, deduplication, rows, 2 rollup windows",
        args.events, args.batch, args.clients
    );
    println!("  events/s, POST to visible    {rate:>10.0}   (accepted at {accepted:.0})");
    println!("  bare append loop, events/s   {:>10.0}   ratio {:.2}", bare.rate, rate / bare.rate);
    println!(
        "  server CPU s per million     {:>10.2}   (bare loop {:.2})",
        cpu / millions,
        bare.cpu_per_million
    );
    println!("  server memory, MiB           {after:>10}   (highest {high})");
    println!("  at {:.0} events/s:", args.rate);
    println!(
        "    ack p50 / p99              {:>10.1?} / {:.1?}",
        load::quantile(&steady.acknowledgements, 0.5),
        load::quantile(&steady.acknowledgements, 0.99)
    );
    println!(
        "    POST to visible p50 / p99  {:>10.1?} / {:.1?}   ({} probes)",
        load::quantile(&probes, 0.5),
        load::quantile(&probes, 0.99),
        probes.len()
    );
    println!("  steal                        {:>9.1}%", measure::stolen(steal, measure::steal()?));
    server.stop().await
}

/// Waits until `/v1/types` counts so many events.
async fn visible(server: &Server, events: u64) -> Result<()> {
    let url = format!("http://{}/v1/types", server.http);
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

/// Posts one event with a subject of its own and asks for it until it is there.
async fn probe(client: &reqwest::Client, server: &Server, n: u64) -> Result<Duration> {
    let event = serde_json::json!({
        "specversion": "1.0", "id": format!("probe-{n}"), "source": "/bench/probe",
        "type": "bench.probe", "subject": format!("probe-{n}"),
        "data": { "amount": 1, "items": 1, "country": "p", "note": "" },
    });
    let start = Instant::now();
    let answer = client
        .post(format!("http://{}/v1/events", server.http))
        .header("content-type", "application/cloudevents+json")
        .body(event.to_string())
        .send()
        .await?;
    ensure!(answer.status() == 202, "{}", answer.status());
    let url = format!("http://{}/v1/event?source=/bench/probe&id=probe-{n}", server.http);
    loop {
        if client.get(&url).send().await?.status() == 200 {
            return Ok(start.elapsed());
        }
        ensure!(start.elapsed() < Duration::from_secs(30), "a probe never became visible");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
