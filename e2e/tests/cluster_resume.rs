//! How long a read_committed reader of `events.clean` waits when processors die, come and go, on
//! brokers with default settings.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, Instant};

use e2e::{
    backends::Kafka,
    chance::{patience, seed},
    cluster::{self, Cluster, PARTITIONS, Replicas, Role},
    producer::{Load, STEADY},
    reader::Pipeline,
    topic::{self, Watch},
};

const MINUTE: Duration = Duration::from_secs(60);
/// Longer than any partition is silent while nothing is wrong.
const A_WHILE: Duration = Duration::from_millis(300);

fn bound(seconds: u64) -> Duration {
    Duration::from_secs(seconds) * patience()
}

/// Processors and what feeds them; nobody reads the store here.
fn only_processors(processors: u32, named: bool) -> Replicas {
    Replicas { ingest: 1, processors, sinks: 0, query: 0, named }
}

/// Kills a processor, again and again until a transaction was left open at least once, and answers
/// the longest silence of a partition that followed a kill.
async fn longest_silence_after_kills(restart: bool, named: bool) -> Option<Duration> {
    let cql = cluster::possible()?;
    let _turn = cluster::turn().await;
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let kafka = Kafka::start_with_defaults(1).unwrap();
    let replicas = only_processors(2, named);
    let cluster = Cluster::start(&kafka.servers, &cql, replicas, "").await.unwrap();
    let watch = Watch::start(&kafka.servers).unwrap();
    let written = Watch::uncommitted(&kafka.servers).unwrap();
    let load = Load::paced(cluster.url("/v1/events"), "resume", STEADY, seed);
    let (mut longest, mut open) = (Duration::ZERO, 0);
    for round in 0..8 {
        watch.all_move(Instant::now(), PARTITIONS, MINUTE).await.unwrap();
        // Both have partitions, and the group is at rest.
        tokio::time::sleep(Duration::from_millis(random.u64(4000..5000))).await;
        let victims = cluster.of(Role::Processor);
        let victim = &victims[random.usize(..victims.len())];
        let killed = Instant::now();
        cluster.kill(victim).unwrap();
        if restart {
            cluster.start_again(victim).unwrap();
        }
        tokio::time::sleep(A_WHILE * 2).await;
        let left_open = watch.waits_for_a_transaction(&written, A_WHILE);
        open += u32::from(left_open);
        tokio::time::sleep(Duration::from_secs(if restart { 5 } else { 12 })).await;
        let (silence, partition) = watch.longest_silence(killed, Instant::now());
        eprintln!(
            "round {round}: {victim} killed, partition {partition} stood still for {silence:?}{}",
            if left_open { ", a transaction was open" } else { "" }
        );
        longest = longest.max(silence);
        if !restart {
            cluster.start_again(victim).unwrap();
            cluster.ready(victim, MINUTE).await.unwrap();
        }
        if round >= 2 && open > 0 {
            break;
        }
    }
    load.stop().await;
    topic::check_clean(&kafka.servers, MINUTE).await.unwrap();
    Some(longest)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_processor_that_is_killed_and_restarted_resumes_within_3_s() {
    let Some(silence) = longest_silence_after_kills(true, true).await else { return };
    assert!(silence < bound(3), "{silence:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_replica_takes_over_from_a_killed_one_within_10_s() {
    let Some(silence) = longest_silence_after_kills(false, false).await else { return };
    assert!(silence < bound(10), "{silence:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn scaling_processors_from_1_to_4_and_back_doubles_nothing_and_hardly_stops_the_flow() {
    let Some(cql) = cluster::possible() else { return };
    let _turn = cluster::turn().await;
    let kafka = Kafka::start_with_defaults(1).unwrap();
    let replicas = only_processors(1, false);
    let cluster = Cluster::start(&kafka.servers, &cql, replicas, "").await.unwrap();
    let watch = Watch::start(&kafka.servers).unwrap();
    let load = Load::paced(cluster.url("/v1/events"), "scale", STEADY, seed());
    watch.all_move(Instant::now(), PARTITIONS, MINUTE).await.unwrap();
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_secs(1)).await;
    for _ in 0..3 {
        let name = cluster.add(Role::Processor, false).unwrap();
        cluster.ready(&name, MINUTE).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(8)).await;
    for name in &cluster.of(Role::Processor)[1..] {
        cluster.stop(name).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    // All at once, as an orchestrator does it.
    let [a, b, c] = std::array::from_fn(|_| cluster.add(Role::Processor, false).unwrap());
    for name in [&a, &b, &c] {
        cluster.ready(name, MINUTE).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(8)).await;
    tokio::try_join!(cluster.stop(&a), cluster.stop(&b), cluster.stop(&c)).unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let (silence, partition) = watch.longest_silence(begun, Instant::now());
    eprintln!("partition {partition} stood still for {silence:?}");
    let outcome = load.stop().await;
    assert_eq!(outcome.retried, 0, "{:?}", outcome.answers);
    topic::check_clean(&kafka.servers, MINUTE).await.unwrap();
    assert!(cluster.exits().is_empty(), "{:?}", cluster.exits());
    assert!(silence < bound(3), "{silence:?}");
}
