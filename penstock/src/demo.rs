//! `penstock demo`: the whole way on a month of real flights, checked against the file itself.
//!
//! It is a producer and a reader like any other: everything goes in and comes out over HTTP, through
//! a node that differs from `penstock run` only in its bundled configuration. So that a second run
//! on the same data prints the same, what is counted of this run (accepted, dropped) is kept apart
//! from what is read back (stored, the rollup).

mod answers;
mod flights;
mod report;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf, absolute},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use service::{
    config::{
        AdminConfig, Config, DeliveryMode, HttpConfig, Loaded, LogConfig, MeasureConfig,
        ProcessorConfig, RollupConfig, StoreConfig, TelemetryConfig,
    },
    http, lifecycle, telemetry,
};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::{
    answers::{Answers, Counted},
    flights::{DEPARTED, Expected, Flights},
    report::{Got, grouped, report},
};
use crate::{
    node::{Bundle, Node},
    post::{Poster, Progress, post_all},
    remote::Server,
    say,
};

const BATCH: usize = 500;
const CONCURRENCY: usize = 4;
/// How long the pipeline may stand still before what it answers is taken as final. How long it
/// works is the machine's business.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a log or store elsewhere may take to answer: nobody watches a demo for longer.
const START_WITHIN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// What a demo is told.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// End when the table is printed.
    pub once: bool,
    /// Keep the data in this folder.
    pub data: Option<PathBuf>,
    /// Where to serve.
    pub listen: SocketAddr,
    /// Another log than the embedded one.
    pub log: Option<String>,
    /// Another store than the embedded one.
    pub store: Option<String>,
}

/// Runs the demo; an error when anything differs from what the file says.
pub async fn demo(options: DemoOptions) -> Result<()> {
    telemetry::init(&TelemetryConfig { filter: Some("warn".into()), ..TelemetryConfig::default() });
    http::check_listen(options.listen, http::Admission::ThisMachine)
        .map_err(|error| anyhow!(error))?;
    // Only for the message: the node binds again.
    drop(http::bind(options.listen, "--listen").await?);
    let shutdown = CancellationToken::new();
    lifecycle::on_signal(shutdown.clone());
    // Removed when this function returns.
    let (dir, _temporary) = match &options.data {
        Some(dir) => (absolute(dir)?, None),
        None => {
            let temporary = tempfile::Builder::new().prefix("penstock-demo-").tempdir();
            let temporary = temporary.context("cannot make a temporary folder")?;
            (temporary.path().to_owned(), Some(temporary))
        }
    };
    let schema = (DEPARTED.to_owned(), schemas::bundled::FLIGHT_DEPARTED.to_owned());
    let start = Node::start(configuration(&dir, &options), Bundle { schemas: vec![schema] });
    let mut node = tokio::select! {
        started = timeout(START_WITHIN, start) => started.map_err(|_| anyhow!(
            "the log or the store could not be reached within {START_WITHIN:?}: see the warnings above"
        ))??,
        () = shutdown.cancelled() => bail!("interrupted"),
    };
    let outcome = tokio::select! {
        outcome = show(node.http_addr, node.admin_addr) => outcome,
        error = node.failed() => Err(error),
        () = shutdown.cancelled() => Err(anyhow!("interrupted")),
    };
    if options.once || outcome.is_err() {
        let stopped = node.stop().await;
        return outcome.and(stopped);
    }
    invite(node.http_addr, node.admin_addr);
    node.until(shutdown).await
}

/// Posts, waits, reads back and compares.
async fn show(http: SocketAddr, admin: SocketAddr) -> Result<()> {
    let begun = Instant::now();
    let expected = Expected::read()?;
    let accepted = post(http, expected.rows).await?;
    let answers = Answers::of(http, admin)?;
    let (mut before, mut moved) = (Counted::default(), Instant::now());
    let (text, good) = loop {
        let counted = answers.counted().await?;
        if counted != before {
            (before, moved) = (counted, Instant::now());
        }
        let drained = counted.processed >= accepted && counted.sunk >= counted.written;
        let stands_still = moved.elapsed() > PATIENCE;
        if drained || stands_still {
            let stored = answers.stored().await?;
            let (text, good) = report(&expected, &Got { accepted, counted, stored });
            if good || stands_still {
                break (text, good);
            }
        }
        sleep(POLL).await;
    };
    let seconds = begun.elapsed().as_secs_f64();
    say!("Flights from New York, January 2013: from POST to answers in {seconds:.1} s");
    say!("");
    say!("{text}");
    if !good {
        bail!("what came out is not what the file says");
    }
    Ok(())
}

async fn post(http: SocketAddr, rows: u64) -> Result<u64> {
    let url = format!("http://{http}").parse()?;
    let server = Server { url, key: None, authorities: None };
    let poster = Poster::new(&server, Duration::from_secs(30))?;
    let mut progress = Progress::new("posting", Some(rows));
    let mut accepted = 0;
    let posted = post_all(&poster, Flights::open()?.batches(BATCH), CONCURRENCY, |posted| {
        if let Some(reject) = posted.rejects.first() {
            bail!("a flight was rejected: {} ({})", reject.detail, reject.code);
        }
        accepted += posted.accepted;
        progress.add(posted.accepted);
        Ok(())
    });
    posted.await?;
    progress.finish();
    say!("posted {} events at {}/s", grouped(accepted), grouped(progress.rate()));
    Ok(accepted)
}

/// What a user could have written into a `penstock.toml`.
fn configuration(dir: &Path, options: &DemoOptions) -> Loaded {
    let url = |given: &Option<String>, name: &str| {
        given.clone().unwrap_or_else(|| format!("file:{}", dir.join(name).display()))
    };
    let source = toml::Table::from_iter([("source".to_owned(), flights::PROGRAM.into())]);
    let processor = ProcessorConfig {
        name: "flights".into(),
        from: schemas::topics::RAW.into(),
        to: schemas::topics::CLEAN.into(),
        steps: vec![BTreeMap::from([("remap".to_owned(), source.into())])],
        delivery: DeliveryMode::ExactlyOnce,
    };
    let delay = MeasureConfig {
        field: "data.dep_delay".into(),
        of: ["sum", "min", "max", "avg"].map(str::to_owned).to_vec(),
    };
    let rollup = RollupConfig {
        name: "departures".into(),
        kind: DEPARTED.into(),
        windows: vec!["1h".into(), "1d".into()],
        group_by: BTreeMap::from([("carrier".to_owned(), "data.carrier".to_owned())]),
        measures: BTreeMap::from([("delay".to_owned(), delay)]),
    };
    let config = Config {
        log: LogConfig { url: url(&options.log, "log"), ..LogConfig::default() },
        store: StoreConfig { url: url(&options.store, "store"), ..StoreConfig::default() },
        http: HttpConfig { listen: options.listen, ..HttpConfig::default() },
        admin: AdminConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            ..AdminConfig::default()
        },
        processors: vec![processor],
        rollups: vec![rollup],
        ..Config::default()
    };
    Loaded { config, base_dir: dir.to_owned(), file: None }
}

fn invite(http: SocketAddr, admin: SocketAddr) {
    say!("Still serving; Ctrl-C ends it. Try:");
    say!("  curl -s 'http://{http}/v1/types'");
    say!("  curl -s 'http://{http}/v1/events?type={DEPARTED}&limit=2'");
    say!("  curl -s 'http://{http}/v1/rollups/departures?window=1d&group.carrier=HA'");
    say!("  curl -s 'http://{admin}/metrics'");
    say!("or open http://{http}/ in a browser.");
}
