//! The real `penstock` binary as a child process.

use std::{
    collections::HashMap,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// What a process holds in memory, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Resident now.
    pub resident: u64,
    /// The most that ever was.
    pub peak: u64,
}

impl Memory {
    /// Of a running process, by proc_pid_status(5).
    pub fn of(pid: u32) -> Result<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            let kib = kib.with_context(|| format!("no {name} of process {pid}"))?;
            anyhow::Ok(kib * 1024)
        };
        Ok(Self { resident: bytes("VmRSS:")?, peak: bytes("VmHWM:")? })
    }
}

/// The `penstock` binary of this checkout.
pub fn binary() -> &'static Path {
    named("penstock")
}

/// A binary of this checkout, built if need be: `cargo test -p e2e` alone would otherwise test a
/// stale one.
pub fn named(name: &str) -> &'static Path {
    static BINARIES: OnceLock<HashMap<String, PathBuf>> = OnceLock::new();
    let binaries =
        BINARIES.get_or_init(|| build().unwrap_or_else(|e| panic!("cannot build: {e:#}")));
    binaries.get(name).unwrap_or_else(|| panic!("cargo built no {name}"))
}

/// Builds all at once, so that they share what they depend on.
fn build() -> Result<HashMap<String, PathBuf>> {
    let packages = ["penstock", "ingest", "processors", "sink"];
    let output = Command::new(env!("CARGO"))
        .args(["build", "--bins", "--message-format", "json"])
        .args(packages.iter().flat_map(|package| ["--package", package]))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "cargo build failed");
    let text = String::from_utf8(output.stdout)?;
    let messages = text.lines().filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok());
    let built = messages.filter_map(|message| {
        let path = PathBuf::from(message["executable"].as_str()?);
        Some((message["target"]["name"].as_str()?.to_owned(), path))
    });
    Ok(built.collect())
}

/// An address on loopback that was free a moment ago.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .unwrap_or_else(|e| panic!("no free port on loopback: {e}"))
}

/// A folder with a `penstock.toml`, and how to start a node there, again and again.
pub struct Site {
    /// Configuration, data and logs are in here.
    pub dir: tempfile::TempDir,
    /// Where it answers HTTP.
    pub http: SocketAddr,
    /// Where it answers operators.
    pub admin: SocketAddr,
    env: Vec<(String, String)>,
}

impl Site {
    /// A site with free ports, small disk reserves, and `more` appended to its configuration.
    pub fn new(more: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let (http, admin) = (free_address(), free_address());
        let config = format!(
            "[http]\nlisten = \"{http}\"\n[admin]\nlisten = \"{admin}\"\n\
             [log]\nurl = \"file:./data/log\"\n[store]\nurl = \"file:./data/store\"\n{more}\n"
        );
        std::fs::write(dir.path().join("penstock.toml"), config)?;
        Ok(Self { dir, http, admin, env: Vec::new() })
    }

    /// Status and body of `/readyz`; 0 while nobody listens.
    pub async fn readyz(&self) -> Result<(u16, String)> {
        match reqwest::get(format!("http://{}/readyz", self.admin)).await {
            Ok(answer) => Ok((answer.status().as_u16(), answer.text().await?)),
            Err(error) => Ok((0, error.to_string())),
        }
    }

    /// Sets a variable of the environment of every later start.
    pub fn env(&mut self, name: &str, value: impl Into<String>) {
        self.env.push((name.to_owned(), value.into()));
    }

    /// Takes a variable away again.
    pub fn unset(&mut self, name: &str) {
        self.env.retain(|(n, _)| n != name);
    }

    /// Where the data is.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// `http://host:port` and a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    /// A `penstock run` command for this site.
    pub fn command(&self) -> Command {
        let mut command = Command::new(binary());
        command
            .args(["run", "--config"])
            .arg(self.dir.path().join("penstock.toml"))
            .envs(self.env.iter().cloned())
            .stdin(Stdio::null());
        command
    }

    /// Starts the node and waits until `/readyz` says so. Its output goes to `node.log`.
    pub async fn start(&self) -> Result<Node> {
        let node = self.spawn()?;
        node.ready(Duration::from_secs(30)).await?;
        Ok(node)
    }

    /// Starts the node without waiting.
    pub fn spawn(&self) -> Result<Node> {
        self.spawn_command(self.command())
    }

    /// Starts this command as the node.
    pub fn spawn_command(&self, mut command: Command) -> Result<Node> {
        let path = self.dir.path().join("node.log");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&path)?;
        let child = command.stdout(log.try_clone()?).stderr(log).spawn()?;
        Ok(Node { child: Some(child), admin: self.admin, log: path })
    }
}

/// A running node. Dropping it kills the process.
pub struct Node {
    child: Option<Child>,
    admin: SocketAddr,
    log: PathBuf,
}

impl Node {
    /// Whether it has exited by itself and only waits to be asked how (proc_pid_stat(5), state Z).
    fn ended(&self) -> bool {
        let stat = self
            .pid()
            .ok()
            .and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok());
        stat.is_none_or(|stat| {
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
        })
    }

    /// Waits until `/readyz` answers 200.
    pub async fn ready(&self, within: Duration) -> Result<()> {
        let url = format!("http://{}/readyz", self.admin);
        let deadline = Instant::now() + within;
        loop {
            if reqwest::get(&url).await.is_ok_and(|answer| answer.status() == 200) {
                return Ok(());
            }
            if Instant::now() > deadline || self.ended() {
                bail!("not ready within {within:?}; it said:\n{}", self.said());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// All that this site's nodes have printed.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its process id.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.child.as_ref().context("already gone")?.id())
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(mut self) -> Result<()> {
        let mut child = self.child.take().context("already gone")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// SIGTERM.
    pub fn terminate(&self) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid()?)?).context("no pid")?;
        Ok(kill_process(pid, Signal::TERM)?)
    }

    /// Waits for the process to end by itself.
    pub async fn exited(mut self, within: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + within;
        let child = self.child.as_mut().context("already gone")?;
        while Instant::now() < deadline {
            if let Some(status) = child.try_wait()? {
                self.child = None;
                return Ok(status);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("still running after {within:?}; it said:\n{}", self.said())
    }

    /// SIGTERM, and insists on exit 0.
    pub async fn stop(self) -> Result<()> {
        self.terminate()?;
        let status = self.exited(Duration::from_secs(30)).await?;
        ensure!(status.success(), "exit status {status}");
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill(); // it may have ended by itself
            let _ = child.wait();
        }
    }
}
