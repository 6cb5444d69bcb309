//! The bare loop: the same bytes appended to the embedded log by as many tasks, with nothing
//! around it.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Result, ensure};
use bytes::Bytes;
use eventlog::{Options, Record, Retention, TopicSpec};
use tokio::task::JoinSet;

use crate::{
    load::{EVENT_BYTES, ID_DIGITS, Shape},
    measure::{Cost, Meter},
};

/// More events do not make the loop's rate any truer.
const ENOUGH: u64 = 2_000_000;

/// Appends records of [`EVENT_BYTES`] bytes in batches, at most [`ENOUGH`]; how many, and their cost.
pub async fn append(dir: &Path, events: u64, shape: Shape) -> Result<(u64, Cost)> {
    let events = events.min(ENOUGH);
    let batch = shape.batch as u64;
    let log = eventlog::open(&format!("file:{}", dir.display()), Options::default()).await?;
    let spec = TopicSpec {
        name: "bare".into(),
        partitions: 4,
        replication: None,
        retention: Retention::Delete { age: None, bytes: None },
    };
    log.ensure_topics(&[spec]).await?;
    let next = Arc::new(AtomicU64::new(0));
    let value = Bytes::from(vec![b'x'; EVENT_BYTES - ID_DIGITS]);
    let meter = Meter::start(&[("bare", std::process::id())])?;
    let mut set = JoinSet::new();
    for _ in 0..shape.clients {
        let (log, next, value) = (log.clone(), next.clone(), value.clone());
        set.spawn(async move {
            loop {
                let first = next.fetch_add(batch, Ordering::Relaxed);
                if first >= events {
                    return anyhow::Ok(());
                }
                let record = |n: u64| Record {
                    key: Some(Bytes::from(format!("{n:012}"))),
                    value: Some(value.clone()),
                    ..Record::default()
                };
                let records = (first..first + batch).map(record).collect();
                for result in log.append("bare", records).await {
                    ensure!(result.is_ok(), "{result:?}");
                }
            }
        });
    }
    while let Some(done) = set.join_next().await {
        done??;
    }
    Ok((events, meter.read()?))
}
