//! `penstock run` and `penstock config`: a configuration as a running node, explained, or shown.

use std::path::Path;

use anyhow::Result;
use service::config::{self, ConfigError, Loaded, masked_url};
use tokio_util::sync::CancellationToken;

use crate::{
    node::{Bundle, Node, Plan},
    say,
};

/// The configuration of a file, or the defaults, overridden by this process's environment.
pub fn load(path: Option<&Path>) -> Result<Loaded> {
    let (loaded, mut mistakes) = config::read_here(path)?;
    if mistakes.is_empty() {
        return Ok(loaded);
    }
    // So that one mistake does not hide those that only the parts can find.
    if let Err(further) = Plan::build(&loaded, Bundle::default()) {
        mistakes.extend(further.mistakes);
    }
    Err(ConfigError::of(mistakes).into())
}

/// Runs a node until it is told to stop, or until a part of it fails.
pub async fn run(loaded: Loaded, shutdown: CancellationToken) -> Result<()> {
    let (log, store) = (masked_url(&loaded.config.log.url), masked_url(&loaded.config.store.url));
    let scheme = if loaded.config.http.tls.is_some() { "https" } else { "http" };
    let node = tokio::select! {
        biased;
        node = Node::start(loaded, Bundle::default()) => node?,
        () = shutdown.cancelled() => return Ok(()), // nothing was acknowledged yet
    };
    say!("penstock {} is ready", env!("CARGO_PKG_VERSION"));
    say!("  events and answers  {scheme}://{}", node.http_addr);
    say!("  for operators       http://{}  (/livez /readyz /metrics)", node.admin_addr);
    say!("  log                 {log}");
    say!("  store               {store}");
    node.until(shutdown).await
}

/// Explains every mistake, or says what the configuration amounts to.
pub fn check(path: Option<&Path>) -> Result<()> {
    let loaded = load(path)?;
    let plan = Plan::build(&loaded, Bundle::default())?;
    let origin = path.map_or("the defaults".to_owned(), |path| path.display().to_string());
    say!("{origin}: no mistakes");
    say!("  listens on  {}", loaded.config.http.listen);
    say!("  log         {}", masked_url(&loaded.config.log.url));
    say!("  store       {}", masked_url(&loaded.config.store.url));
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
