//! `bench ingest`: POST to acknowledged.

use std::time::Duration;

use anyhow::Result;
use clap::Args as ClapArgs;

use crate::{
    baseline,
    load::{self, EVENT_BYTES, Plan},
    measure,
    server::Server,
};

#[derive(ClapArgs)]
pub struct Args {
    /// Events to send.
    #[arg(long, default_value_t = 5_000_000)]
    events: u64,
    /// Events of a request.
    #[arg(long, default_value_t = 500)]
    batch: usize,
    /// Clients.
    #[arg(long, default_value_t = 8)]
    clients: usize,
}

pub async fn run(args: &Args) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let steal = measure::steal()?;
    let bare = baseline::append(
        &dir.path().join("bare"),
        args.events.min(2_000_000),
        args.batch,
        args.clients,
    )
    .await?;

    let server = Server::start("serve-ingest", &dir.path().join("log")).await?;
    let plan = |events, first| Plan {
        url: format!("http://{}/v1/events", server.http),
        events,
        batch: args.batch,
        clients: args.clients,
        rate: None,
        first,
        time: "2026-01-01T00:00:00Z".into(),
    };
    load::run(&plan(args.events / 20, args.events)).await?;
    let fifths = args.events / 5;
    let (server_cpu, load_cpu) = (measure::cpu(server.pid())?, measure::cpu(std::process::id())?);
    let mut elapsed = Duration::ZERO;
    let mut acknowledgements = Vec::new();
    let mut memory = Vec::new();
    for fifth in 0..5 {
        let report = load::run(&plan(fifths, fifth * fifths)).await?;
        elapsed += report.elapsed;
        acknowledgements.extend(report.acknowledgements);
        memory.push(measure::memory(server.pid())?);
    }
    acknowledgements.sort_unstable();
    let server_cpu = measure::cpu(server.pid())? - server_cpu;
    let load_cpu = measure::cpu(std::process::id())? - load_cpu;
    let millions = args.events as f64 / 1e6;
    let rate = args.events as f64 / elapsed.as_secs_f64();

    println!(
        "ingest: {} events of {EVENT_BYTES} B, batches of {}, {} clients, durable acks",
        args.events, args.batch, args.clients
    );
    println!("  events/s                     {rate:>10.0}");
    println!("  bare append loop, events/s   {:>10.0}   ratio {:.2}", bare.rate, rate / bare.rate);
    println!(
        "  ack p50 / p99                {:>10.1?} / {:.1?}",
        load::quantile(&acknowledgements, 0.5),
        load::quantile(&acknowledgements, 0.99)
    );
    println!(
        "  server CPU s per million     {:>10.2}   (load {:.2}, bare loop {:.2})",
        server_cpu.as_secs_f64() / millions,
        load_cpu.as_secs_f64() / millions,
        bare.cpu_per_million
    );
    let fifths: Vec<_> = memory.iter().map(|(now, _)| now.to_string()).collect();
    println!(
        "  server memory, MiB           {:>10}   at each fifth: {}",
        memory.iter().map(|(_, high)| *high).max().unwrap_or(0),
        fifths.join(" ")
    );
    println!("  steal                        {:>9.1}%", measure::stolen(steal, measure::steal()?));
    server.stop().await
}
