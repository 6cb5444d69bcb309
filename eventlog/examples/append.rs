//! How fast a bare log takes records, and gives them back.
//!
//! ```sh
//! cargo run --release -p eventlog --example append -- [URL] [RECORDS] [RETAINED_BYTES] [NAME=VALUE]...
//! ```
//!
//! `NAME=VALUE` are properties for Kafka. One task appends a record at a time for a second. Eight tasks append 500 records of 300 bytes at a time to
//! four partitions, each append answered only when durable. Then a group reads all of it. Prints
//! rates, latencies and resident memory.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement for people")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use eventlog::{Delivery, Headers, Options, Record, Retention, TopicSpec};

const WRITERS: u64 = 8;
const BATCH: u64 = 500;
const BYTES: usize = 300;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut args = std::env::args().skip(1);
    let scratch = tempfile::tempdir().unwrap();
    let embedded = || format!("file:{}", scratch.path().join("log").display());
    let url = args.next().unwrap_or_else(embedded);
    let total: u64 = args.next().map_or(3_000_000, |n| n.parse().unwrap());
    let retained: Option<u64> = args.next().map(|n| n.parse().unwrap());
    let mut options = Options { retention_period: Duration::from_secs(2), ..Options::default() };
    for property in args {
        let (name, value) = property.split_once('=').unwrap();
        options.properties.insert(name.into(), value.into());
    }
    let metrics = options.metrics.clone();
    let log = eventlog::open(&url, options).await.unwrap();
    let topic: Arc<str> = format!("bench-{}", uuid::Uuid::new_v4().simple()).into();
    let retention = Retention::Delete { age: None, bytes: retained };
    let spec = TopicSpec { name: topic.clone(), partitions: 4, replication: None, retention };
    log.ensure_topics(&[spec]).await.unwrap();

    let (begun, mut latencies) = (Instant::now(), Vec::new());
    while begun.elapsed() < Duration::from_secs(1) {
        let asked = Instant::now();
        log.append(&topic, vec![record(0)]).await.remove(0).unwrap();
        latencies.push(asked.elapsed());
    }
    println!(
        "one by one: ack p50 {:.2?} p99 {:.2?}",
        at(&mut latencies, 0.5),
        at(&mut latencies, 0.99)
    );

    let begun = Instant::now();
    let next = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..WRITERS)
        .map(|_| {
            let (log, topic, next) = (log.clone(), topic.clone(), next.clone());
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                loop {
                    let from = next.fetch_add(BATCH, Ordering::Relaxed);
                    if from >= total {
                        return latencies;
                    }
                    let records = (from..from + BATCH).map(record).collect();
                    let asked = Instant::now();
                    for result in log.append(&topic, records).await {
                        result.unwrap();
                    }
                    latencies.push(asked.elapsed());
                }
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.unwrap());
    }
    let took = begun.elapsed();
    println!(
        "appended {total} records of {BYTES} B in {took:.2?}: {:.0} records/s, ack p50 {:.2?} p99 {:.2?}, {} syncs, {} MB resident",
        total as f64 / took.as_secs_f64(),
        at(&mut latencies, 0.5),
        at(&mut latencies, 0.99),
        metrics.syncs.get(),
        resident_mb()
    );

    let begun = Instant::now();
    let mut member = log.subscribe(&topic, &[&topic]).await.unwrap();
    let mut left = 0;
    for partition in 0..4 {
        let bounds = log.bounds(&topic, partition).await.unwrap();
        left += bounds.end - bounds.start; // no transactions here, so no holes
    }
    let (mut seen, mut bytes) = (0, 0);
    while seen < left {
        match tokio::time::timeout(Duration::from_secs(10), member.next()).await.unwrap().unwrap() {
            Delivery::Batch(batch) => {
                seen += batch.records.len() as u64;
                bytes += batch.records.iter().map(|s| s.record.size()).sum::<usize>();
            }
            Delivery::Assigned(assigned) => assigned.resume(),
            Delivery::Gap(gap) => left -= gap.to - gap.from,
            other => panic!("{other:?}"),
        }
    }
    let took = begun.elapsed();
    println!(
        "read {seen} records ({} MB) in {took:.2?}: {:.0} records/s, {} MB resident",
        bytes / 1_000_000,
        seen as f64 / took.as_secs_f64(),
        resident_mb()
    );
}

fn at(latencies: &mut [Duration], share: f64) -> Duration {
    latencies.sort();
    latencies[((latencies.len() - 1) as f64 * share) as usize]
}

fn record(i: u64) -> Record {
    let key = format!("subject-{}", i % 10_000);
    let mut headers = Headers::builder();
    headers.push("ce_id", i.to_string()).push("ce_source", "/bench");
    let headers = headers.build();
    // As compressible as hexadecimal digits.
    let mut value = String::new();
    while value.len() < BYTES - key.len() - headers.as_bytes().len() {
        value.push_str(&format!(
            "{:x}",
            (i + value.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ));
    }
    Record { key: Some(key.into()), value: Some(value.into()), headers }
}

fn resident_mb() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = pages.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    pages * 4096 / 1_000_000
}
