//! One service process of a cluster.

use std::{
    fs::OpenOptions,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::process::{Memory, named};

/// A service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `penstock-ingest`
    Ingest,
    /// `penstock-processor`
    Processor,
    /// `penstock-sink`
    Sink,
    /// `penstock-query`
    Query,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Processor => "processor",
            Self::Sink => "sink",
            Self::Query => "query",
        }
    }
}

/// The end of a process that nobody had asked for.
#[derive(Clone, Debug)]
pub struct Exit {
    /// Whose.
    pub name: String,
    /// How.
    pub status: ExitStatus,
    /// When it was noticed.
    pub at: Instant,
}

/// A process, or the place of one.
pub struct Member {
    pub name: String,
    pub role: Role,
    pub http: SocketAddr,
    pub admin: SocketAddr,
    /// Whether it has an instance name.
    instance: bool,
    config: PathBuf,
    log: PathBuf,
    child: Option<Child>,
    /// Whether it is to be started again when it ends.
    wanted: bool,
    /// When it may be started again.
    not_before: Instant,
}

impl Member {
    pub fn new(role: Role, number: u32, named: bool, config: &Path) -> Result<Self> {
        let name = format!("{}-{number}", role.name());
        Ok(Self {
            http: free_port()?,
            admin: free_port()?,
            log: config.with_file_name(format!("{name}.log")),
            config: config.to_owned(),
            instance: named && matches!(role, Role::Processor | Role::Sink),
            child: None,
            wanted: false,
            not_before: Instant::now(),
            name,
            role,
        })
    }

    pub fn start(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "it runs already");
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = guarded(named(&format!("penstock-{}", self.role.name())));
        command
            .arg("--config")
            .arg(&self.config)
            .env("PENSTOCK__HTTP__LISTEN", self.http.to_string())
            .env("PENSTOCK__ADMIN__LISTEN", self.admin.to_string())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        if self.instance {
            command.env("PENSTOCK__LOG__INSTANCE", &self.name);
        }
        self.child = Some(command.spawn()?);
        self.wanted = true;
        Ok(())
    }

    pub fn kill(&mut self) -> Result<()> {
        self.wanted = false;
        let mut child = self.child.take().context("it does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().context("it does not run")?;
        let pid = Pid::from_raw(i32::try_from(child.id())?).context("no pid")?;
        Ok(kill_process(pid, signal)?)
    }

    pub fn terminate(&mut self) -> Result<()> {
        self.wanted = false;
        self.signal(Signal::TERM)
    }

    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.as_mut().context("it does not run")?.try_wait()?;
        if status.is_some() {
            self.child = None;
        }
        Ok(status)
    }

    /// Starts it again if it has ended by itself, and says how it ended.
    pub fn revive(&mut self) -> Option<Exit> {
        if self.wanted && self.child.is_none() && Instant::now() >= self.not_before {
            // A failure is tried again the next time.
            let _ = self.start();
        }
        let status = self.child.as_mut().filter(|_| self.wanted)?.try_wait().ok()??;
        self.child = None;
        self.not_before = Instant::now() + Duration::from_millis(500);
        Some(Exit { name: self.name.clone(), status, at: Instant::now() })
    }

    pub fn memory(&self) -> Result<u64> {
        let pid = self.child.as_ref().context("it does not run")?.id();
        Ok(Memory::of(pid)?.resident)
    }

    pub fn tail(&self, lines: usize) -> String {
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        let all: Vec<_> = said.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

/// A command that ends when this process is gone, even by SIGKILL: nothing else would end it then,
/// and it would press on the backends for ever.
pub fn guarded(program: &Path) -> Command {
    const GUARD: &str = "me=$$; (while kill -0 \"$0\" 2>/dev/null; do \
        kill -0 $me 2>/dev/null || exit 0; sleep 2; done; kill -KILL $me) \
        </dev/null >/dev/null 2>&1 & exec \"$@\"";
    let mut command = Command::new("sh");
    command.arg("-c").arg(GUARD).arg(std::process::id().to_string()).arg(program);
    command
}

/// An address on loopback that nobody uses, below the ports that systems give to clients: a process
/// that is down must find its port free when it starts again.
pub fn free_port() -> Result<SocketAddr> {
    for _ in 0..500 {
        let address = SocketAddr::from(([127, 0, 0, 1], fastrand::u16(10_000..20_000)));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no free port between 10000 and 20000")
}
