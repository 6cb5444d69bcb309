//! The query as a process of its own: `penstock-query`.
//!
//! It needs the store and nothing else: no log, and none of its settings but the number of
//! partitions, by which rollups are judged complete.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::Result;
use service::{
    app::{App, announce},
    config::{Config, Loaded, Shared},
    http, openapi, process,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;

use super::{Metrics, Query, router};
use crate::{
    server::{attend_store, open_store},
    store::{self, Store},
};

const NAME: &str = "penstock-query";

/// Everything that can be checked and bound without touching data.
pub struct Server {
    /// Where answers are read.
    pub http_addr: SocketAddr,
    /// Where operators look.
    pub admin_addr: SocketAddr,
    config: Config,
    /// Where the configuration came from.
    file: Option<PathBuf>,
    http: TcpListener,
    admin: TcpListener,
}

/// Runs the service until the token is cancelled or a part fails.
///
/// # Errors
/// A mistake in the configuration (a `file:` store included, which no sink could fill), an
/// address in use, or a failure that a retry cannot mend.
pub async fn run(loaded: Loaded, shutdown: CancellationToken) -> Result<()> {
    loaded.config.require_shared(NAME, &[Shared::Store])?;
    Server::bind(loaded).await?.run(shutdown).await
}

impl Server {
    /// Checks and binds.
    pub async fn bind(loaded: Loaded) -> Result<Self> {
        let Loaded { config, file, .. } = loaded;
        let http = http::bind(config.http.listen, "http.listen").await?;
        let admin = http::bind(config.admin.listen, "admin.listen").await?;
        let (http_addr, admin_addr) = (http.local_addr()?, admin.local_addr()?);
        Ok(Self { http_addr, admin_addr, config, file, http, admin })
    }

    /// Opens the store, however long that takes, and serves.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let Self { http_addr, admin_addr, config, file, http, admin } = self;
        let mut meters = process::meters(NAME);
        let http_metrics = http::Metrics::register(&mut meters);
        let metrics = Metrics::register(&mut meters);
        let store_metrics = store::Metrics::register(&mut meters);
        let mut app = App::start(NAME, admin, meters, &config)?;
        announce(NAME, Some(http_addr), admin_addr, &config);
        let (door, upkeep) = (app.stage(), app.stage());
        let routes = app.serve_http(door, http, &config, file.as_deref(), http_metrics)?;
        let part = app.part("store");
        let assemble = async {
            let store = open_store(&config, &part, store_metrics).await?;
            attend_store(&mut app, upkeep, &store, part.clone());
            routes.set(openapi::published(routes_of(&config, &store, metrics)));
            app.ready();
            Ok(())
        };
        let assembled = shutdown.run_until_cancelled(assemble).await.unwrap_or(Ok(()));
        app.until(shutdown, assembled).await
    }
}

/// The routes that read this store.
pub fn routes_of(config: &Config, store: &Store, metrics: Metrics) -> OpenApiRouter {
    let partitions = config.topics.partitions;
    let query = Query::new(store.clone(), partitions, metrics);
    router(Arc::new(query))
}
