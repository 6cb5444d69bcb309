//! The load: events of 300 bytes with unique ids, in batches, from clients that keep their
//! connections and have one request under way each.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, ensure};
use clap::Args;
use schemas::Timestamp;
use tokio::task::JoinSet;

/// How an event looks on the wire: 300 bytes, of which the digits change.
pub const EVENT_BYTES: usize = 300;
/// The type of every event.
pub const TYPE: &str = "bench.order";
/// A schema that fits its data.
pub const SCHEMA: &str = r#"{"type":"record","name":"Order","fields":[
    {"name":"country","type":"string"},{"name":"amount","type":"double"},
    {"name":"items","type":"int"},{"name":"note","type":"string"}]}"#;
/// Digits of an id.
pub const ID_DIGITS: usize = 12;

/// How events are sent, whatever is measured.
#[derive(Args, Clone, Copy, Debug)]
pub struct Shape {
    /// Events of a request.
    #[arg(long, default_value_t = 500)]
    pub batch: usize,
    /// Clients, each with one request under way.
    #[arg(long, default_value_t = 8)]
    pub clients: usize,
}

impl Shape {
    /// So many events or a few more, in whole batches: clients send no others.
    pub fn whole(self, events: f64) -> u64 {
        (events as u64).next_multiple_of(self.batch as u64)
    }

    /// A load of `events`, numbered from `first`, as fast as answers come.
    pub fn plan(self, http: SocketAddr, events: u64, first: u64) -> Plan {
        let url = format!("http://{http}/v1/events");
        Plan { url, shape: self, events, first, rate: None, time: now() }
    }
}

/// The time now, RFC 3339.
pub fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(since.as_micros() as i64).text
}

/// Writes a number with leading zeros.
pub fn digits(mut number: u64, to: &mut [u8]) {
    for digit in to.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// One batch of events as an NDJSON body: built once, numbered anew for each request.
pub struct Body {
    bytes: Vec<u8>,
    ids: Vec<usize>,
    groups: Vec<usize>,
}

impl Body {
    /// A body of `events` events of one type, dated `time`.
    pub fn new(events: usize, time: &str) -> Self {
        let (mut bytes, mut ids, mut groups) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..events {
            let start = bytes.len();
            let head = br#"{"specversion":"1.0","id":""#;
            bytes.extend_from_slice(head);
            ids.push(bytes.len());
            bytes.extend_from_slice(&[b'0'; ID_DIGITS]);
            let middle = format!(
                r#"","source":"/bench/load","type":"{TYPE}","time":"{time}","data":{{"country":"c"#
            );
            bytes.extend_from_slice(middle.as_bytes());
            groups.push(bytes.len());
            bytes.extend_from_slice(br#"00","amount":12.75,"items":3,"note":""#);
            let tail = b"\"}}\n";
            let filler = (start + EVENT_BYTES).saturating_sub(bytes.len() + tail.len());
            bytes.extend(std::iter::repeat_n(b'x', filler));
            bytes.extend_from_slice(tail);
        }
        Self { bytes, ids, groups }
    }

    /// The body with ids from `first` on.
    pub fn numbered(&mut self, first: u64) -> bytes::Bytes {
        for (n, (&id, &group)) in (first..).zip(self.ids.iter().zip(&self.groups)) {
            digits(n, &mut self.bytes[id..id + ID_DIGITS]);
            digits(group_of(n), &mut self.bytes[group..group + 2]);
        }
        bytes::Bytes::copy_from_slice(&self.bytes)
    }

    fn len(&self) -> usize {
        self.ids.len()
    }
}

/// What an event is grouped by: one of 20.
pub fn group_of(number: u64) -> u64 {
    number % 20
}

/// What a load is.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where to POST.
    pub url: String,
    /// How it is sent.
    pub shape: Shape,
    /// Events in all.
    pub events: u64,
    /// Events per second at most; without it as fast as answers come.
    pub rate: Option<f64>,
    /// The first id.
    pub first: u64,
    /// Date of the events, RFC 3339.
    pub time: String,
}

/// What a load measured.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Time from sending a request to its 202, sorted.
    pub acknowledgements: Vec<Duration>,
}

/// Runs a load; any answer but 202 is an error.
pub async fn run(plan: &Plan) -> Result<Report> {
    let batch = plan.shape.batch as u64;
    ensure!(plan.events.is_multiple_of(batch), "{} is no multiple of {batch}", plan.events);
    let next = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..plan.shape.clients {
        let (plan, next) = (plan.clone(), next.clone());
        clients.spawn(async move {
            let client = reqwest::Client::builder().tcp_nodelay(true).build()?;
            let mut body = Body::new(plan.shape.batch, &plan.time);
            let mut times = Vec::new();
            loop {
                let first = next.fetch_add(body.len() as u64, Ordering::Relaxed);
                if first >= plan.events {
                    return anyhow::Ok(times);
                }
                if let Some(rate) = plan.rate {
                    let due = start + Duration::from_secs_f64(first as f64 / rate);
                    tokio::time::sleep_until(due.into()).await;
                }
                let bytes = body.numbered(plan.first + first);
                let sent = Instant::now();
                let answer = client
                    .post(&plan.url)
                    .header("content-type", "application/x-ndjson")
                    .body(bytes)
                    .send()
                    .await?;
                let status = answer.status();
                let text = answer.text().await?;
                ensure!(status == 202, "{status}: {text}");
                times.push(sent.elapsed());
            }
        });
    }
    let mut report = Report::default();
    while let Some(times) = clients.join_next().await {
        report.acknowledgements.extend(times??);
    }
    report.elapsed = start.elapsed();
    report.acknowledgements.sort_unstable();
    Ok(report)
}

/// Prints the median and the 99th percentile of a sorted list.
pub fn print_quantiles(what: &str, sorted: &[Duration]) {
    let (p50, p99) = (quantile(sorted, 0.5), quantile(sorted, 0.99));
    println!("  {what}, p50 / p99: {p50:.1?} / {p99:.1?} ({} times)", sorted.len());
}

/// The quantile of a sorted list.
pub fn quantile(sorted: &[Duration], q: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * q).round() as usize).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_the_stated_size_and_its_own_id() {
        let body = Body::new(3, "2026-01-01T00:00:00Z").numbered(41);
        let lines: Vec<_> = body.split(|b| *b == b'\n').filter(|l| !l.is_empty()).collect();
        assert!(lines.iter().all(|l| l.len() + 1 == EVENT_BYTES));
        let ids: Vec<_> = lines
            .iter()
            .map(|l| serde_json::from_slice::<serde_json::Value>(l).unwrap()["id"].clone())
            .collect();
        assert_eq!(ids, ["000000000041", "000000000042", "000000000043"]);
    }
}
