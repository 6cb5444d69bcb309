//! Real Kafka and Cassandra through the scripts in `backends/`.
//!
//! A test that stops a backend starts its own, on free ports and in a folder of its own; others share
//! what `PENSTOCK_TEST_KAFKA` and `PENSTOCK_TEST_CQL` name. Dropping one stops it, and the scripts
//! stop it as well when this process is gone without having done so.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// The value of a variable that names a shared backend. Without it the test must return: it says
/// so, unless `CI` is set, where a missing backend is a failure.
pub fn shared(variable: &str) -> Option<String> {
    match std::env::var(variable) {
        Ok(address) if !address.is_empty() => Some(address),
        _ => {
            assert!(std::env::var_os("CI").is_none(), "{variable} must be set where CI is");
            eprintln!("skipped: {variable} is not set (see e2e/README.md)");
            None
        }
    }
}

/// Kafka brokers of this test alone.
pub struct Kafka {
    script: Script,
    /// `HOST:PORT,...`
    pub servers: String,
}

impl Kafka {
    /// Starts brokers with Kafka's default settings, except that groups form at once.
    pub fn start(brokers: u32) -> Result<Self> {
        Self::up(brokers, &["--fast"])
    }

    /// Starts brokers with Kafka's default settings.
    pub fn start_with_defaults(brokers: u32) -> Result<Self> {
        Self::up(brokers, &[])
    }

    fn up(brokers: u32, more: &[&str]) -> Result<Self> {
        let script = Script::new("kafka.sh")?;
        let (brokers, owner) = (brokers.to_string(), std::process::id().to_string());
        let arguments = ["up", "--brokers", &brokers, "--owner", &owner];
        let said = script.run(&[&arguments, more].concat())?;
        Ok(Self { servers: value(&said)?, script })
    }

    /// SIGKILL to one broker.
    pub fn kill(&self, broker: u32) -> Result<()> {
        self.script.run(&["stop", &broker.to_string(), "--kill"]).map(drop)
    }

    /// Starts one broker again.
    pub fn start_again(&self, broker: u32) -> Result<()> {
        self.script.run(&["start", &broker.to_string()]).map(drop)
    }

    /// SIGSTOP to one broker: its connections stay open and nothing answers on them.
    pub fn pause(&self, broker: u32) -> Result<()> {
        self.script.run(&["pause", &broker.to_string()]).map(drop)
    }

    /// SIGCONT to one broker, which does not know that time went by.
    pub fn resume(&self, broker: u32) -> Result<()> {
        self.script.run(&["resume", &broker.to_string()]).map(drop)
    }

    /// SIGKILL to all.
    pub fn kill_all(&self) -> Result<()> {
        self.script.run(&["stop", "--kill"]).map(drop)
    }

    /// Starts all again, and waits until their ports answer.
    pub fn start_all(&self) -> Result<()> {
        self.script.run(&["start"]).map(drop)
    }
}

/// A Cassandra node of this test alone.
pub struct Cassandra {
    script: Script,
    /// `HOST:PORT`
    pub cql: String,
}

impl Cassandra {
    /// Starts a node.
    pub fn start() -> Result<Self> {
        let script = Script::new("cassandra.sh")?;
        let said = script.run(&["up", "--owner", &std::process::id().to_string()])?;
        Ok(Self { cql: value(&said)?, script })
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&self) -> Result<()> {
        self.script.run(&["stop"]).map(drop)
    }

    /// Starts it again, and waits until it answers.
    pub fn start_again(&self) -> Result<()> {
        self.script.run(&["start"]).map(drop)
    }
}

/// One of the scripts, with a state folder; both go when it is dropped.
struct Script {
    name: &'static str,
    dir: TempDir,
}

impl Script {
    fn new(name: &'static str) -> Result<Self> {
        Ok(Self { name, dir: tempfile::Builder::new().prefix("penstock-backend-").tempdir()? })
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        // The scripts wait for processes; elsewhere tasks of the test must go on meanwhile.
        let output = tokio::task::block_in_place(|| {
            Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("backends").join(self.name))
                .args(arguments)
                .arg("--dir")
                .arg(self.dir.path().join("state"))
                .stdin(Stdio::null())
                .output()
        })
        .with_context(|| format!("cannot run {}", self.name))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{} {arguments:?}: {said}", self.name);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        if let Err(error) = self.run(&["down", "--clean"]) {
            eprintln!("{error:#}");
        }
    }
}

/// What stands after the `=` of the script's last line.
fn value(said: &str) -> Result<String> {
    let line = said.lines().next_back().context("the script named no address")?;
    Ok(line.split_once('=').with_context(|| format!("no address in `{line}`"))?.1.to_owned())
}
