//! Brokers and the store go away and come back: nothing acknowledged is lost, nothing lies, and all
//! goes on by itself.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, Instant};

use e2e::{
    backends::{Cassandra, Kafka},
    chance::{outage, patience, seed},
    cluster::{self, Cluster, DEADLINE, PARTITIONS, Replicas, Role},
    producer::{self, Load, STEADY},
    reader::{self, Pipeline, TICKS},
    topic::{self, Watch},
};

const MINUTE: Duration = Duration::from_secs(60);
const MIB: u64 = 1024 * 1024;

/// How many records the sinks have finished with.
async fn written(cluster: &Cluster) -> u64 {
    cluster.metric(Role::Sink, "penstock_sink_records_total", "").await.unwrap()
}

/// The worst that one broker can do.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// It stops in the middle of whatever it does, with all its connections open, and goes on later
    /// as if no time had gone by.
    Paused,
    /// It is gone, and comes back.
    Killed,
}

impl Fault {
    fn begin(self, kafka: &Kafka, broker: u32) -> anyhow::Result<()> {
        match self {
            Self::Paused => kafka.pause(broker),
            Self::Killed => kafka.kill(broker),
        }
    }

    fn end(self, kafka: &Kafka, broker: u32) -> anyhow::Result<()> {
        match self {
            Self::Paused => kafka.resume(broker),
            Self::Killed => kafka.start_again(broker),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_brokers_paused_then_killed_loses_nothing_and_no_client_waits_too_long() {
    let Some(cql) = cluster::possible() else { return };
    let _turn = cluster::turn().await;
    let seed = seed();
    let kafka = Kafka::start(3).unwrap();
    let cluster = Cluster::start(&kafka.servers, &cql, Replicas::default(), TICKS).await.unwrap();
    let watch = Watch::start(&kafka.servers).unwrap();
    let load = Load::paced(cluster.url("/v1/events"), "broker", STEADY, seed);
    let begun = Instant::now();
    watch.all_move(begun, PARTITIONS, Duration::from_secs(20)).await.unwrap();
    let mut random = fastrand::Rng::with_seed(seed);
    for fault in [Fault::Paused, Fault::Killed] {
        let victim = random.u32(1..=3);
        let begun = Instant::now();
        fault.begin(&kafka, victim).unwrap();
        tokio::time::sleep(Duration::from_secs(20)).await;
        // Elected, found again, and flowing: of a paused broker that takes a client two timeouts.
        watch.all_move(Instant::now(), PARTITIONS, Duration::from_secs(20)).await.unwrap();
        let (silence, partition) = watch.longest_silence(begun, Instant::now());
        eprintln!("broker {victim} {fault:?}: partition {partition} stood still for {silence:?}");
        fault.end(&kafka, victim).unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    let outcome = load.stop().await;
    eprintln!("answers: {:?}, slowest {:?}", outcome.answers, outcome.slowest);
    assert_eq!(outcome.without_retry_after, 0);
    assert_eq!(outcome.cut_off, 0, "a request had no answer: {:?}", outcome.answers);
    assert!(outcome.slowest < DEADLINE + Duration::from_secs(1), "{:?}", outcome.slowest);
    topic::check_clean(&kafka.servers, MINUTE).await.unwrap();
    reader::check(&cluster, &outcome, MINUTE).await.unwrap();
    assert!(cluster.exits().is_empty(), "{:?}", cluster.exits());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_brokers_nothing_is_acknowledged_and_all_resumes_when_they_return() {
    let Some(cql) = cluster::possible() else { return };
    let _turn = cluster::turn().await;
    let seed = seed();
    let kafka = Kafka::start(3).unwrap();
    let cluster = Cluster::start(&kafka.servers, &cql, Replicas::default(), TICKS).await.unwrap();
    let watch = Watch::start(&kafka.servers).unwrap();
    let load = Load::paced(cluster.url("/v1/events"), "dark", STEADY, seed);
    let begun = Instant::now();
    watch.all_move(begun, PARTITIONS, Duration::from_secs(20)).await.unwrap();
    let doors = cluster.of(Role::Ingest);

    kafka.kill_all().unwrap();
    let dark = Instant::now();
    // What was answered just before may still be on its way to the client.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = load.so_far().acknowledged.len();
    let length = outage(Duration::from_secs(15));
    let mut asked = 0;
    let mut most = 0;
    while dark.elapsed() < length {
        // Past the load balancer: the door itself must say it.
        let door = &doors[asked % doors.len()];
        let url = format!("http://{}/v1/events", cluster.http(door).unwrap());
        let begun = Instant::now();
        let body = producer::ndjson(&[format!("dark-{}", 1_000_000_000 + asked)]);
        let answer = reqwest::Client::new()
            .post(&url)
            .header("content-type", "application/x-ndjson")
            .timeout(DEADLINE + Duration::from_secs(5))
            .body(body)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 503, "{door}");
        assert!(answer.headers().contains_key("retry-after"), "{door}: {:?}", answer.headers());
        let took = begun.elapsed();
        assert!(took < DEADLINE + Duration::from_secs(1), "{door} answered after {took:?}");
        asked += 1;
        for name in cluster.names() {
            most = most.max(cluster.memory(&name).unwrap());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let acknowledged = load.so_far().acknowledged.len();
    assert_eq!(acknowledged, before, "acknowledged while there was no broker");
    assert!(most < 400 * MIB, "a process took {} MiB", most / MIB);

    kafka.start_all().unwrap();
    let back = Instant::now();
    let resumed = watch.all_move(back, PARTITIONS, 3 * MINUTE).await.unwrap();
    eprintln!("{asked} requests refused, {} MiB at most, resumed after {resumed:?}", most / MIB);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut outcome = load.stop().await;
    // Refused is not the same as not stored, so these may turn up.
    outcome.sent.extend((0..asked).map(|n| format!("dark-{}", 1_000_000_000 + n)));
    assert_eq!(outcome.without_retry_after, 0);
    topic::check_clean(&kafka.servers, MINUTE).await.unwrap();
    reader::check(&cluster, &outcome, MINUTE).await.unwrap();
    assert!(cluster.exits().is_empty(), "{:?}", cluster.exits());
    assert!(resumed < Duration::from_secs(10) * patience(), "resumed only after {resumed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_store_the_sinks_wait_and_lose_nothing_and_ingest_does_not_notice() {
    let Some(_) = cluster::possible() else { return };
    let _turn = cluster::turn().await;
    let kafka = Kafka::start(1).unwrap();
    let store = Cassandra::start().unwrap();
    let cluster =
        Cluster::start(&kafka.servers, &store.cql, Replicas::default(), TICKS).await.unwrap();
    let load = Load::paced(cluster.url("/v1/events"), "store", STEADY, seed());
    tokio::time::sleep(Duration::from_secs(3)).await;
    store.stop().unwrap();
    tokio::time::sleep(outage(Duration::from_secs(15))).await;
    let waiting = written(&cluster).await;
    store.start_again().unwrap();
    let back = Instant::now();
    while written(&cluster).await == waiting {
        assert!(back.elapsed() < MINUTE, "the sinks do not go on");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    eprintln!("the sinks write again {:?} after the store's return", back.elapsed());
    let outcome = load.stop().await;
    assert_eq!(outcome.retried, 0, "ingest noticed: {:?}", outcome.answers);
    reader::check(&cluster, &outcome, 2 * MINUTE).await.unwrap();
    let visible = back.elapsed();
    eprintln!("all visible {visible:?} after the store's return");
    assert!(visible < MINUTE, "{visible:?}");
    topic::check_clean(&kafka.servers, MINUTE).await.unwrap();
    assert!(cluster.exits().is_empty(), "{:?}", cluster.exits());
}
