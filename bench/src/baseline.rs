//! The bare loop: the same bytes appended to the embedded log by as many tasks, with nothing
//! around it.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use bytes::Bytes;
use eventlog::{Options, Record, Retention, TopicSpec};
use tokio::task::JoinSet;

use crate::{load::EVENT_BYTES, measure};

/// What the loop measured.
pub struct Bare {
    /// Events per second.
    pub rate: f64,
    /// CPU seconds of the whole process for a million events.
    pub cpu_per_million: f64,
}

/// Appends `events` records of [`EVENT_BYTES`] bytes in batches.
pub async fn append(dir: &Path, events: u64, batch: usize, tasks: usize) -> Result<Bare> {
    let log = eventlog::open(&format!("file:{}", dir.display()), Options::default()).await?;
    let spec = TopicSpec {
        name: "bare".into(),
        partitions: 4,
        replication: None,
        retention: Retention::Delete { age: None, bytes: None },
    };
    log.ensure_topics(&[spec]).await?;
    let next = Arc::new(AtomicU64::new(0));
    let value = Bytes::from(vec![b'x'; EVENT_BYTES - 12]);
    let cpu_before = measure::cpu(std::process::id())?;
    let start = Instant::now();
    let mut set = JoinSet::new();
    for _ in 0..tasks {
        let (log, next, value) = (log.clone(), next.clone(), value.clone());
        set.spawn(async move {
            loop {
                let first = next.fetch_add(batch as u64, Ordering::Relaxed);
                if first >= events {
                    return anyhow::Ok(());
                }
                let record = |n: u64| Record {
                    key: Some(Bytes::from(format!("{n:012}"))),
                    value: Some(value.clone()),
                    ..Record::default()
                };
                let records = (first..first + batch as u64).map(record).collect();
                for result in log.append("bare", records).await {
                    ensure!(result.is_ok(), "{result:?}");
                }
            }
        });
    }
    while let Some(done) = set.join_next().await {
        done??;
    }
    let elapsed: Duration = start.elapsed();
    let cpu = measure::cpu(std::process::id())? - cpu_before;
    let millions = events as f64 / 1e6;
    Ok(Bare {
        rate: events as f64 / elapsed.as_secs_f64(),
        cpu_per_million: cpu.as_secs_f64() / millions,
    })
}
