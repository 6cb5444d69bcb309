//! Reads everything back over HTTP and says what is wrong with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{process::Site, producer::Outcome};

/// Where a pipeline answers.
pub trait Pipeline {
    /// `http://host:port` and a path.
    fn url(&self, path: &str) -> String;
}

impl Pipeline for Site {
    fn url(&self, path: &str) -> String {
        Site::url(self, path)
    }
}

/// The rollup that [`check`] compares with the list.
pub const TICKS: &str = r#"
[[rollups]]
name = "ticks"
type = "e2e.tick"
windows = ["1h"]
group_by = { group = "data.group" }
measures = { n = { field = "data.n", of = ["sum"] } }
"#;

/// How long a query may answer 503, such as while a broker that it asks for the end is replaced.
const UNAVAILABLE: Duration = Duration::from_secs(20);

/// GETs JSON, insisting on 200; asks again for a while when the answer is 503, as that says.
pub async fn get(url: &str) -> Result<Value> {
    let until = Instant::now() + UNAVAILABLE;
    loop {
        let asked = reqwest::Client::new().get(url).timeout(Duration::from_secs(30));
        let answer = asked.send().await?;
        let status = answer.status();
        if status == 503 && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(500)).await;
            continue;
        }
        let text = answer.text().await?;
        ensure!(status == 200, "GET {url} answered {status}: {text}");
        return serde_json::from_str(&text).with_context(|| format!("GET {url} answered no JSON"));
    }
}

/// All events of a type, by following cursors to the end.
pub async fn all_events(site: &impl Pipeline, selector: &str) -> Result<Vec<Value>> {
    let mut events = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = get(&site.url(&format!("/v1/events?{selector}&limit=1000{cursor}"))).await?;
        events.extend(page["events"].as_array().context("no events member")?.iter().cloned());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(events),
        }
    }
}

/// All rows of a rollup, by following cursors to the end.
pub async fn all_rows(site: &impl Pipeline, path: &str) -> Result<Vec<Value>> {
    let mut rows = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = get(&site.url(&format!("{path}{cursor}"))).await?;
        rows.extend(page["rows"].as_array().context("no rows member")?.iter().cloned());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(rows),
        }
    }
}

/// Waits until all that was acknowledged is visible, then insists that nothing is missing,
/// nothing is there twice, nothing was invented, and the rollup says the same as the list.
pub async fn check(site: &impl Pipeline, outcome: &Outcome, within: Duration) -> Result<()> {
    let deadline = Instant::now() + within;
    let (listed, counted) = loop {
        let counts = tick_counts(site).await?;
        let counted: u64 = counts.values().map(|(count, _)| count).sum();
        // A list of everything costs much more than its counts: only when they may agree.
        if counted < outcome.acknowledged.len() as u64 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        }
        let ids = tick_ids(site).await?;
        let seen: BTreeSet<_> = ids.iter().cloned().collect();
        ensure!(
            seen.len() == ids.len(),
            "{} events are listed twice, such as {:?}",
            ids.len() - seen.len(),
            twice(&ids)
        );
        let missing: Vec<_> = outcome.acknowledged.difference(&seen).take(3).collect();
        if missing.is_empty() && counts == expected_counts(&seen) {
            // Stable as well: nothing of what was sent arrives later and twice.
            tokio::time::sleep(Duration::from_millis(300)).await;
            if tick_ids(site).await?.len() == seen.len() {
                break (seen, counts);
            }
        }
        if Instant::now() > deadline {
            bail!(
                "after {within:?}: {} acknowledged, {} listed, missing such as {missing:?}, \
                 the rollup says {counts:?} where the list has {:?}",
                outcome.acknowledged.len(),
                seen.len(),
                expected_counts(&seen)
            );
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let invented: Vec<_> = listed.difference(&outcome.sent).take(3).collect();
    ensure!(invented.is_empty(), "events that nobody sent: {invented:?}");
    ensure!(counted == tick_counts(site).await?, "the rollup still moves");
    Ok(())
}

async fn tick_ids(site: &impl Pipeline) -> Result<Vec<String>> {
    let events = all_events(site, "type=e2e.tick").await?;
    events.iter().map(|e| Ok(e["id"].as_str().context("no id")?.to_owned())).collect()
}

/// Count and sum by group.
async fn tick_counts(site: &impl Pipeline) -> Result<BTreeMap<String, (u64, u64)>> {
    let mut counts = BTreeMap::new();
    for row in all_rows(site, "/v1/rollups/ticks?window=1h").await? {
        let group = row["group"].as_str().context("no group")?.to_owned();
        let entry = counts.entry(group).or_insert((0, 0));
        entry.0 += row["count"].as_u64().context("no count")?;
        entry.1 += row["n_sum"].as_f64().context("no n_sum")? as u64;
    }
    Ok(counts)
}

fn expected_counts(ids: &BTreeSet<String>) -> BTreeMap<String, (u64, u64)> {
    let mut counts = BTreeMap::new();
    for id in ids {
        let number: u64 = id.rsplit('-').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        let entry = counts.entry(format!("g{}", number % 7)).or_insert((0, 0));
        entry.0 += 1;
        entry.1 += 1;
    }
    counts
}

fn twice(ids: &[String]) -> Option<&String> {
    let mut seen = BTreeSet::new();
    ids.iter().find(|id| !seen.insert(*id))
}
