//! Everything in one process: the log, the processors, the sink, the store and both listeners.
//!
//! It wires and decides nothing else: each part is a library with a `run` of its own. What it
//! answers for is the order. A start checks all that can be checked before it touches data
//! ([`Plan`]), binds before it opens, and serves last. A stop follows the way of an event, so that
//! nobody waits for a part that is gone: not ready, the door drains, processors, sink, then log and
//! store; operators can watch until the end. And if any part ends by itself, the whole process does:
//! nothing lingers half-alive.

mod plan;
mod stage;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result, anyhow};
use eventlog::{Log, LogError, Retention, TopicSpec};
use ingest::Ingest;
use processors::Runner;
use prometheus_client::registry::Registry as Meters;
use schemas::{Codec, Registry, Unknown, topics};
use service::{
    admin,
    config::{Config, Loaded, UnknownType},
    health::{Health, Part},
    http::{self, HttpOptions},
    process,
};
use sink::{
    Sink,
    query::{self, Query},
    store::Store,
};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

pub use self::plan::{Bundle, Plan};
use self::stage::Stage;

/// The tenant of everything, until there are API keys.
const NAMESPACE: &str = "default";
/// The sink's consumer group.
const SINK_GROUP: &str = "penstock.sink";
/// How often the log is asked how it is.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A running node.
pub struct Node {
    /// Where events are written and read.
    pub http_addr: SocketAddr,
    /// Where operators look.
    pub admin_addr: SocketAddr,
    health: Part,
    deadline: Duration,
    stages: Stages,
    log: Log,
    store: Store,
}

/// What runs, in the order in which it stops.
struct Stages {
    http: Stage,
    processors: Stage,
    sink: Stage,
    background: Stage,
    admin: Stage,
}

impl Node {
    /// Starts everything, and returns when requests are answered.
    pub async fn start(loaded: Loaded, bundle: Bundle) -> Result<Self> {
        let plan = Plan::build(&loaded, bundle)?;
        let config = &loaded.config;
        let listener = http::bind(config.http.listen, "http.listen").await?;
        let operators = http::bind(config.admin.listen, "admin.listen").await?;
        let (http_addr, admin_addr) = (listener.local_addr()?, operators.local_addr()?);

        let mut meters = Meters::default();
        process::register(&mut meters);
        let metrics = Metrics::register(&mut meters);
        let health = Health::default();
        let node_health = health.part("node");
        let deadline = config.shutdown.deadline;
        let mut stages = Stages::new(deadline);
        // First, so that a start that takes long can be watched.
        let serve =
            admin::serve(operators, Arc::new(meters), health.clone(), stages.admin.token.clone());
        stages.admin.spawn("admin listener", never_fails(serve));

        let (log, store) = open(config, &metrics).await?;
        let registry = registry(&log, &plan).await?;
        let wiring = Wiring { config, metrics, health, log, store, registry };
        wiring.start(plan, listener, &mut stages);
        let Wiring { log, store, .. } = wiring;
        node_health.ready();
        Ok(Self { http_addr, admin_addr, health: node_health, deadline, stages, log, store })
    }

    /// Waits until a part ends although nobody told it to, and says which and why.
    pub async fn failed(&mut self) -> anyhow::Error {
        let Stages { http, processors, sink, background, admin } = &mut self.stages;
        tokio::select! {
            error = http.failed() => error,
            error = processors.failed() => error,
            error = sink.failed() => error,
            error = background.failed() => error,
            error = admin.failed() => error,
        }
    }

    /// Finishes what is under way and closes everything, within the drain deadline. An error
    /// means that some part did not finish in good order; what was acknowledged is safe anyway.
    pub async fn stop(self) -> Result<()> {
        let until = Instant::now() + self.deadline;
        self.health.failing("stopping");
        let Stages { http, processors, sink, background, admin } = self.stages;
        let mut result = Ok(());
        for stage in [http, processors, sink, background] {
            let stopped = stage.stop(until).await;
            result = result.and(stopped);
        }
        // The last handles close their files, which waits for the disk.
        let (log, store) = (self.log, self.store);
        let closing = tokio::task::spawn_blocking(move || drop((store, log)));
        let closed = match tokio::time::timeout_at(until, closing).await {
            Ok(closed) => closed.context("closing log and store"),
            Err(_) => Err(anyhow!("log and store were not closed within the drain deadline")),
        };
        result = result.and(closed);
        // Operators may watch until here; their listener has nothing to finish.
        let last = until.max(Instant::now() + Duration::from_secs(1));
        result.and(admin.stop(last).await)
    }
}

impl Stages {
    fn new(deadline: Duration) -> Self {
        Self {
            http: Stage::new(deadline),
            processors: Stage::new(deadline),
            sink: Stage::new(deadline),
            background: Stage::new(deadline),
            admin: Stage::new(deadline),
        }
    }
}

/// The metrics of every part.
struct Metrics {
    log: eventlog::Metrics,
    http: http::Metrics,
    ingest: ingest::Metrics,
    processors: processors::Metrics,
    sink: sink::Metrics,
    query: query::Metrics,
}

impl Metrics {
    fn register(meters: &mut Meters) -> Self {
        Self {
            log: eventlog::Metrics::register(meters),
            http: http::Metrics::register(meters),
            ingest: ingest::Metrics::register(meters),
            processors: processors::Metrics::register(meters),
            sink: sink::Metrics::register(meters),
            query: query::Metrics::register(meters),
        }
    }
}

async fn open(config: &Config, metrics: &Metrics) -> Result<(Log, Store)> {
    let options = eventlog::Options {
        min_free_bytes: config.log.min_free_bytes,
        metrics: metrics.log.clone(),
        ..eventlog::Options::default()
    };
    // Both say themselves what cannot be opened, where, and what to do.
    let log = eventlog::open(&config.log.url, options).await?;
    let store = sink::store::open(&config.store, &config.retention).await?;
    log.ensure_topics(&topic_specs(config)).await.context("cannot make the topics")?;
    Ok((log, store))
}

/// Every topic that events travel through.
fn topic_specs(config: &Config) -> Vec<TopicSpec> {
    let configured = processors::configured(&config.processors);
    let of_processors = configured.iter().flat_map(|p| [p.from.as_str(), p.to.as_str()]);
    let mut names = vec![topics::RAW, topics::CLEAN, topics::DEAD_LETTERS];
    names.extend(of_processors);
    names.sort_unstable();
    names.dedup();
    let topics = &config.topics;
    let spec = |name: &str| TopicSpec {
        name: name.into(),
        partitions: topics.partitions,
        replication: topics.replication,
        retention: Retention::Delete { age: Some(topics.retention), bytes: topics.retention_bytes },
    };
    names.into_iter().map(spec).collect()
}

async fn registry(log: &Log, plan: &Plan) -> Result<Registry> {
    let registry = Registry::open(log.clone()).await.context("cannot open the schema registry")?;
    for (kind, text) in &plan.schemas {
        let registered = registry.register(NAMESPACE, kind, text).await;
        registered.with_context(|| format!("cannot register the schema of `{kind}`"))?;
    }
    Ok(registry)
}

/// What the parts are made from.
struct Wiring<'a> {
    config: &'a Config,
    metrics: Metrics,
    health: Health,
    log: Log,
    store: Store,
    registry: Registry,
}

impl Wiring<'_> {
    fn start(&self, plan: Plan, listener: TcpListener, stages: &mut Stages) {
        let unknown = match self.config.schemas.unknown {
            UnknownType::Accept => Unknown::Accept,
            UnknownType::Reject => Unknown::Reject,
        };
        let codec = Codec::new(self.registry.clone(), unknown);

        let (registry, token) = (self.registry.clone(), stages.background.token.clone());
        let follow = async move { registry.follow(token).await };
        stages.background.spawn("schema registry", never_fails(follow));
        let watch =
            watch(self.log.clone(), self.health.part("log"), stages.background.token.clone());
        stages.background.spawn("log", watch);

        self.start_sink(codec.clone(), plan.definitions, &mut stages.sink);
        for (config, chain) in plan.processors {
            let name = format!("processor {}", config.name);
            let runner = Runner {
                instance: format!("{}-0", config.name).into(),
                config,
                chain,
                log: self.log.clone(),
                codec: codec.clone(),
                metrics: self.metrics.processors.clone(),
                health: self.health.part(name.clone()),
                dead_letters: topics::DEAD_LETTERS.into(),
            };
            let run = runner.run(stages.processors.token.clone());
            stages.processors.spawn(&name, async move { Ok(run.await?) });
        }
        self.start_http(codec, listener, &mut stages.http);
    }

    fn start_sink(
        &self,
        codec: Codec,
        definitions: Vec<sink::store::Definition>,
        stage: &mut Stage,
    ) {
        let sink = Sink {
            log: self.log.clone(),
            store: self.store.clone(),
            codec,
            config: self.config.sink.clone(),
            definitions,
            metrics: self.metrics.sink.clone(),
            health: self.health.part("sink"),
            group: SINK_GROUP.into(),
        };
        let run = sink.run(stage.token.clone());
        stage.spawn("sink", async move { Ok(run.await?) });
    }

    fn start_http(&self, codec: Codec, listener: TcpListener, stage: &mut Stage) {
        let ingest = Ingest {
            config: self.config.ingest.clone(),
            log: self.log.clone(),
            codec,
            metrics: self.metrics.ingest.clone(),
            namespace: NAMESPACE.into(),
        };
        let query = Query::new(
            self.store.clone(),
            NAMESPACE.into(),
            self.config.topics.partitions,
            self.metrics.query.clone(),
        );
        let router = ingest::router(Arc::new(ingest)).merge(query::router(Arc::new(query)));
        let options = HttpOptions {
            // Whoever says `auth = "none"` is answered under any name.
            check_host: self.config.http.auth.is_none(),
            // The rest of the deadline is for those who work on what was let in.
            drain: self.config.shutdown.deadline * 3 / 4,
            metrics: self.metrics.http.clone(),
            ..HttpOptions::default()
        };
        let serve = http::serve(listener, router, options, stage.token.clone());
        stage.spawn("http listener", never_fails(serve));
    }
}

async fn never_fails(work: impl Future<Output = ()>) -> Result<()> {
    work.await;
    Ok(())
}

/// Tells readiness how the log is. A log that must be opened again ends the process, so that
/// whoever runs it starts it again.
async fn watch(log: Log, health: Part, shutdown: CancellationToken) -> Result<()> {
    let work = async {
        loop {
            match log.status() {
                Ok(()) => health.ready(),
                Err(LogError::Retry(why)) => health.failing(why),
                Err(error) => return Err(error),
            }
            sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        failed = work => Ok(failed?),
    }
}
