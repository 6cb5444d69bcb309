//! Everything in one process: the log, the processors, the sink, the store and both listeners.
//!
//! It wires and decides nothing else: it is made of the same pieces as the separate services. What
//! it answers for is the order. A start checks all that can be checked before it touches data
//! ([`Plan`]), binds before it opens, and serves last. A stop follows the way of an event, so that
//! nobody waits for a part that is gone: not ready, the door drains, processors, sink, then log and
//! store; operators can watch until the end.

mod plan;

use std::net::SocketAddr;

use anyhow::Result;
use schemas::{Backbone, topics};
use service::{app::App, config::Loaded, http, openapi, process};
use sink::query;
use tokio_util::sync::CancellationToken;

pub use self::plan::{Bundle, Plan};

const NAME: &str = "penstock";

/// A running node.
pub struct Node {
    /// Where events are written and read.
    pub http_addr: SocketAddr,
    /// Where operators look.
    pub admin_addr: SocketAddr,
    app: App,
}

impl Node {
    /// Starts everything, and returns when requests are answered. Until then the listeners answer
    /// that it is starting, for as long as the log or the store cannot be reached.
    pub async fn start(loaded: Loaded, bundle: Bundle) -> Result<Self> {
        let plan = Plan::build(&loaded, bundle)?;
        let config = &loaded.config;
        let listener = http::bind(config.http.listen, "http.listen").await?;
        let operators = http::bind(config.admin.listen, "admin.listen").await?;
        let (http_addr, admin_addr) = (listener.local_addr()?, operators.local_addr()?);

        let mut meters = process::meters(NAME);
        let http_metrics = http::Metrics::register(&mut meters);
        let metrics = Metrics {
            log: eventlog::Metrics::register(&mut meters),
            ingest: ingest::Metrics::register(&mut meters),
            processors: processors::Metrics::register(&mut meters),
            sink: sink::Metrics::register(&mut meters),
            store: sink::store::Metrics::register(&mut meters),
            query: query::Metrics::register(&mut meters),
        };
        let mut app = App::start(NAME, operators, meters, config)?;
        // In the order in which they stop.
        let (door, processing, storing, upkeep) =
            (app.stage(), app.stage(), app.stage(), app.stage());
        let routes =
            app.serve_http(door, listener, config, loaded.file.as_deref(), http_metrics)?;

        let (log_part, store_part) = (app.part("log"), app.part("store"));
        let mut topics = processors::topics_of(plan.processors.iter().map(|(p, _)| p));
        topics.extend([topics::RAW, topics::CLEAN]);
        let log_metrics = metrics.log.clone();
        // One after the other: a folder that another process holds is the same news twice.
        let backbone = Backbone::open(config, &plan.setup, &topics, log_metrics, &log_part).await?;
        let store = sink::open_store(config, &store_part, metrics.store).await?;
        backbone.attend(&mut app, upkeep, log_part);
        sink::attend_store(&mut app, upkeep, &store, store_part);
        let Plan { processors, definitions, setup } = plan;
        sink::spawn(&mut app, storing, config, definitions, &backbone, &store, metrics.sink);
        processors::spawn(
            &mut app,
            processing,
            processors,
            &backbone,
            &metrics.processors,
            &setup.instance,
        );
        let door = ingest::door_of(config, &backbone, metrics.ingest);
        let read = query::routes_of(config, &store, metrics.query);
        let registry = ingest::registry_router(backbone.codec.lookup().clone());
        routes.set(openapi::published(door.merge(read).merge(registry)));
        app.ready();
        Ok(Self { http_addr, admin_addr, app })
    }

    /// Waits until a part ends although nobody told it to, and says which and why.
    pub async fn failed(&mut self) -> anyhow::Error {
        self.app.failed().await
    }

    /// Keeps it running until it is told to stop or fails, and stops it.
    pub async fn until(self, shutdown: CancellationToken) -> Result<()> {
        self.app.until(shutdown, Ok(())).await
    }

    /// Finishes what is under way and closes everything, within the drain deadline. An error
    /// means that some part did not finish in good order; what was acknowledged is safe anyway.
    pub async fn stop(self) -> Result<()> {
        self.app.stop().await
    }
}

/// The metrics of every part.
struct Metrics {
    log: eventlog::Metrics,
    ingest: ingest::Metrics,
    processors: processors::Metrics,
    sink: sink::Metrics,
    store: sink::store::Metrics,
    query: query::Metrics,
}
