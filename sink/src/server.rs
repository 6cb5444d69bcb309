//! The sink as a process of its own: `penstock-sink`.
//!
//! It needs the log and the store. Replicas share the partitions of `events.clean` by the group of
//! [`group_name`]; which rows they write does not depend on who holds which.

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;
use schemas::{Backbone, backbone::Setup, topics};
use service::{
    app::{App, StageId, announce},
    config::{Config, ConfigError, Loaded, Shared, StoreConfig},
    health::Part,
    http,
    patience::until_open,
    process,
};
use tokio::{net::TcpListener, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    Metrics, Sink, definitions,
    store::{self, Definition, Store, StoreError},
};

const NAME: &str = "penstock-sink";
/// How often the store is asked whether it answers, and how long it may take.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Everything that can be checked and bound without touching data.
pub struct Server {
    /// Where operators look.
    pub admin_addr: SocketAddr,
    config: Config,
    setup: Setup,
    definitions: Vec<Definition>,
    admin: TcpListener,
}

/// Runs the service until the token is cancelled or a part fails.
///
/// # Errors
/// A mistake in the configuration (a `file:` log or store included, which other services could not
/// share), an address in use, or a failure that a retry cannot mend.
pub async fn run(loaded: Loaded, shutdown: CancellationToken) -> Result<()> {
    loaded.config.require_shared(NAME, &[Shared::Log, Shared::Store])?;
    Server::bind(loaded).await?.run(shutdown).await
}

impl Server {
    /// Checks and binds.
    pub async fn bind(loaded: Loaded) -> Result<Self> {
        let config = loaded.config;
        let (definitions, setup) = match (definitions(&config.rollups), Setup::of(&config)) {
            (Ok(definitions), Ok(setup)) => (definitions, setup),
            (definitions, setup) => {
                let (rollups, setup) = (definitions.err(), setup.err());
                let rollups = rollups.into_iter().flatten();
                let rollups = rollups.map(|(setting, m)| config.origins.mistake(&setting, m));
                return Err(ConfigError::of(rollups.chain(setup.into_iter().flatten())).into());
            }
        };
        // Schemas are registered by those who write by them.
        let setup = Setup { contracts: Vec::new(), ..setup };
        let admin = http::bind(config.admin.listen, "admin.listen").await?;
        let admin_addr = admin.local_addr()?;
        Ok(Self { admin_addr, config, setup, definitions, admin })
    }

    /// Opens log and store, however long that takes, and stores.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let Self { admin_addr, config, setup, definitions, admin } = self;
        let mut meters = process::meters(NAME);
        let log_metrics = eventlog::Metrics::register(&mut meters);
        let metrics = Metrics::register(&mut meters);
        let store_metrics = store::Metrics::register(&mut meters);
        let mut app = App::start(NAME, admin, meters, &config)?;
        announce(NAME, None, admin_addr, &config);
        let (work, upkeep) = (app.stage(), app.stage());
        let (log_part, store_part) = (app.part("log"), app.part("store"));
        let assemble = async {
            let topics = [topics::CLEAN, topics::DEAD_LETTERS];
            let (backbone, store) = tokio::try_join!(
                Backbone::open(&config, &setup, &topics, log_metrics, &log_part),
                open_store(&config, &store_part, store_metrics),
            )?;
            backbone.attend(&mut app, upkeep, log_part.clone());
            attend_store(&mut app, upkeep, &store, store_part.clone());
            spawn(&mut app, work, &config, definitions, &backbone, &store, metrics);
            app.ready();
            Ok(())
        };
        let assembled = shutdown.run_until_cancelled(assemble).await.unwrap_or(Ok(()));
        app.until(shutdown, assembled).await
    }
}

/// The sink's consumer group. It holds the keyspace, so that two stores that are filled from one
/// log never share positions.
pub fn group_name(config: &StoreConfig) -> String {
    match config.url.split_once("://").filter(|(scheme, _)| *scheme != "file") {
        Some((_, rest)) => {
            let keyspace = rest.split_once('/').map_or("", |(_, keyspace)| keyspace);
            format!("penstock.sink.{keyspace}")
        }
        None => "penstock.sink".to_owned(),
    }
}

/// Opens the store that the configuration names. Waits for as long as it cannot be reached; cancel
/// it to stop.
pub async fn open_store(config: &Config, part: &Part, metrics: store::Metrics) -> Result<Store> {
    let again = |error: &StoreError| matches!(error, StoreError::Retry(_));
    // The store says itself what cannot be opened, where, and what to do.
    let open = || store::open(&config.store, &config.retention, metrics.clone());
    Ok(until_open(part, again, open).await?)
}

/// Keeps readiness informed of the store, in a stage that stops after those who use it.
pub fn attend_store(app: &mut App, stage: StageId, store: &Store, part: Part) {
    app.hold(store.clone());
    let store = store.clone();
    app.spawn(stage, "store", |token| watch(store, part, token));
}

/// Runs the sink as a part of an app.
pub fn spawn(
    app: &mut App,
    stage: StageId,
    config: &Config,
    definitions: Vec<Definition>,
    backbone: &Backbone,
    store: &Store,
    metrics: Metrics,
) {
    let sink = Sink {
        log: backbone.log.clone(),
        store: store.clone(),
        codec: backbone.codec.clone(),
        config: config.sink.clone(),
        definitions,
        metrics,
        health: app.part("sink"),
        group: group_name(&config.store).into(),
    };
    app.spawn(stage, "sink", |token| async move { Ok(sink.run(token).await?) });
}

/// Asks the store for something small now and then. What it answers on is what readers need, so
/// readiness follows; an error that will not pass ends the process.
async fn watch(store: Store, part: Part, shutdown: CancellationToken) -> Result<()> {
    let work = async {
        loop {
            match tokio::time::timeout(ANSWER_WITHIN, store.epoch(topics::CLEAN)).await {
                Ok(Ok(_)) => part.ready(),
                Ok(Err(StoreError::Retry(why))) => part.failing(why),
                Ok(Err(error)) => return Err(error),
                Err(_) => {
                    part.failing(format!("the store did not answer within {ANSWER_WITHIN:?}"))
                }
            }
            sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        failed = work => Ok(failed?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(url: &str) -> String {
        group_name(&StoreConfig { url: url.into(), ..StoreConfig::default() })
    }

    #[test]
    fn two_keyspaces_never_share_positions() {
        assert_eq!(group("scylla://a:9042,b:9042/shop"), "penstock.sink.shop");
        assert_eq!(group("scylla://b:9042/shop"), "penstock.sink.shop");
        assert_eq!(group("scylla://a:9042/other"), "penstock.sink.other");
    }

    #[test]
    fn an_embedded_store_has_the_plain_group() {
        for url in ["file:./store", "file:/var/store", "file:///var/store"] {
            assert_eq!(group(url), "penstock.sink");
        }
    }
}
