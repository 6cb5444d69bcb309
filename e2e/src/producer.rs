//! A producer that does what a good client does: it retries a whole request until the answer
//! says that every event of it is durable.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use reqwest::StatusCode;
use tokio::task::JoinSet;

/// What became of the requests of a load.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Ids of events that some answer said were durable.
    pub acknowledged: BTreeSet<String>,
    /// Ids of all events that were ever sent.
    pub sent: BTreeSet<String>,
    /// Requests that were sent and got no answer although the connection had been made.
    pub cut_off: u64,
    /// Requests that were sent more than once.
    pub retried: u64,
    /// Answers by status.
    pub answers: BTreeMap<u16, u64>,
    /// Answers of 503 that did not say when to come again.
    pub without_retry_after: u64,
    /// The longest that an answer took.
    pub slowest: Duration,
}

/// How hard a load presses.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Clients at once.
    pub workers: usize,
    /// Events in a request at most.
    pub batch: usize,
    /// How long a client waits between its requests.
    pub pause: Duration,
}

/// About 700 events/s in small requests: enough that every partition always has work.
pub const STEADY: Pace = Pace { workers: 4, batch: 20, pause: Duration::from_millis(50) };

/// A steady load of uniquely numbered events of type `e2e.tick`.
pub struct Load {
    stop: Arc<AtomicBool>,
    workers: JoinSet<()>,
    outcome: Arc<Mutex<Outcome>>,
}

impl Load {
    /// Starts `workers` clients that post batches of 1 to `batch` events to `url`, each event
    /// with one of 7 groups in `data.group` and `data.n` = 1.
    pub fn start(url: String, name: &str, workers: usize, batch: usize, seed: u64) -> Self {
        Self::paced(url, name, Pace { workers, batch, pause: Duration::ZERO }, seed)
    }

    /// The same at a pace.
    pub fn paced(url: String, name: &str, pace: Pace, seed: u64) -> Self {
        let Pace { workers, batch, pause } = pace;
        let stop = Arc::new(AtomicBool::new(false));
        let outcome = Arc::new(Mutex::new(Outcome::default()));
        let next = Arc::new(AtomicU64::new(0));
        let mut set = JoinSet::new();
        for worker in 0..workers {
            let (stop, outcome, next) = (stop.clone(), outcome.clone(), next.clone());
            let (url, name) = (url.clone(), name.to_owned());
            let mut random = fastrand::Rng::with_seed(seed ^ worker as u64);
            set.spawn(async move {
                let client = reqwest::Client::new();
                while !stop.load(Ordering::Relaxed) {
                    let count = random.usize(1..=batch);
                    let first = next.fetch_add(count as u64, Ordering::Relaxed);
                    let ids: Vec<_> =
                        (first..first + count as u64).map(|n| format!("{name}-{n}")).collect();
                    let body = ndjson(&ids);
                    lock(&outcome).sent.extend(ids.iter().cloned());
                    deliver(&client, &url, body, &ids, &outcome, &stop).await;
                    if !pause.is_zero() {
                        tokio::time::sleep(pause).await;
                    }
                }
            });
        }
        Self { stop, workers: set, outcome }
    }

    /// What became of the requests so far.
    pub fn so_far(&self) -> Outcome {
        lock(&self.outcome).clone()
    }

    /// Stops sending; requests under way are finished (or given up when nobody answers).
    pub async fn stop(mut self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        while self.workers.join_next().await.is_some() {}
        self.so_far()
    }
}

fn lock(outcome: &Mutex<Outcome>) -> std::sync::MutexGuard<'_, Outcome> {
    outcome.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Sends one request until it is acknowledged, or until the load is stopped.
async fn deliver(
    client: &reqwest::Client,
    url: &str,
    body: String,
    ids: &[String],
    outcome: &Mutex<Outcome>,
    stop: &AtomicBool,
) {
    let mut tries = 0;
    loop {
        let asked = Instant::now();
        let answer = client
            .post(url)
            .header("content-type", "application/x-ndjson")
            .timeout(Duration::from_secs(20))
            .body(body.clone())
            .send()
            .await;
        match answer {
            Ok(answer) => {
                let mut outcome = lock(outcome);
                *outcome.answers.entry(answer.status().as_u16()).or_default() += 1;
                outcome.slowest = outcome.slowest.max(asked.elapsed());
                if answer.status() == StatusCode::ACCEPTED {
                    outcome.acknowledged.extend(ids.iter().cloned());
                    return;
                }
                let when = answer.headers().contains_key("retry-after");
                if answer.status() == StatusCode::SERVICE_UNAVAILABLE && !when {
                    outcome.without_retry_after += 1;
                }
            }
            Err(e) if e.is_connect() => {}
            Err(_) => lock(outcome).cut_off += 1,
        }
        if stop.load(Ordering::Relaxed) {
            return;
        }
        tries += 1;
        if tries == 1 {
            lock(outcome).retried += 1;
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// One structured event per line.
pub fn ndjson(ids: &[String]) -> String {
    let mut body = String::new();
    for id in ids {
        let number: u64 = id.rsplit('-').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        let event = serde_json::json!({
            "specversion": "1.0", "id": id, "source": "e2e", "type": "e2e.tick",
            "subject": format!("s{}", number % 101),
            // Times repeat, so that lists must be cut by identity and not by time alone.
            "time": format!("2026-01-01T00:{:02}:{:02}Z", number / 600 % 60, number / 10 % 60),
            "data": { "group": format!("g{}", number % 7), "n": 1 },
        });
        body.push_str(&event.to_string());
        body.push('\n');
    }
    body
}

/// Posts one body and gives status and JSON answer.
pub async fn post(
    url: &str,
    content_type: &str,
    body: impl Into<reqwest::Body>,
) -> Result<(u16, serde_json::Value)> {
    let answer = reqwest::Client::new()
        .post(url)
        .header("content-type", content_type)
        .timeout(Duration::from_secs(30))
        .body(body)
        .send()
        .await?;
    let status = answer.status().as_u16();
    let text = answer.text().await?;
    Ok((status, serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text))))
}
