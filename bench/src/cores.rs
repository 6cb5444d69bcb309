//! Which process may use which cores.

use std::{
    process::{Command, Stdio},
    thread::available_parallelism,
};

use anyhow::{Context, Result, ensure};

/// One process has the last core to itself while this is there; afterwards all have all of them again.
pub struct Apart {
    pids: Vec<u32>,
    all: String,
}

impl Apart {
    /// The last core for `alone`; the others for `rest` and for this process, with whatever it starts from now on.
    pub fn new(alone: u32, rest: impl IntoIterator<Item = u32>) -> Result<Self> {
        let cores = available_parallelism()?.get();
        ensure!(cores > 1, "one core cannot be divided");
        let mut apart = Self { pids: Vec::new(), all: format!("0-{}", cores - 1) };
        let rest = [std::process::id()].into_iter().chain(rest);
        let to = [(alone, format!("{}", cores - 1))];
        for (pid, cores) in rest.map(|pid| (pid, format!("0-{}", cores - 2))).chain(to) {
            apart.pids.push(pid);
            pin(pid, &cores)?;
        }
        Ok(apart)
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        for pid in &self.pids {
            let _ = pin(*pid, &self.all); // it may have ended
        }
    }
}

/// All threads of a process, by `taskset` of util-linux.
fn pin(pid: u32, cores: &str) -> Result<()> {
    let pid = pid.to_string();
    let pinned = Command::new("taskset")
        .args(["--all-tasks", "--cpu-list", "--pid", cores, &pid])
        .stdout(Stdio::null())
        .status()
        .context("cannot run taskset")?;
    ensure!(pinned.success(), "cannot keep process {pid} on cores {cores}");
    Ok(())
}
