//! Metrics of the process itself, read from `/proc` when they are asked for.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge, info::Info},
    registry::Registry,
};

/// Linux counts CPU time in this unit on every architecture, whatever its clock.
const TICKS_PER_SECOND: f64 = 100.0;

/// A registry with what every process tells: `process_*`, and `penstock_build_info` with the name of
/// the binary and its version.
pub fn meters(binary: &'static str) -> Registry {
    let mut registry = Registry::default();
    let build = Info::new([("binary", binary), ("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("penstock_build", "What runs here", build);
    register(&mut registry);
    registry
}

/// Adds `process_*` to a registry. Where there is no `/proc`, nothing is reported.
pub fn register(registry: &mut Registry) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    registry.register_collector(Box::new(Process { started: now.as_secs_f64() }));
}

#[derive(Debug)]
struct Process {
    /// Seconds since the Unix epoch when the process registered its metrics.
    started: f64,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let mut gauge = |name: &str, help: &str, value: Option<f64>| {
            let Some(value) = value else { return Ok(()) };
            let metric = ConstGauge::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        gauge("process_start_time_seconds", "When the process started", Some(self.started))?;
        gauge("process_resident_memory_bytes", "Resident memory", resident_bytes())?;
        gauge("process_open_fds", "Open file descriptors", open_fds())?;
        if let Some(seconds) = cpu_seconds() {
            let metric = ConstCounter::new(seconds);
            let help = "User and system CPU time";
            metric.encode(encoder.encode_descriptor(
                "process_cpu_seconds",
                help,
                None,
                metric.metric_type(),
            )?)?;
        }
        Ok(())
    }
}

fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}

fn open_fds() -> Option<f64> {
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count() as f64)
}

fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The command's name may hold spaces and brackets; the fields after it do not.
    let fields = stat.rsplit_once(')')?.1;
    let ticks: Vec<f64> =
        fields.split_whitespace().skip(11).take(2).filter_map(|f| f.parse().ok()).collect();
    (ticks.len() == 2).then(|| (ticks[0] + ticks[1]) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_tells_which_binary_it_is() {
        let mut text = String::new();
        let meters = meters("penstock-test");
        prometheus_client::encoding::text::encode(&mut text, &meters).unwrap();
        let line = text.lines().find(|line| line.starts_with("penstock_build_info{")).unwrap();
        assert!(
            line.contains("binary=\"penstock-test\"") && line.contains("version=\"0."),
            "{line}"
        );
    }

    #[test]
    fn the_process_tells_its_memory_time_and_files() {
        let mut registry = Registry::default();
        register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let value = |name: &str| {
            let line = text.lines().find(|l| l.starts_with(&format!("{name} "))).unwrap();
            line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1e6, "{text}");
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_cpu_seconds_total") >= 0.0);
        assert!(value("process_start_time_seconds") > 1.7e9);
    }
}
