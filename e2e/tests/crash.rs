//! `kill -9`, a power cut, SIGTERM: what was acknowledged is there, exactly once.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use e2e::{
    chance::seed,
    disk,
    process::Site,
    producer::Load,
    reader::{self, TICKS},
};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn twenty_kills_under_load_lose_nothing_and_double_nothing() {
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let site = Site::new(TICKS).unwrap();
    let mut node = site.start().await.unwrap();
    let load = Load::start(site.url("/v1/events"), "kill", 4, 40, seed);
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(random.u64(50..600))).await;
        node.kill().unwrap();
        node = site.start().await.unwrap();
    }
    let outcome = load.stop().await;
    assert!(outcome.acknowledged.len() > 1000, "only {} events", outcome.acknowledged.len());
    assert!(outcome.retried > 0, "no request was ever retried: the kills missed the load");
    reader::check(&site, &outcome, MINUTE).await.unwrap();
    node.stop().await.unwrap();
}

/// Cuts the power under load and answers what became of it once the node is up again.
async fn cut_the_power(ignore_sync: bool) -> anyhow::Result<()> {
    let seed = seed();
    let mut site = Site::new(TICKS)?;
    let journal = site.dir.path().join("disk.journal");
    site.env("LD_PRELOAD", disk::layer(site.dir.path())?.display().to_string());
    site.env("DISK_ROOT", site.data().display().to_string());
    site.env("DISK_JOURNAL", journal.display().to_string());
    let node = site.start().await?;
    if ignore_sync {
        node.stop().await?;
        std::fs::remove_file(&journal)?;
        site.env("DISK_IGNORES_SYNC", "1");
        let node = site.start().await?;
        return load_cut_and_check(site, node, &journal, seed).await;
    }
    load_cut_and_check(site, node, &journal, seed).await
}

async fn load_cut_and_check(
    mut site: Site,
    node: e2e::process::Node,
    journal: &std::path::Path,
    seed: u64,
) -> anyhow::Result<()> {
    let load = Load::start(site.url("/v1/events"), "power", 4, 40, seed);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    // Whatever is acknowledged up to here must survive; what comes later may or may not be.
    let before = load.so_far();
    node.kill()?;
    let mut outcome = load.stop().await;
    outcome.acknowledged = before.acknowledged;
    anyhow::ensure!(outcome.acknowledged.len() > 100, "too few events to tell");
    let forgotten = disk::forget(journal)?;
    eprintln!("{forgotten} bytes were written and never synced");
    for name in ["LD_PRELOAD", "DISK_ROOT", "DISK_JOURNAL", "DISK_IGNORES_SYNC"] {
        site.unset(name);
    }
    let node = site.start().await?;
    reader::check(&site, &outcome, Duration::from_secs(10)).await?;
    node.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_power_cut() {
    cut_the_power(false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_ignores_sync_is_noticed_by_the_test_above() {
    let error = cut_the_power(true).await.unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("missing such as") || error.contains("damaged"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_answers_every_request_and_exits_0() {
    let seed = seed();
    let site = Site::new(TICKS).unwrap();
    for round in 0..3 {
        let node = site.start().await.unwrap();
        let load = Load::start(site.url("/v1/events"), &format!("term{round}"), 8, 40, seed);
        tokio::time::sleep(Duration::from_millis(700)).await;
        node.terminate().unwrap();
        let status = node.exited(Duration::from_secs(20)).await.unwrap();
        let outcome = load.stop().await;
        assert_eq!(status.code(), Some(0));
        assert_eq!(outcome.cut_off, 0, "requests were cut off unanswered");
        assert!(outcome.acknowledged.len() > 100);
        let node = site.start().await.unwrap();
        // Only this round's events count as sent; earlier rounds were checked then.
        let mut all = outcome;
        for earlier in 0..round {
            all.sent.extend(sent_in(&site, earlier).await);
        }
        reader::check(&site, &all, MINUTE).await.unwrap();
        node.stop().await.unwrap();
    }
}

async fn sent_in(site: &Site, round: usize) -> Vec<String> {
    let prefix = format!("term{round}-");
    let events = reader::all_events(site, "type=e2e.tick").await.unwrap();
    let ids = events.iter().filter_map(|e| e["id"].as_str().map(str::to_owned));
    ids.filter(|id| id.starts_with(&prefix)).collect()
}
