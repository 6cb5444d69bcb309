//! The services as separate processes on one log and one store, with a load balancer in front:
//! what a small installation looks like.
//!
//! Every process has the same `penstock.toml`; ports and the optional instance name come from the
//! environment. A supervisor starts a process again that ends by itself, as an orchestrator would,
//! and remembers that it did; one that a test has killed stays down until the test starts it.

mod member;
mod proxy;

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tempfile::TempDir;

pub use self::member::{Exit, Role};
use self::{member::Member, proxy::Proxy};
use crate::{backends, reader::Pipeline};

/// How many partitions the topics of events have.
pub const PARTITIONS: u32 = 4;
/// How long a request may take in these tests until ingest answers 503.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Tests that start clusters go one at a time: two at once would measure each other.
pub async fn turn() -> tokio::sync::MutexGuard<'static, ()> {
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    TURN.lock().await
}

/// Where the shared Cassandra answers, if these tests can run here. If not they must return: what is
/// missing has been said, and where `CI` is set that is a failure.
pub fn possible() -> Option<String> {
    tools(&["haproxy", "kcat"]).then(|| backends::shared("PENSTOCK_TEST_CQL"))?
}

/// Whether clusters without a store can run here: a machine that has a Kafka for tests can start
/// another. If not, it is as with [`possible`].
pub fn possible_without_store() -> bool {
    tools(&["haproxy"]) && backends::shared("PENSTOCK_TEST_KAFKA").is_some()
}

fn tools(needed: &[&str]) -> bool {
    let missing = needed.iter().find(|tool| !installed(tool));
    if let Some(tool) = missing {
        assert!(std::env::var_os("CI").is_none(), "{tool} must be installed where CI is set");
        eprintln!("skipped: {tool} is not installed");
    }
    missing.is_none()
}

fn installed(tool: &str) -> bool {
    let asked = Command::new(tool).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
    asked.is_ok()
}

/// How many replicas start.
#[derive(Clone, Copy, Debug)]
pub struct Replicas {
    /// `penstock-ingest`
    pub ingest: u32,
    /// `penstock-processor`
    pub processors: u32,
    /// `penstock-sink`
    pub sinks: u32,
    /// `penstock-query`
    pub query: u32,
    /// Whether processors and sinks get an instance name each.
    pub named: bool,
}

impl Default for Replicas {
    fn default() -> Self {
        Self { ingest: 2, processors: 2, sinks: 2, query: 1, named: false }
    }
}

/// A running cluster. Dropping it kills every process.
pub struct Cluster {
    dir: Option<TempDir>,
    config: PathBuf,
    shared: Arc<Shared>,
    proxy: Proxy,
}

struct Shared {
    members: Mutex<Vec<Member>>,
    exits: Mutex<Vec<Exit>>,
    over: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cluster {
    /// Starts the services on these brokers and a keyspace of its own at `cql`, with `more`
    /// appended to the configuration, and waits until all are ready.
    pub async fn start(servers: &str, cql: &str, replicas: Replicas, more: &str) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("penstock-cluster-").tempdir()?;
        let config = dir.path().join("penstock.toml");
        let keyspace = keyspace();
        let text = format!(
            "[log]\nurl = \"kafka://{servers}\"\n\
             [store]\nurl = \"scylla://{cql}/{keyspace}\"\n\
             [topics]\npartitions = {PARTITIONS}\n\
             [ingest]\ntimeout = \"{}s\"\n{more}\n",
            DEADLINE.as_secs()
        );
        std::fs::write(&config, text)?;
        let mut members = Vec::new();
        let counts = [
            (Role::Ingest, replicas.ingest),
            (Role::Processor, replicas.processors),
            (Role::Sink, replicas.sinks),
            (Role::Query, replicas.query),
        ];
        for (role, count) in counts {
            for number in 1..=count {
                members.push(Member::new(role, number, replicas.named, &config)?);
            }
        }
        let of = |role| members.iter().filter(move |m: &&Member| m.role == role);
        let addresses = |role| of(role).map(|m| (m.http, m.admin)).collect::<Vec<_>>();
        let proxy = Proxy::start(dir.path(), &addresses(Role::Ingest), &addresses(Role::Query))?;
        for member in &mut members {
            member.start()?;
        }
        let shared = Arc::new(Shared {
            members: Mutex::new(members),
            exits: Mutex::new(Vec::new()),
            over: AtomicBool::new(false),
        });
        let watched = shared.clone();
        std::thread::spawn(move || supervise(&watched));
        let mut cluster = Self { dir: Some(dir), config, shared, proxy };
        if let Err(error) = cluster.serves().await {
            cluster.tell();
            return Err(error);
        }
        Ok(cluster)
    }

    async fn serves(&self) -> Result<()> {
        for name in self.names() {
            self.ready(&name, Duration::from_secs(60)).await?;
        }
        // The load balancer looks twice a second.
        self.answers(Duration::from_secs(20)).await
    }

    /// Waits until each side of the load balancer that has members has one who serves.
    async fn answers(&self, within: Duration) -> Result<()> {
        let begun = Instant::now();
        let client = reqwest::Client::new();
        loop {
            let post = client.post(self.url("/v1/events")).header("content-type", "text/nothing");
            let read = client.get(self.url("/v1/types"));
            let mut there = true;
            for (role, request) in [(Role::Ingest, post), (Role::Query, read)] {
                if !self.of(role).is_empty() {
                    there &= request.send().await.is_ok_and(|answer| answer.status() != 503);
                }
            }
            if there {
                return Ok(());
            }
            if begun.elapsed() > within {
                bail!("nobody answers behind the load balancer after {within:?}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn with<T>(&self, name: &str, act: impl FnOnce(&mut Member) -> Result<T>) -> Result<T> {
        let mut members = lock(&self.shared.members);
        let member = members.iter_mut().find(|m| m.name == name);
        act(member.with_context(|| format!("there is no {name}"))?).with_context(|| name.to_owned())
    }

    /// The names of all processes, such as `sink-2`.
    pub fn names(&self) -> Vec<String> {
        lock(&self.shared.members).iter().map(|m| m.name.clone()).collect()
    }

    /// The names of one service's processes.
    pub fn of(&self, role: Role) -> Vec<String> {
        lock(&self.shared.members)
            .iter()
            .filter(|m| m.role == role)
            .map(|m| m.name.clone())
            .collect()
    }

    /// Adds a replica, and answers its name. The load balancer does not know it.
    pub fn add(&self, role: Role, named: bool) -> Result<String> {
        let mut members = lock(&self.shared.members);
        let number = members.iter().filter(|m| m.role == role).count() as u32 + 1;
        let mut member = Member::new(role, number, named, &self.config)?;
        member.start()?;
        let name = member.name.clone();
        members.push(member);
        Ok(name)
    }

    /// Waits until `/readyz` of a process answers 200.
    pub async fn ready(&self, name: &str, within: Duration) -> Result<()> {
        let admin = self.admin(name)?;
        let begun = Instant::now();
        let mut last = String::from("no answer");
        while begun.elapsed() < within {
            match reqwest::get(format!("http://{admin}/readyz")).await {
                Ok(answer) if answer.status() == 200 => return Ok(()),
                Ok(answer) => last = answer.text().await.unwrap_or_default(),
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("{name} is not ready after {within:?}: {last}\n{}", self.tail(name, 30))
    }

    /// SIGKILL; it stays down until [`Cluster::start_again`].
    pub fn kill(&self, name: &str) -> Result<()> {
        self.with(name, Member::kill)
    }

    /// Starts a process that was killed or terminated.
    pub fn start_again(&self, name: &str) -> Result<()> {
        self.with(name, Member::start)
    }

    /// SIGSTOP.
    pub fn pause(&self, name: &str) -> Result<()> {
        self.with(name, |m| m.signal(Signal::STOP))
    }

    /// SIGCONT.
    pub fn resume(&self, name: &str) -> Result<()> {
        self.with(name, |m| m.signal(Signal::CONT))
    }

    /// SIGTERM, and waits for exit 0.
    pub async fn stop(&self, name: &str) -> Result<()> {
        self.with(name, Member::terminate)?;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(30) {
            if let Some(status) = self.with(name, Member::ended)? {
                if status.success() {
                    return Ok(());
                }
                bail!("{name} ended with {status}\n{}", self.tail(name, 30));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("{name} still runs 30 s after SIGTERM\n{}", self.tail(name, 30))
    }

    /// The ends of processes that nobody had asked for.
    pub fn exits(&self) -> Vec<Exit> {
        lock(&self.shared.exits).clone()
    }

    /// Where a process answers operators.
    pub fn admin(&self, name: &str) -> Result<SocketAddr> {
        self.with(name, |m| Ok(m.admin))
    }

    /// Where a process answers HTTP, past the load balancer.
    pub fn http(&self, name: &str) -> Result<SocketAddr> {
        self.with(name, |m| Ok(m.http))
    }

    /// Resident memory of a process, in bytes.
    pub fn memory(&self, name: &str) -> Result<u64> {
        self.with(name, |m| m.memory())
    }

    /// The sum of a metric over all processes of a service, for the lines that hold `label`.
    pub async fn metric(&self, role: Role, metric: &str, label: &str) -> Result<u64> {
        let mut sum = 0.0;
        for name in self.of(role) {
            let url = format!("http://{}/metrics", self.admin(&name)?);
            let text = reqwest::get(url).await?.text().await?;
            let lines =
                text.lines().filter(|line| line.starts_with(metric) && line.contains(label));
            sum += lines.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>();
        }
        Ok(sum as u64)
    }

    /// The last lines that a process has printed.
    pub fn tail(&self, name: &str, lines: usize) -> String {
        self.with(name, |m| Ok(m.tail(lines))).unwrap_or_default()
    }
}

impl Pipeline for Cluster {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.proxy.address)
    }
}

impl Cluster {
    /// Prints what its processes said last, and keeps the rest.
    fn tell(&mut self) {
        for member in lock(&self.shared.members).iter() {
            eprintln!("-- the last that {} said:\n{}", member.name, member.tail(12));
        }
        if let Some(dir) = self.dir.take() {
            eprintln!("-- all they said is in {}", dir.keep().display());
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        for member in lock(&self.shared.members).iter_mut() {
            let _ = member.kill(); // it may have ended by itself
        }
        if std::thread::panicking() {
            self.tell();
        }
    }
}

/// Starts again what ends by itself.
fn supervise(shared: &Shared) {
    while !shared.over.load(Ordering::Relaxed) {
        for member in lock(&shared.members).iter_mut() {
            if let Some(exit) = member.revive() {
                eprintln!("{} ended by itself: {}\n{}", exit.name, exit.status, member.tail(4));
                lock(&shared.exits).push(exit);
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A name that no other run has used.
fn keyspace() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("e2e_{:x}_{:x}_{number}", std::process::id(), fastrand::u32(..))
}
