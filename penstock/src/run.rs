//! `penstock run` and `penstock config`: a configuration as a running node, explained, or shown.

use std::path::Path;

use anyhow::Result;
use service::{
    config::{self, Loaded},
    lifecycle, telemetry,
};
use tokio_util::sync::CancellationToken;

use crate::{
    node::{Bundle, Node, Plan},
    say,
};

/// The configuration of a file, or the defaults, overridden by this process's environment.
pub fn load(path: Option<&Path>) -> Result<Loaded> {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    Ok(config::load(path, std::env::vars_os().filter_map(text))?)
}

/// Runs a node until SIGTERM or SIGINT, or until a part of it fails.
pub async fn run(path: Option<&Path>) -> Result<()> {
    let loaded = load(path)?;
    telemetry::init(&loaded.config.telemetry);
    let shutdown = CancellationToken::new();
    lifecycle::on_signal(shutdown.clone());
    let (log, store) = (loaded.config.log.url.clone(), loaded.config.store.url.clone());
    let node = tokio::select! {
        biased;
        node = Node::start(loaded, Bundle::default()) => node?,
        () = shutdown.cancelled() => return Ok(()), // nothing was acknowledged yet
    };
    say!("penstock {} is ready", env!("CARGO_PKG_VERSION"));
    say!("  events and answers  http://{}", node.http_addr);
    say!("  for operators       http://{}  (/livez /readyz /metrics)", node.admin_addr);
    say!("  log                 {log}");
    say!("  store               {store}");
    until(node, shutdown).await
}

/// Keeps a node running until it is told to stop or fails, and stops it.
pub async fn until(mut node: Node, shutdown: CancellationToken) -> Result<()> {
    let failure = tokio::select! {
        () = shutdown.cancelled() => None,
        error = node.failed() => Some(error),
    };
    if let Some(error) = &failure {
        tracing::error!("{error:#}; stopping");
    }
    let stopped = node.stop().await;
    match failure {
        Some(error) => Err(error),
        None => stopped,
    }
}

/// Explains every mistake, or says what the configuration amounts to.
pub fn check(path: Option<&Path>) -> Result<()> {
    let loaded = load(path)?;
    let plan = Plan::build(&loaded, Bundle::default())?;
    let origin = path.map_or("the defaults".to_owned(), |path| path.display().to_string());
    say!("{origin}: no mistakes");
    say!("  listens on  {}", loaded.config.http.listen);
    say!("  log         {}", loaded.config.log.url);
    say!("  store       {}", loaded.config.store.url);
    for (processor, _) in &plan.processors {
        let steps = processor.steps.len();
        say!(
            "  processor   {}: {} > {} steps > {}",
            processor.name,
            processor.from,
            steps,
            processor.to
        );
    }
    for rollup in &loaded.config.rollups {
        say!("  rollup      {}: {} by {}", rollup.name, rollup.kind, rollup.windows.join(", "));
    }
    Ok(())
}

/// Prints the effective configuration, secrets masked.
pub fn show(path: Option<&Path>) -> Result<()> {
    say!("{}", config::show(&load(path)?.config).trim_end());
    Ok(())
}
