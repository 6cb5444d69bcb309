//! `bench door`: one event per request, beside a bare server that only parses them and one that also waits
//! for Kafka, by CPU per request; and what connections cost that nobody uses.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use clap::Args as ClapArgs;
use e2e::process::Memory;
use http_body_util::{BodyExt, Full};
use hyper::{Request, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use schemas::topics;
use tokio::{net::TcpStream, task::JoinSet};

use crate::{
    kafka::{Kafka, KafkaArg},
    load::{self, Body, EVENT_BYTES},
    measure::{Meter, Watched, mib},
    server::{BARE_TOPIC, Server},
    services::Site,
    trial::{Trial, Trials},
};

#[derive(ClapArgs)]
pub struct Args {
    #[command(flatten)]
    kafka: KafkaArg,
    /// Requests of each side of a round.
    #[arg(long, default_value_t = 200_000)]
    requests: u64,
    /// Connections, each with one request under way.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Connections that are opened, used once and left.
    #[arg(long, default_value_t = 1000)]
    idle: usize,
    /// Rounds that count.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
}

const BARE: &str = "bare axum server";
const PRODUCER: &str = "bare server that produces";
const DOOR: &str = "penstock-ingest";
/// How much more CPU a request may take than the bare server takes.
const MOST_CPU: f64 = 1.3;
/// How long a server may take to give back what it does not need.
const SETTLED: Duration = Duration::from_secs(2);
/// What [`Args::idle`] connections may take, in bytes.
const MOST_IDLE: u64 = 20 * 1024 * 1024;

pub async fn run(args: &Args) -> Result<()> {
    let kafka = Kafka::fresh(&args.kafka).await?;
    let site = Site::new(&kafka.config())?;
    let door = site.start(DOOR).await?;
    let bare = Server::start("serve-bare", None).await?;
    kafka.make(&[BARE_TOPIC]).await?;
    let producer = Server::start("serve-bare-producer", Some(kafka.address().as_ref())).await?;
    println!(
        "door: {} requests of one event of {EVENT_BYTES} B a side and round, {} connections; load, \
         service and broker on {} cores",
        args.requests,
        args.connections,
        std::thread::available_parallelism()?
    );
    let mut trials = Trials::new("requests");
    for round in 0..=args.rounds {
        let first = u64::from(round) * args.requests;
        let with_kafka = |server: Watched| [server].into_iter().chain(kafka.watched()).collect();
        let sides: [(_, _, Vec<Watched>); 3] = [
            (BARE, bare.http, vec![bare.watched()]),
            (PRODUCER, producer.http, with_kafka(producer.watched())),
            (DOOR, door.http, with_kafka(door.watched())),
        ];
        for (side, http, mut watched) in sides {
            watched.push(("load", std::process::id()));
            let meter = Meter::start(&watched)?;
            post(http, args, first).await?;
            let cost = meter.read()?;
            trials.add(round, Trial { side, units: args.requests, cost, memory: None });
        }
    }
    let sent = (u64::from(args.rounds) + 1) * args.requests;
    for topic in [topics::RAW, BARE_TOPIC] {
        let stored = kafka.committed(topic)?;
        ensure!(stored == sent, "{stored} events are in {topic}, {sent} were sent");
    }
    trials.compare(DOOR, BARE, None);
    trials.compare_cpu(DOOR, BARE, Some(MOST_CPU));
    trials.compare_cpu(PRODUCER, BARE, None);
    trials.compare_cpu(DOOR, PRODUCER, None);
    let (bare_takes, door_takes) = (
        idle(bare.http, args.idle, || bare.memory()).await?,
        idle(door.http, args.idle, || door.memory()).await?,
    );
    const MIB: f64 = 1024.0 * 1024.0;
    let verdict = if door_takes < MOST_IDLE { "met" } else { "missed" };
    println!(
        "  {} idle connections take {:.1} MiB of {DOOR}, {:.1} of the bare server (target below {} \
         for 1000: {verdict})",
        args.idle,
        door_takes as f64 / MIB,
        bare_takes as f64 / MIB,
        mib(MOST_IDLE)
    );
    bare.stop().await?;
    producer.stop().await?;
    door.stop().await
}

/// Posts numbered events, each in a request of its own; any answer but 202 is an error.
async fn post(http: SocketAddr, args: &Args, first: u64) -> Result<()> {
    let (next, requests) = (Arc::new(AtomicU64::new(0)), args.requests);
    let time = load::now();
    let mut clients = JoinSet::new();
    for _ in 0..args.connections {
        let (next, mut body) = (next.clone(), Body::new(1, &time));
        clients.spawn(async move {
            let mut connection = connect(http).await?;
            loop {
                let number = next.fetch_add(1, Relaxed);
                if number >= requests {
                    return anyhow::Ok(());
                }
                ask(&mut connection, http, body.numbered(first + number)).await?;
            }
        });
    }
    while let Some(done) = clients.join_next().await {
        done??;
    }
    Ok(())
}

type Connection = http1::SendRequest<Full<Bytes>>;

async fn connect(http: SocketAddr) -> Result<Connection> {
    let stream = TcpStream::connect(http).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection); // ends with its sender
    Ok(sender)
}

async fn ask(connection: &mut Connection, http: SocketAddr, body: Bytes) -> Result<()> {
    let request = Request::post("/v1/events")
        .header(header::HOST, http.to_string())
        .header(header::CONTENT_TYPE, "application/cloudevents+json")
        .body(Full::new(body))?;
    connection.ready().await?;
    let answer = connection.send_request(request).await?;
    let status = answer.status();
    let text = answer.into_body().collect().await?.to_bytes();
    ensure!(status == 202, "{status}: {}", String::from_utf8_lossy(&text));
    Ok(())
}

/// What connections take in memory that were used once and are kept, in bytes.
async fn idle(http: SocketAddr, count: usize, memory: impl Fn() -> Result<Memory>) -> Result<u64> {
    let mut body = Body::new(1, &load::now());
    tokio::time::sleep(SETTLED).await;
    let before = memory()?.resident;
    let mut kept = Vec::with_capacity(count);
    for number in 0..count as u64 {
        let mut connection = connect(http).await.context("an idle connection")?;
        ask(&mut connection, http, body.numbered(number)).await?;
        kept.push(connection);
    }
    tokio::time::sleep(SETTLED).await;
    let grown = memory()?.resident.saturating_sub(before);
    ensure!(kept.iter().all(|connection| !connection.is_closed()), "some were closed");
    Ok(grown)
}
