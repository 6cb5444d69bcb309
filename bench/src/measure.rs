//! What the kernel says of processes and of the machine.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

/// Ticks per second of `/proc/*/stat`; 100 on every Linux that matters (USER_HZ).
const TICKS: f64 = 100.0;

/// A process whose CPU is accounted for, by the name it is reported under.
pub type Watched = (&'static str, u32);

/// What a stretch of time has cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    /// How long it was.
    pub elapsed: Duration,
    /// CPU seconds of each process that was watched.
    pub cpu: Vec<(&'static str, f64)>,
    /// The share of the machine's time that its host took, in percent.
    pub steal: f64,
    /// The share of the machine's time that processes took that were not watched, in percent.
    pub others: f64,
}

/// A stretch that lost more of the machine's time to its host, in percent, does not count.
pub const MOST_STEAL: f64 = 10.0;

impl Cost {
    /// Whether it can be compared with anything.
    pub fn counts(&self) -> bool {
        self.steal <= MOST_STEAL
    }

    /// What the machine was beside it, for the end of a line.
    pub fn beside(&self) -> String {
        let verdict = if self.counts() { "" } else { "; discarded" };
        format!("steal {:.1}%, others {:.1}%{verdict}", self.steal, self.others)
    }

    /// CPU seconds for each million of something, by process.
    pub fn per_million(&self, units: u64) -> String {
        let each = |(name, cpu): &(_, f64)| format!("{name} {:.2}", cpu * 1e6 / units as f64);
        self.cpu.iter().map(each).collect::<Vec<_>>().join(", ")
    }
}

/// Measures from its start on.
pub struct Meter {
    since: Instant,
    machine: Machine,
    watched: Vec<(Watched, Duration)>,
}

impl Meter {
    /// Starts to measure.
    pub fn start(watched: &[Watched]) -> Result<Self> {
        let watched = watched.iter().map(|w| Ok((*w, cpu(w.1)?))).collect::<Result<_>>()?;
        Ok(Self { since: Instant::now(), machine: Machine::now()?, watched })
    }

    /// What it has cost since then.
    pub fn read(&self) -> Result<Cost> {
        let elapsed = self.since.elapsed();
        let mut cpus = Vec::new();
        for ((name, pid), before) in &self.watched {
            cpus.push((*name, cpu(*pid)?.saturating_sub(*before).as_secs_f64()));
        }
        let (before, now) = (&self.machine, Machine::now()?);
        let total = (now.total - before.total).max(1.0);
        let watched: f64 = cpus.iter().map(|(_, cpu)| cpu * TICKS).sum();
        Ok(Cost {
            elapsed,
            cpu: cpus,
            steal: 100.0 * (now.steal - before.steal) / total,
            others: (100.0 * (now.busy - before.busy - watched) / total).max(0.0),
        })
    }
}

/// Time of the machine so far, in ticks.
struct Machine {
    total: f64,
    busy: f64,
    steal: f64,
}

impl Machine {
    fn now() -> Result<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        let line = stat.lines().next().context("empty /proc/stat")?;
        // user, nice, system, idle, iowait, irq, softirq, steal
        let ticks: Vec<f64> =
            line.split_whitespace().skip(1).take(8).filter_map(|f| f.parse().ok()).collect();
        let at = |n: usize| ticks.get(n).copied().unwrap_or(0.0);
        let total: f64 = ticks.iter().sum();
        Ok(Self { total, busy: total - at(3) - at(4) - at(7), steal: at(7) })
    }
}

/// User and system time of a process so far.
fn cpu(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The command may hold spaces; fields are counted from behind its closing parenthesis.
    let (_, fields) = stat.rsplit_once(')').context("no command in stat")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |n: usize| fields.get(n).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    Ok(Duration::from_secs_f64((ticks(11) + ticks(12)) / TICKS))
}

/// Bytes in whole MiB.
pub fn mib(bytes: u64) -> u64 {
    bytes / (1024 * 1024)
}

/// The process that listens where an address says, if it runs on this machine and may be looked at.
pub fn listener(address: &str) -> Option<u32> {
    let port: u16 = address.rsplit_once(':')?.1.parse().ok()?;
    let (port, listening) = (format!(":{port:04X}"), "0A");
    let tables =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|p| fs::read_to_string(p).unwrap_or_default());
    let sockets: Vec<String> = tables
        .iter()
        .flat_map(|table| table.lines())
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|f| f.len() > 9 && f[1].ends_with(&port) && f[3] == listening)
        .map(|f| format!("socket:[{}]", f[9]))
        .collect();
    let holds = |process: &Path| {
        fs::read_dir(process.join("fd")).into_iter().flatten().flatten().any(|fd| {
            fs::read_link(fd.path())
                .is_ok_and(|to| sockets.iter().any(|s| to.as_os_str() == s.as_str()))
        })
    };
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .find(|(_, path)| holds(path))
        .map(|(pid, _)| pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_listens_is_found_by_its_port() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap().to_string();
        assert_eq!(listener(&address), Some(std::process::id()));
        drop(socket);
        assert_eq!(listener(&address), None);
    }

    #[test]
    fn what_a_watched_process_takes_is_its_own_and_not_of_others() {
        let meter = Meter::start(&[("me", std::process::id())]).unwrap();
        while meter.since.elapsed() < Duration::from_millis(300) {}
        let cost = meter.read().unwrap();
        assert!(cost.cpu[0].1 > 0.02, "{cost:?}");
        assert!(cost.per_million(1_000_000).starts_with("me 0."), "{cost:?}");
    }
}
