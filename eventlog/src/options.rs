//! How a log is opened: by URL, with limits, a clock and metrics given from outside.

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

#[cfg(feature = "kafka")]
use crate::kafka;
use crate::{Log, LogError, Metrics, embedded};

/// Opens the log that a URL names: `file:PATH` (absolute or relative to the working directory) is
/// the embedded log, `kafka://host:port,host:port` a Kafka cluster. Needs a running tokio runtime.
pub async fn open(url: &str, options: Options) -> Result<Log, LogError> {
    match url.split_once(':') {
        Some(("file", path)) if !path.is_empty() => {
            // `file:///x` and `file:/x` mean the same; `file:x` stays relative.
            let path = path.strip_prefix("//").unwrap_or(path);
            embedded::open(PathBuf::from(path), options).await.map(Log::new)
        }
        Some(("file", _)) => {
            Err(LogError::Fatal("log url `file:` names no path; write file:PATH".into()))
        }
        Some(("kafka", _)) => kafka::open(url, options).await.map(Log::new),
        _ => Err(LogError::Fatal(format!(
            "log url `{url}` is not known; write file:PATH or kafka://HOST:PORT"
        ))),
    }
}

/// Says what is wrong with a URL, the instance and the properties, and asks nobody for it.
pub fn check(url: &str, options: &Options) -> Result<(), LogError> {
    match url.split_once(':') {
        Some(("kafka", _)) => kafka::check(url, options.clone()),
        _ => Ok(()),
    }
}

/// What stands in for Kafka in builds without it.
#[cfg(not(feature = "kafka"))]
mod kafka {
    use super::{LogError, Options};
    use crate::embedded::EmbeddedLog;

    pub async fn open(_: &str, _: Options) -> Result<EmbeddedLog, LogError> {
        Err(absent())
    }

    pub fn check(_: &str, _: Options) -> Result<(), LogError> {
        Err(absent())
    }

    fn absent() -> LogError {
        let why =
            "log url: this program was built without Kafka; build it with the feature `kafka`";
        LogError::Fatal(why.into())
    }
}

/// Limits of a log, and what it takes from outside.
#[derive(Clone)]
pub struct Options {
    /// Appends and transactions are refused while the file system has fewer bytes free. Default 64 MiB.
    pub min_free_bytes: u64,
    /// A larger record is refused for good. Default 8 MiB.
    pub max_record_bytes: usize,
    /// How many bytes of appends may wait for the disk before more are put off. Default 16 MiB.
    pub max_queued_bytes: usize,
    /// How long a revoked partition waits for the acknowledgement before it is fenced. Default 10 s.
    pub revoke_deadline: Duration,
    /// How long an append or commit waits for the disk before its outcome is called unknown.
    /// Default 30 s.
    pub commit_deadline: Duration,
    /// How much of what was appended last stays in memory for readers at the end. Default 16 MiB.
    pub tail_bytes: usize,
    /// How much the engine gathers in memory before it writes a table; fixed when the log is made.
    /// Default 12 MiB.
    pub memory_bytes: u64,
    /// Size of the batches that readers get, about, in bytes. Default 1 MiB.
    pub batch_bytes: usize,
    /// The most records in such a batch. Default 8,192.
    pub batch_records: usize,
    /// How often retention looks for what may go. Default 30 s.
    pub retention_period: Duration,
    /// Names this process among the members of its groups on Kafka (`group.instance.id`, KIP-345): one
    /// that starts again under its name takes its partitions up at once. No two may share it.
    pub instance: Option<Arc<str>>,
    /// Properties passed to librdkafka as they are, over what this crate sets. May hold secrets.
    pub properties: BTreeMap<String, String>,
    /// Where append times come from.
    pub clock: Clock,
    /// Where the log counts.
    pub metrics: Metrics,
}

impl Default for Options {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            min_free_bytes: 64 * MIB as u64,
            max_record_bytes: 8 * MIB,
            max_queued_bytes: 16 * MIB,
            revoke_deadline: Duration::from_secs(10),
            commit_deadline: Duration::from_secs(30),
            tail_bytes: 16 * MIB,
            memory_bytes: 12 * MIB as u64,
            batch_bytes: MIB,
            batch_records: 8192,
            retention_period: Duration::from_secs(30),
            instance: None,
            properties: BTreeMap::new(),
            clock: Clock::system(),
            metrics: Metrics::default(),
        }
    }
}

/// A source of time: microseconds since the Unix epoch.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> i64 + Send + Sync>);

impl Clock {
    /// The wall clock.
    pub fn system() -> Self {
        Self::new(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
        })
    }

    /// A clock of one's own, for tests.
    pub fn new(now: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time now.
    pub fn now(&self) -> i64 {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
