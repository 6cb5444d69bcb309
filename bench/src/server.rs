//! The server as a process of its own, so that its memory and CPU are its own.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use anyhow::{Context, Result, ensure};
use ingest::Ingest;
use penstock::node::{Bundle, Node};
use prometheus_client::registry::Registry;
use schemas::{Codec, Unknown, topics};
use service::{config::IngestConfig, http::HttpOptions, lifecycle};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const SAYS: &str = "listening on ";

/// A running server process.
pub struct Server {
    child: Child,
    /// Where it answers.
    pub http: String,
}

impl Server {
    /// Starts this binary as a server and waits until it says where it listens.
    pub async fn start(mode: &str, path: &Path) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(mode)
            .arg(path)
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().context("no stdout")?;
        let line = BufReader::new(stdout).lines().next().context("the server ended")??;
        let http = line.strip_prefix(SAYS).context("no address")?.to_owned();
        Ok(Self { child, http })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGTERM, and waits.
    pub async fn stop(mut self) -> Result<()> {
        let pid = self.child.id().to_string();
        ensure!(Command::new("kill").arg(pid).status()?.success(), "cannot signal the server");
        let status = tokio::task::spawn_blocking(move || self.child.wait()).await??;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }
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
        namespace: "default".into(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{SAYS}{}", listener.local_addr()?);
    let shutdown = CancellationToken::new();
    lifecycle::on_signal(shutdown.clone());
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
    penstock::run::until(node, shutdown).await
}
