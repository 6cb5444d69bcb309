//! The server as a process of its own, so that its memory and CPU are its own.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use anyhow::{Context, Result};
use axum::{http::StatusCode, routing::MethodRouter, serve::ListenerExt};
use bytes::Bytes;
use e2e::process::Memory;
use ingest::Ingest;
use penstock::node::{Bundle, Node};
use prometheus_client::registry::Registry;
use schemas::{Codec, Unknown, topics};
use service::{config::IngestConfig, http::HttpOptions, lifecycle};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{kafka::AckedProducer, measure::Watched, process::Process};

/// Where [`serve_bare_producer`] writes to.
pub const BARE_TOPIC: &str = "bench.bare";

const SAYS: &str = "listening on ";

/// A running server process.
pub struct Server {
    process: Process,
    /// Where it answers.
    pub http: SocketAddr,
}

impl Server {
    /// Starts this binary as a server and waits until it says where it listens.
    pub async fn start(mode: &str, argument: Option<&OsStr>) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(mode)
            .args(argument)
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().context("no stdout")?;
        let process = Process::new(child);
        let line = BufReader::new(stdout).lines().next().context("the server ended")??;
        let http = line.strip_prefix(SAYS).context("no address")?.parse()?;
        Ok(Self { process, http })
    }

    /// Itself, to be watched.
    pub fn watched(&self) -> Watched {
        ("server", self.process.pid())
    }

    /// What it holds in memory.
    pub fn memory(&self) -> Result<Memory> {
        Memory::of(self.process.pid())
    }

    /// SIGTERM, and waits.
    pub async fn stop(self) -> Result<()> {
        self.process.stop().await
    }
}

const ACCEPTED: (StatusCode, &str) = (StatusCode::ACCEPTED, "{\"accepted\":1,\"rejected\":0}");

/// What any server of this kind takes: a route, a body that is read and parsed, an answer.
pub async fn serve_bare() -> Result<()> {
    let parse = async |body: Bytes| match serde_json::from_slice::<serde_json::Value>(&body) {
        Ok(_) => ACCEPTED,
        Err(_) => (StatusCode::BAD_REQUEST, "{}"),
    };
    serve_routes(axum::routing::post(parse)).await
}

/// The same, with an answer when the brokers of this address have acknowledged the body.
pub async fn serve_bare_producer(brokers: &str) -> Result<()> {
    let producer = Arc::new(AckedProducer::new(brokers)?);
    let produce = async move |body: Bytes| {
        let event = serde_json::from_slice::<serde_json::Value>(&body);
        let Some(id) = event.as_ref().ok().and_then(|event| event["id"].as_str()) else {
            return (StatusCode::BAD_REQUEST, "{}");
        };
        match producer.produce(BARE_TOPIC, id, &body).await {
            Ok(()) => ACCEPTED,
            Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "{}"),
        }
    };
    serve_routes(axum::routing::post(produce)).await
}

/// A listener, told to who started this process, and what a signal cancels.
async fn listen() -> Result<(TcpListener, CancellationToken)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{SAYS}{}", listener.local_addr()?);
    let shutdown = CancellationToken::new();
    lifecycle::on_signal(shutdown.clone());
    Ok((listener, shutdown))
}

async fn serve_routes(events: MethodRouter) -> Result<()> {
    let (listener, shutdown) = listen().await?;
    let routes = axum::Router::new().route("/v1/events", events);
    let nodelay = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    axum::serve(nodelay, routes).with_graceful_shutdown(shutdown.cancelled_owned()).await?;
    Ok(())
}

/// The door and the embedded log, nothing behind them.
pub async fn serve_ingest(dir: &Path) -> Result<()> {
    let mut metrics = Registry::default();
    let url = format!("file:{}", dir.display());
    let log = eventlog::open(&url, eventlog::Options::default()).await?;
    log.ensure_topics(&[eventlog::TopicSpec {
        name: topics::RAW.into(),
        partitions: 4,
        replication: None,
        retention: eventlog::Retention::Delete { age: None, bytes: None },
    }])
    .await?;
    let registry = schemas::Registry::open(log.clone()).await?;
    let ingest = Ingest {
        config: IngestConfig::default(),
        log,
        codec: Codec::new(registry, Unknown::Accept),
        metrics: ingest::Metrics::register(&mut metrics),
    };
    let (listener, shutdown) = listen().await?;
    service::http::serve(
        listener,
        ingest::router(Arc::new(ingest)),
        HttpOptions::default(),
        shutdown,
    )
    .await;
    Ok(())
}

/// Everything, from a configuration.
pub async fn serve_pipeline(config: &Path) -> Result<()> {
    let shutdown = CancellationToken::new();
    lifecycle::on_signal(shutdown.clone());
    let node = Node::start(penstock::run::load(Some(config))?, Bundle::default()).await?;
    println!("{SAYS}{}", node.http_addr);
    node.until(shutdown).await
}
