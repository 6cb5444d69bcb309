//! How long it takes from a POST until a reader sees the event in `GET /v1/events`.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use tokio::task::JoinSet;

use crate::load;

/// How often a probe is sent, whatever became of the one before.
const EVERY: Duration = Duration::from_millis(100);
/// How often a reader looks. Looking is a load of its own, and the slower the way the more of it, so it
/// is kept to a few hundred reads of partitions a second.
const LOOK_EVERY: Duration = Duration::from_millis(10);
const WITHIN: Duration = Duration::from_secs(30);

/// Sends probes for a while and answers how long each took, sorted.
pub async fn run(door: SocketAddr, reader: SocketAddr, time: Duration) -> Result<Vec<Duration>> {
    let client = reqwest::Client::builder().tcp_nodelay(true).build()?;
    let start = Instant::now();
    let mut probes = JoinSet::new();
    for number in 0..(time.as_millis() / EVERY.as_millis()) as u32 {
        tokio::time::sleep_until((start + EVERY * number).into()).await;
        probes.spawn(probe(client.clone(), door, reader, number));
    }
    let mut took = Vec::new();
    while let Some(probe) = probes.join_next().await {
        took.push(probe??);
    }
    took.sort_unstable();
    Ok(took)
}

async fn probe(
    client: reqwest::Client,
    door: SocketAddr,
    reader: SocketAddr,
    number: u32,
) -> Result<Duration> {
    let (id, time) = (format!("probe-{number}."), load::now());
    let event = serde_json::json!({
        "specversion": "1.0", "id": id, "source": "/bench/probe", "type": "bench.probe", "time": time,
        "data": { "amount": 1, "items": 1, "country": "p", "note": "" },
    });
    let start = Instant::now();
    let answer = client
        .post(format!("http://{door}/v1/events"))
        .header("content-type", "application/cloudevents+json")
        .body(event.to_string())
        .send()
        .await?;
    let status = answer.status();
    ensure!(status == 202, "the door: {status}: {}", answer.text().await?);
    // Newest first: this one and those sent since, of which there are more than a few in a stall.
    let url = format!("http://{reader}/v1/events?type=bench.probe&from={time}&limit=1000");
    loop {
        let answer = client.get(&url).send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status == 200, "the reader: {status}: {text}");
        if text.contains(&id) {
            return Ok(start.elapsed());
        }
        ensure!(start.elapsed() < WITHIN, "probe {number} was not visible within {WITHIN:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
