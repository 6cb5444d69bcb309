//! Measures the embedded store: `cargo run --release -p sink --example store_speed -- [EVENTS] [RATE]`.
//!
//! Four partitions flush events of about 300 bytes with random ids, a subject each and 64 rollup
//! rows a flush: 5,000 at a time as fast as the store answers, or every 50 ms at a rate of events
//! a second. Then it reads back. Making the events is timed apart.

#![expect(clippy::unwrap_used, reason = "a measurement, not a service")]

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use schemas::{Data, Event, Timestamp};
use sink::store::{
    Aggregate, EventRow, EventsQuery, Flush, FoldMark, Identity, Order, Origin, RollupKey,
    RollupRow, Selector, StoreDriver, TopicEpoch, VersionId,
    embedded::{Embedded, EmbeddedOptions},
};

const PERIOD: Duration = Duration::from_millis(50);
const PARTITIONS: u32 = 4;
const START: i64 = 1_767_225_600_000_000;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let events: u64 = arguments.next().map_or(2_000_000, |text| text.parse().unwrap());
    let rate: Option<u64> = arguments.next().map(|text| text.parse().unwrap());
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("store");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(measure(events, rate, folder));
}

async fn measure(events: u64, rate: Option<u64>, folder: PathBuf) {
    let store = Arc::new(Embedded::open(&folder, EmbeddedOptions::default()).await.unwrap());
    let epoch = TopicEpoch { epoch: 1, started_at: START, incarnation: None };
    store.begin_epoch("events.clean", None, epoch).await.unwrap();
    let size = rate.map_or(5_000, |rate| rate / 20 / u64::from(PARTITIONS));
    let rounds = events / size / u64::from(PARTITIONS);
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let making = Arc::new(AtomicU64::new(0));
    let peak = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..PARTITIONS)
        .map(|partition| {
            let (store, making, peak) = (store.clone(), making.clone(), peak.clone());
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                for round in 0..rounds {
                    if rate.is_some() {
                        tokio::time::sleep_until((began + PERIOD * round as u32).into()).await;
                    }
                    let at = Instant::now();
                    let flush = Arc::new(flush(partition, round, size));
                    making.fetch_add(at.elapsed().as_nanos() as u64, Ordering::Relaxed);
                    let at = Instant::now();
                    store.write(flush).await.unwrap();
                    latencies.push(at.elapsed());
                    peak.fetch_max(resident_mib(), Ordering::Relaxed);
                }
                latencies
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.unwrap());
    }
    let (took, cpu) = (began.elapsed(), cpu_seconds() - cpu);
    let making = Duration::from_nanos(making.load(Ordering::Relaxed));
    let written = rounds * size * u64::from(PARTITIONS);
    let millions = written as f64 / 1e6;
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    println!(
        "write: {written} events, {:.0}/s, flush p50 {:?} p99 {:?} max {:?}, \
         cpu {:.2} s/M (making them {:.2}), resident {} MiB (peak {}), disk {} MiB",
        written as f64 / took.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(1.0),
        (cpu - making.as_secs_f64()) / millions,
        making.as_secs_f64() / millions,
        resident_mib(),
        peak.load(Ordering::Relaxed),
        disk_mib(&folder),
    );

    println!("cpu by thread: {}", threads());
    for (what, rounds) in [("new", rounds..rounds + 1), ("old", 0..1)] {
        let identities: Vec<Identity> = rounds
            .flat_map(|round| flush(0, round, size).events)
            .map(|row| row.identity())
            .collect();
        let at = Instant::now();
        let found = store.locate(&identities).await.unwrap();
        println!(
            "locate {what}: {:?} each, {} of {} found",
            at.elapsed() / identities.len() as u32,
            found.iter().flatten().count(),
            found.len()
        );
    }
    for (what, selector) in [
        ("type", Selector::Type("flight.departed".into())),
        ("subject", Selector::Subject("subject-77".into())),
    ] {
        let mut query = EventsQuery {
            namespace: "default".into(),
            selector,
            source: None,
            from: i64::MIN,
            to: i64::MAX,
            order: Order::Desc,
            after: None,
            limit: 1000,
        };
        let at = Instant::now();
        let (mut rows, mut pages) = (0, 0);
        while pages < 50 {
            let page = store.events(&query).await.unwrap();
            rows += page.rows.len();
            pages += 1;
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
        println!("list by {what}: {rows} rows in {pages} pages, {:?} a page", at.elapsed() / pages);
    }
    println!("resident {} MiB", resident_mib());
}

fn flush(partition: u32, round: u64, size: u64) -> Flush {
    let first = round * size;
    let events: Vec<_> = (first..first + size).map(|offset| event(partition, offset)).collect();
    let stored_to = first + size;
    Flush {
        topic: "events.clean".into(),
        epoch: 1,
        partition,
        rollups: (0..64).map(|group| rollup(partition, group, stored_to)).collect(),
        events,
        marks: vec![FoldMark { version: VersionId(1), from: 0, to: stored_to, complete: true }],
        stored_to,
    }
}

fn event(partition: u32, offset: u64) -> EventRow {
    let random = mix(u64::from(partition) << 48 | offset);
    let micros = START + offset as i64 * 40 + (random % 1_000_000) as i64;
    let kind = ["flight.departed", "flight.arrived", "bag.loaded"][(random % 3) as usize];
    EventRow {
        event: Event {
            namespace: "default".into(),
            id: format!("{:016x}{:016x}", random, mix(random)),
            source: "/airports/EWR".into(),
            kind: kind.into(),
            subject: Some(format!("subject-{}", random % 10_000)),
            time: Timestamp { micros, text: "2026-01-01T00:00:00.000000Z".into() },
            time_filled: false,
            data_content_type: Some("application/json".into()),
            data_schema: None,
            extensions: BTreeMap::new(),
            data: Data::Json(Bytes::from(format!(
                "{{\"carrier\":\"UA\",\"flight\":{},\"tail\":\"N{:06x}\",\"origin\":\"EWR\",\
                 \"dest\":\"IAH\",\"dep_delay\":{},\"arr_delay\":{},\"distance\":1400,\
                 \"air_time\":227,\"hash\":\"{:016x}\"}}",
                random % 5000,
                random & 0xff_ffff,
                random % 100,
                random % 77,
                mix(random + 1),
            ))),
        },
        appended_at: START + offset as i64,
        origin: Origin { epoch: 1, partition, offset },
    }
}

fn rollup(partition: u32, group: u64, stored_to: u64) -> RollupRow {
    RollupRow {
        key: RollupKey {
            namespace: "default".into(),
            rollup: "departures".into(),
            version: VersionId(1),
            window: 3_600_000_000,
            start: START + (stored_to / 1_000_000) as i64 * 3_600_000_000,
            group: format!("[\"carrier-{group}\"]"),
            epoch: 1,
            partition,
        },
        count: stored_to,
        measures: vec![Aggregate { count: stored_to, sum: 1.5, min: 0.0, max: 99.0 }],
        last_offset: stored_to - 1,
    }
}

/// A step of SplitMix64: the same number gives the same event.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}

/// CPU time by thread name, so that the engine's own work shows.
fn threads() -> String {
    let mut by_name = BTreeMap::<String, f64>::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let Ok(stat) = std::fs::read_to_string(task.path().join("stat")) else { continue };
        let (name, rest) = stat.rsplit_once(')').unwrap();
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        let name = name.split_once('(').unwrap().1.to_owned();
        *by_name.entry(name).or_default() += ticks / 100.0;
    }
    format!("{by_name:?}")
}

fn resident_mib() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    (statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096) >> 20
}

fn disk_mib(folder: &std::path::Path) -> u64 {
    fn blocks(path: &std::path::Path) -> u64 {
        use std::os::unix::fs::MetadataExt;
        let Ok(entries) = std::fs::read_dir(path) else { return 0 };
        entries
            .flatten()
            .map(|entry| match entry.metadata() {
                Ok(meta) if meta.is_dir() => blocks(&entry.path()),
                Ok(meta) => meta.blocks(),
                Err(_) => 0,
            })
            .sum()
    }
    (blocks(folder) * 512) >> 20
}
