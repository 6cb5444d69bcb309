//! Processes that are killed, and processes that come back from the dead: nothing is lost, and
//! nothing counts twice.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, Instant};

use e2e::{
    backends::Kafka,
    chance::{duration, seed},
    cluster::{self, Cluster, PARTITIONS, Replicas, Role},
    producer::{Load, STEADY},
    reader::{self, Pipeline, TICKS},
    topic::{self, Watch},
};

const MINUTE: Duration = Duration::from_secs(60);

async fn sleep_between(random: &mut fastrand::Rng, milliseconds: std::ops::Range<u64>) {
    tokio::time::sleep(Duration::from_millis(random.u64(milliseconds))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processors_and_sinks_killed_under_load_lose_nothing_and_double_nothing() {
    let Some(cql) = cluster::possible() else { return };
    let _turn = cluster::turn().await;
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let kafka = Kafka::start(1).unwrap();
    let replicas = Replicas { named: random.bool(), ..Replicas::default() };
    let cluster = Cluster::start(&kafka.servers, &cql, replicas, TICKS).await.unwrap();
    let load = Load::paced(cluster.url("/v1/events"), "fire", STEADY, seed);
    let (begun, length) = (Instant::now(), duration(Duration::from_secs(30)));
    let victims = [cluster.of(Role::Processor), cluster.of(Role::Sink)].concat();
    let mut kills = 0;
    while begun.elapsed() < length {
        sleep_between(&mut random, 800..2600).await;
        let victim = &victims[random.usize(..victims.len())];
        cluster.kill(victim).unwrap();
        sleep_between(&mut random, 0..800).await;
        cluster.start_again(victim).unwrap();
        kills += 1;
    }
    let outcome = load.stop().await;
    eprintln!("{kills} kills, {} events acknowledged", outcome.acknowledged.len());
    assert!(outcome.acknowledged.len() > 1000, "only {} events", outcome.acknowledged.len());
    assert_eq!(outcome.retried, 0, "ingest noticed: {:?}", outcome.answers);
    topic::check_clean(&kafka.servers, MINUTE).await.unwrap();
    reader::check(&cluster, &outcome, 2 * MINUTE).await.unwrap();
    assert!(topic::records(&kafka.servers, "events.dlq").unwrap().is_empty());
}

/// Pauses a process past its session, lets the other replica take over, continues it, and insists that
/// it works again: the other one is stopped, so that it must.
async fn pause_past_the_session(cluster: &Cluster, role: Role, watch: &Watch) {
    let names = cluster.of(role);
    let (zombie, other) = (&names[0], &names[1]);
    cluster.pause(zombie).unwrap();
    tokio::time::sleep(Duration::from_secs(12)).await;
    // Replaced meanwhile; for a sink the proof is that everything arrives in the end.
    watch.all_move(Instant::now(), PARTITIONS, Duration::from_secs(5)).await.unwrap();
    cluster.resume(zombie).unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    cluster.ready(zombie, Duration::from_secs(20)).await.unwrap();
    cluster.stop(other).await.unwrap();
    let alone = Instant::now();
    watch.all_move(alone, PARTITIONS, Duration::from_secs(20)).await.unwrap();
}

async fn zombie(role: Role, name: &str) {
    let Some(cql) = cluster::possible() else { return };
    let _turn = cluster::turn().await;
    let kafka = Kafka::start(1).unwrap();
    let cluster = Cluster::start(&kafka.servers, &cql, Replicas::default(), TICKS).await.unwrap();
    let watch = Watch::start(&kafka.servers).unwrap();
    let load = Load::paced(cluster.url("/v1/events"), name, STEADY, seed());
    let begun = Instant::now();
    watch.all_move(begun, PARTITIONS, Duration::from_secs(20)).await.unwrap();
    pause_past_the_session(&cluster, role, &watch).await;
    let outcome = load.stop().await;
    topic::check_clean(&kafka.servers, MINUTE).await.unwrap();
    reader::check(&cluster, &outcome, MINUTE).await.unwrap();
    for exit in cluster.exits() {
        assert_eq!(
            exit.name,
            format!("{}-1", if role == Role::Sink { "sink" } else { "processor" })
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_processor_that_wakes_up_after_its_replacement_does_no_damage_and_works_again() {
    zombie(Role::Processor, "zombie-processor").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_wakes_up_after_its_replacement_does_no_damage_and_works_again() {
    zombie(Role::Sink, "zombie-sink").await;
}
