//! What the kernel says of a process and of the machine.

use std::{fs, time::Duration};

use anyhow::{Context, Result};

/// Ticks per second of `/proc/*/stat`; 100 on every Linux that matters (USER_HZ).
const TICKS: f64 = 100.0;

/// User and system time of a process so far.
pub fn cpu(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The command may hold spaces; fields are counted from behind its closing parenthesis.
    let (_, fields) = stat.rsplit_once(')').context("no command in stat")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |n: usize| fields.get(n).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    Ok(Duration::from_secs_f64((ticks(11) + ticks(12)) / TICKS))
}

/// Resident memory of a process, and its highest so far, in MiB.
pub fn memory(pid: u32) -> Result<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = |name: &str| {
        status
            .lines()
            .find_map(|l| l.strip_prefix(name))
            .and_then(|l| l.trim().split(' ').next()?.parse::<u64>().ok())
            .unwrap_or(0)
    };
    Ok((kib("VmRSS:") / 1024, kib("VmHWM:") / 1024))
}

/// Stolen and total time of the machine so far, in ticks.
pub fn steal() -> Result<(f64, f64)> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("empty /proc/stat")?;
    let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|f| f.parse().ok()).collect();
    Ok((ticks.get(7).copied().unwrap_or(0.0), ticks.iter().take(8).sum()))
}

/// The share of time stolen between two readings, in percent.
pub fn stolen(before: (f64, f64), after: (f64, f64)) -> f64 {
    100.0 * (after.0 - before.0) / (after.1 - before.1).max(1.0)
}
