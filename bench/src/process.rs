//! A child process that never outlives the bench.

use std::process::{Child, Command};

use anyhow::{Result, ensure};

/// A running child; dropping it kills it.
pub struct Process(Child);

impl Process {
    /// Takes over a child that was started.
    pub fn new(child: Child) -> Self {
        Self(child)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Whether it has ended by itself.
    pub fn ended(&mut self) -> Result<bool> {
        Ok(self.0.try_wait()?.is_some())
    }

    /// SIGTERM, and waits; an exit that is not 0 is an error.
    pub async fn stop(mut self) -> Result<()> {
        let pid = self.pid().to_string();
        ensure!(Command::new("kill").arg(&pid).status()?.success(), "cannot signal process {pid}");
        let status = tokio::task::spawn_blocking(move || self.0.wait()).await??;
        ensure!(status.success(), "process {pid} ended with {status}");
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended by itself
        let _ = self.0.wait();
    }
}
