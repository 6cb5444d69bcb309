//! The door as a process of its own: `penstock-ingest`.
//!
//! It needs the log and nothing else. It binds before it opens the log, and answers 503 until the
//! log is there, so that clients have one rule: retry.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::Result;
use schemas::{Backbone, backbone::Setup, topics};
use service::{
    app::{App, announce},
    config::{Config, ConfigError, Loaded, Shared},
    http, openapi, process,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;

use crate::{Ingest, Metrics, registry_router, router};

const NAME: &str = "penstock-ingest";

/// Everything that can be checked and bound without touching data.
pub struct Server {
    /// Where events are written.
    pub http_addr: SocketAddr,
    /// Where operators look.
    pub admin_addr: SocketAddr,
    config: Config,
    /// Where the configuration came from.
    file: Option<PathBuf>,
    setup: Setup,
    http: TcpListener,
    admin: TcpListener,
}

/// Runs the service until the token is cancelled or a part fails.
///
/// # Errors
/// A mistake in the configuration (a `file:` log included, which other services could not read),
/// an address in use, or a failure that a retry cannot mend.
pub async fn run(loaded: Loaded, shutdown: CancellationToken) -> Result<()> {
    loaded.config.require_shared(NAME, &[Shared::Log])?;
    Server::bind(loaded).await?.run(shutdown).await
}

impl Server {
    /// Checks and binds.
    pub async fn bind(loaded: Loaded) -> Result<Self> {
        let Loaded { config, file, .. } = loaded;
        let setup = Setup::of(&config).map_err(ConfigError::of)?;
        let http = http::bind(config.http.listen, "http.listen").await?;
        let admin = http::bind(config.admin.listen, "admin.listen").await?;
        let (http_addr, admin_addr) = (http.local_addr()?, admin.local_addr()?);
        Ok(Self { http_addr, admin_addr, config, file, setup, http, admin })
    }

    /// Opens the log, however long that takes, and serves.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let Self { http_addr, admin_addr, config, file, setup, http, admin } = self;
        let mut meters = process::meters(NAME);
        let log_metrics = eventlog::Metrics::register(&mut meters);
        let http_metrics = http::Metrics::register(&mut meters);
        let metrics = Metrics::register(&mut meters);
        let mut app = App::start(NAME, admin, meters, &config)?;
        announce(NAME, Some(http_addr), admin_addr, &config);
        let (door, upkeep) = (app.stage(), app.stage());
        let routes = app.serve_http(door, http, &config, file.as_deref(), http_metrics)?;
        let part = app.part("log");
        let assemble = async {
            let topics = [topics::RAW];
            let open = Backbone::open(&config, &setup, &topics, log_metrics, &part);
            let backbone = open.await?;
            backbone.attend(&mut app, upkeep, part.clone());
            let registry = registry_router(backbone.codec.lookup().clone());
            routes.set(openapi::published(door_of(&config, &backbone, metrics).merge(registry)));
            app.ready();
            Ok(())
        };
        let assembled = shutdown.run_until_cancelled(assemble).await.unwrap_or(Ok(()));
        app.until(shutdown, assembled).await
    }
}

/// The routes of the door on this log.
pub fn door_of(config: &Config, backbone: &Backbone, metrics: Metrics) -> OpenApiRouter {
    router(Arc::new(Ingest {
        config: config.ingest.clone(),
        log: backbone.log.clone(),
        codec: backbone.codec.clone(),
        metrics,
    }))
}
