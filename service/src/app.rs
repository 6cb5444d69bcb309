//! One process: what runs in it, in which order it stops, and who watches it.
//!
//! A binary makes an [`App`], declares its stages in the order in which they are to stop, and spawns
//! its parts in them. What the app answers for is that order, and that **nothing lingers
//! half-alive**: if any part ends by itself, the whole process stops and says which and why.
//! Operators are served from the first moment to the last, so that a slow start and a drain can
//! be watched. It knows nothing of what the parts do.

use std::{any::Any, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, anyhow};
use futures_util::future::select_all;
use prometheus_client::registry::Registry;
use tokio::{
    net::TcpListener,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    admin,
    auth::{self, Gate},
    config::{Config, masked_url},
    health::{Health, Part},
    http::{self, HttpOptions, Routes, tls::Tls},
    stage::Stage,
};

/// How often the files of a certificate are looked at.
const CERTIFICATE_POLL: Duration = Duration::from_secs(10);

/// Names a stage of an [`App`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageId(usize);

/// A process under way.
pub struct App {
    /// Where operators look.
    pub admin_addr: SocketAddr,
    health: Health,
    itself: Part,
    deadline: Duration,
    /// In the order in which they stop.
    stages: Vec<Stage>,
    /// Stops after all others.
    admin: Stage,
    /// Dropped when every stage has stopped.
    held: Vec<Box<dyn Any + Send>>,
}

impl App {
    /// Serves operators on `admin`. All metrics have to be in `meters` by now. The process is not
    /// ready until [`App::ready`]; `name` is what `/readyz` calls it.
    pub fn start(
        name: &str,
        admin: TcpListener,
        meters: Registry,
        config: &Config,
    ) -> Result<Self> {
        let health = Health::default();
        let deadline = config.shutdown.deadline;
        let mut app = Self {
            admin_addr: admin.local_addr()?,
            itself: health.part(name),
            health: health.clone(),
            deadline,
            stages: Vec::new(),
            admin: Stage::new(deadline),
            held: Vec::new(),
        };
        let gate = admin::metrics_gate(&config.admin);
        let serve = admin::serve(admin, Arc::new(meters), gate, health, app.admin.token.clone());
        app.admin.spawn("admin listener", never_fails(serve));
        Ok(app)
    }

    /// Adds a stage; it stops after those that were added before it.
    pub fn stage(&mut self) -> StageId {
        self.stages.push(Stage::new(self.deadline));
        StageId(self.stages.len() - 1)
    }

    /// An entry in `/readyz`.
    pub fn part(&self, name: &str) -> Part {
        self.health.part(name)
    }

    /// Starts a part, which must run until its token is cancelled.
    pub fn spawn<F>(
        &mut self,
        stage: StageId,
        name: &str,
        work: impl FnOnce(CancellationToken) -> F,
    ) where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let stage = &mut self.stages[stage.0];
        let work = work(stage.token.clone());
        stage.spawn(name, work);
    }

    /// Serves the public listener. Until the routes are set, every request is answered with 503.
    /// Keys are followed in `file`, where the configuration came from one.
    ///
    /// # Errors
    /// The files of `[http.tls]` changed since the configuration was checked, and no longer fit.
    pub fn serve_http(
        &mut self,
        stage: StageId,
        listener: TcpListener,
        config: &Config,
        file: Option<&Path>,
        metrics: http::Metrics,
    ) -> Result<Routes> {
        let tls = config.http.tls.as_ref().map(|files| Tls::open(files, CERTIFICATE_POLL));
        let tls = tls.transpose().map_err(|error| anyhow!("http.tls.{}: {error}", error.key))?;
        let gate = Gate::new(config, metrics.auth.clone());
        // Without authentication in so many words there are no keys to follow.
        if let (Some(file), None) = (file, config.http.auth) {
            let (file, keys, gate) = (file.to_owned(), config.keys.clone(), gate.clone());
            let part = self.part("keys");
            self.spawn(stage, "reload of keys", |token| {
                never_fails(auth::follow(file, keys, gate, part, token))
            });
        }
        if let Some(upkeep) = gate.upkeep() {
            let upkeep = upkeep(self.part("jwks"));
            self.spawn(stage, "upkeep of the issuer's keys", |token| async move {
                token.run_until_cancelled(upkeep).await;
                Ok(())
            });
        }
        let options = HttpOptions {
            // Whoever says `auth = "none"` is answered under any name.
            check_host: config.http.auth.is_none(),
            gate,
            // The rest of the deadline is for those who work on what was let in.
            drain: self.deadline * 3 / 4,
            max_connections: config.http.max_connections,
            max_header_bytes: config.http.max_header_bytes,
            tls,
            metrics,
            ..HttpOptions::default()
        };
        let routes = Routes::default();
        let serve = routes.clone();
        self.spawn(stage, "http listener", |token| {
            never_fails(http::serve(listener, serve, options, token))
        });
        Ok(routes)
    }

    /// Keeps a handle until every stage has stopped. Dropping it may take its time: the last
    /// handle on a file waits for the disk.
    pub fn hold(&mut self, handle: impl Send + 'static) {
        self.held.push(Box::new(handle));
    }

    /// Everything is assembled: from now on the parts alone decide whether the process is ready.
    pub fn ready(&self) {
        tracing::info!("{} is up; /readyz tells how its parts are", self.itself.name());
        self.itself.ready();
    }

    /// Waits until a part ends although nobody told it to, and says which and why. Cancel-safe.
    pub async fn failed(&mut self) -> anyhow::Error {
        let stages = self.stages.iter_mut().chain([&mut self.admin]);
        select_all(stages.map(|stage| Box::pin(stage.failed()))).await.0
    }

    /// Keeps the process running until it is told to stop or fails, and stops it. `assembled` is
    /// how its start went.
    pub async fn until(mut self, shutdown: CancellationToken, assembled: Result<()>) -> Result<()> {
        let failure = match assembled {
            Err(error) => Some(error),
            Ok(()) => tokio::select! {
                biased;
                () = shutdown.cancelled() => None,
                error = self.failed() => Some(error),
            },
        };
        if let Some(error) = &failure {
            tracing::error!("{error:#}; stopping");
        }
        let stopped = self.stop().await;
        match failure {
            Some(error) => Err(error),
            None => stopped,
        }
    }

    /// Finishes what is under way and closes everything, within the drain deadline. An error
    /// means that some part did not finish in good order.
    pub async fn stop(self) -> Result<()> {
        let until = Instant::now() + self.deadline;
        self.itself.failing("stopping");
        let mut result = Ok(());
        for stage in self.stages {
            let stopped = stage.stop(until).await;
            result = result.and(stopped);
        }
        let held = self.held;
        let closing = tokio::task::spawn_blocking(move || drop(held));
        let closed = match timeout_at(until, closing).await {
            Ok(closed) => closed.context("closing what was open"),
            Err(_) => Err(anyhow!("not everything was closed within the drain deadline")),
        };
        result = result.and(closed);
        // Operators may watch until here; their listener has nothing to finish.
        let last = until.max(Instant::now() + Duration::from_secs(1));
        result.and(self.admin.stop(last).await)
    }
}

/// The first line of a service's log: what it is and what it was told.
pub fn announce(service: &str, http: Option<SocketAddr>, admin: SocketAddr, config: &Config) {
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        http = http.map(tracing::field::display),
        admin = %admin,
        log = masked_url(&config.log.url),
        store = masked_url(&config.store.url),
        "{service} starts"
    );
}

/// A part that can only end.
pub async fn never_fails(work: impl Future<Output = ()>) -> Result<()> {
    work.await;
    Ok(())
}
