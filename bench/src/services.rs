//! The real services, each a process of its own, from one configuration.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use e2e::process::Memory;

use crate::{
    measure::{Cost, Meter, Watched},
    process::Process,
};

const READY_WITHIN: Duration = Duration::from_secs(60);
/// A service that counts nothing for so long is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A folder with a `penstock.toml`.
pub struct Site(tempfile::TempDir);

impl Site {
    /// Writes a configuration; listeners are not part of it.
    pub fn new(config: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        fs::write(dir.path().join("penstock.toml"), config)?;
        Ok(Self(dir))
    }

    /// Starts a service, on free ports, and waits until it is ready.
    pub async fn start(&self, program: &'static str) -> Result<Service> {
        let binary = std::env::current_exe()?.with_file_name(program);
        ensure!(
            binary.is_file(),
            "there is no {}: build it first, as the README of this folder says",
            binary.display()
        );
        let (http, admin) = (free_address()?, free_address()?);
        let log = self.0.path().join(format!("{program}.log"));
        let out = File::create(&log)?;
        let child = Command::new(binary)
            .arg("--config")
            .arg(self.0.path().join("penstock.toml"))
            .env("PENSTOCK__HTTP__LISTEN", http.to_string())
            .env("PENSTOCK__ADMIN__LISTEN", admin.to_string())
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()?;
        let mut service = Service { name: program, process: Process::new(child), http, admin, log };
        service.ready().await?;
        Ok(service)
    }
}

/// A running service.
pub struct Service {
    name: &'static str,
    process: Process,
    /// Where it answers HTTP, if it does.
    pub http: SocketAddr,
    admin: SocketAddr,
    log: PathBuf,
}

impl Service {
    async fn ready(&mut self) -> Result<()> {
        let url = format!("http://{}/readyz", self.admin);
        let deadline = Instant::now() + READY_WITHIN;
        while !reqwest::get(&url).await.is_ok_and(|answer| answer.status() == 200) {
            if Instant::now() > deadline || self.process.ended()? {
                let said = fs::read_to_string(&self.log).unwrap_or_default();
                bail!("{} does not get ready; it said:\n{said}", self.name);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Itself, to be watched.
    pub fn watched(&self) -> Watched {
        (self.name, self.process.pid())
    }

    /// What it holds in memory.
    pub fn memory(&self) -> Result<Memory> {
        Memory::of(self.process.pid())
    }

    /// The sum of a counter's series that have a label, such as `outcome="stored"`.
    pub async fn count(&self, counter: &str, label: &str) -> Result<u64> {
        let url = format!("http://{}/metrics", self.admin);
        let text = reqwest::get(url).await?.text().await?;
        Ok(sum(&text, counter, label))
    }

    /// Waits until `done` is counted. What it cost is measured from the first look at which anything
    /// was, so that starting and joining a group are left out: how many were counted since, and
    /// their cost.
    pub async fn drain(
        &self,
        (counter, label): (&str, &str),
        done: u64,
        watched: &[Watched],
    ) -> Result<(u64, Cost)> {
        let mut last = (0, Instant::now());
        let mut first = None;
        loop {
            let count = self.count(counter, label).await?;
            if count > last.0 {
                last = (count, Instant::now());
            }
            ensure!(last.1.elapsed() < STUCK_AFTER, "{} stays at {count} of {done}", self.name);
            match &first {
                None if count > 0 => first = Some((count, Meter::start(watched)?)),
                Some((before, meter)) if count >= done => {
                    ensure!(count > *before, "{done} is too few to measure {}", self.name);
                    return Ok((count - before, meter.read()?));
                }
                _ => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    /// SIGTERM, and waits.
    pub async fn stop(self) -> Result<()> {
        let said = self.log;
        self.process.stop().await.with_context(|| {
            format!("{} said:\n{}", self.name, fs::read_to_string(said).unwrap_or_default())
        })
    }
}

fn sum(text: &str, counter: &str, label: &str) -> u64 {
    let series =
        text.lines().filter_map(|line| line.strip_prefix(counter)?.strip_prefix("_total{"));
    series
        .filter(|line| line.contains(label))
        .filter_map(|line| line.split_once("} ")?.1.split(' ').next()?.parse::<u64>().ok())
        .sum()
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_counter_is_the_sum_of_its_series_with_the_label() {
        let text = "# TYPE a counter\na_total{x=\"1\",o=\"s\"} 2\na_total{x=\"2\",o=\"s\"} 3\n\
                    a_total{x=\"1\",o=\"d\"} 9\nab_total{o=\"s\"} 9\n";
        assert_eq!(super::sum(text, "a", "o=\"s\""), 5);
    }
}
