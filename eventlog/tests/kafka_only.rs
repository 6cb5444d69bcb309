//! What only Kafka can show: topics that others made, brokers that are not there, open transactions.
#![cfg(feature = "kafka")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::time::{Duration, Instant};

use eventlog::{
    AppendError, Delivery, Headers, Log, LogError, Options, Record, Retention, Stored, TopicSpec,
    kafka::{self, KafkaLog},
};
use futures_util::FutureExt;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer},
    message::{Header, OwnedHeaders},
    mocking::MockCluster,
    producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer},
    topic_partition_list::{Offset, TopicPartitionList},
    types::RDKafkaRespErr,
};

/// The broker for tests; `None` skips, except in CI.
fn brokers() -> Option<String> {
    match std::env::var("PENSTOCK_TEST_KAFKA") {
        Ok(brokers) => Some(brokers),
        Err(_) if std::env::var_os("CI").is_some() => panic!("PENSTOCK_TEST_KAFKA is not set"),
        Err(_) => {
            eprintln!("skipped: PENSTOCK_TEST_KAFKA names no broker");
            None
        }
    }
}

async fn open(brokers: &str, options: Options) -> Log {
    Log::new(driver(brokers, options).await)
}

async fn driver(brokers: &str, options: Options) -> KafkaLog {
    kafka::open(&format!("kafka://{brokers}"), options).await.unwrap()
}

fn fresh(what: &str) -> String {
    format!("only-{what}-{}", uuid::Uuid::new_v4().simple())
}

fn spec(name: &str, partitions: u32, retention: Retention) -> TopicSpec {
    TopicSpec { name: name.into(), partitions, replication: None, retention }
}

fn keep() -> Retention {
    Retention::Delete { age: None, bytes: None }
}

fn record(key: &str, value: impl Into<Vec<u8>>) -> Record {
    let (key, value) = (Some(key.to_owned().into()), Some(value.into().into()));
    Record { key, value, ..Record::default() }
}

/// Makes a topic as somebody else would.
async fn made_by_others(brokers: &str, what: &str, settings: &[(&str, &str)]) -> String {
    let name = fresh(what);
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let topic = settings
        .iter()
        .fold(NewTopic::new(&name, 2, TopicReplication::Fixed(1)), |topic, (key, value)| {
            topic.set(key, value)
        });
    let made = admin.create_topics([&topic], &AdminOptions::new()).await.unwrap();
    assert!(made[0].is_ok(), "{made:?}");
    name
}

async fn mismatch(log: &Log, spec: TopicSpec) -> String {
    match log.ensure_topics(std::slice::from_ref(&spec)).await {
        Err(LogError::Mismatch { topic, detail }) if topic == spec.name => detail,
        other => panic!("expected a mismatch, got {other:?}"),
    }
}

#[tokio::test]
async fn a_topic_with_the_producers_times_is_a_mismatch_that_says_what_to_do() {
    let Some(brokers) = brokers() else { return };
    let log = open(&brokers, Options::default()).await;
    let topic = made_by_others(&brokers, "create-time", &[]).await;
    let detail = mismatch(&log, spec(&topic, 2, keep())).await;
    let command =
        format!("--entity-name {topic} --add-config message.timestamp.type=LogAppendTime");
    assert!(detail.contains(&command), "{detail}");
}

#[tokio::test]
async fn a_compacted_topic_for_events_and_an_aged_one_for_schemas_are_mismatches() {
    let Some(brokers) = brokers() else { return };
    let log = open(&brokers, Options::default()).await;
    let ours = ("message.timestamp.type", "LogAppendTime");
    let compacted = [ours, ("cleanup.policy", "compact")];
    let topic = made_by_others(&brokers, "compacted", &compacted).await;
    assert!(mismatch(&log, spec(&topic, 2, keep())).await.contains("cleanup.policy=delete"));
    let topic = made_by_others(&brokers, "aged", &[ours]).await;
    let told = mismatch(&log, spec(&topic, 2, Retention::Compact)).await;
    assert!(told.contains("cleanup.policy=compact"), "{told}");
}

#[tokio::test]
async fn more_copies_than_there_are_is_a_mismatch_and_another_retention_is_not() {
    let Some(brokers) = brokers() else { return };
    let log = open(&brokers, Options::default()).await;
    let settings = [("message.timestamp.type", "LogAppendTime"), ("retention.ms", "1000000")];
    let topic = made_by_others(&brokers, "copies", &settings).await;
    log.ensure_topics(&[spec(&topic, 2, keep())]).await.unwrap();
    let three = TopicSpec { replication: Some(3), ..spec(&topic, 2, keep()) };
    assert!(mismatch(&log, three).await.contains("has 1 copies"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_processes_can_make_the_same_topics_at_once() {
    let Some(brokers) = brokers() else { return };
    let specs = [spec(&fresh("a"), 3, keep()), spec(&fresh("b"), 1, Retention::Compact)];
    let tasks: Vec<_> = (0..6)
        .map(|_| {
            let (brokers, specs) = (brokers.clone(), specs.clone());
            tokio::spawn(async move {
                let log = open(&brokers, Options::default()).await;
                log.ensure_topics(&specs).await?;
                let results = log.append(&specs[0].name, vec![record("k", "v")]).await;
                assert!(results[0].is_ok(), "{results:?}");
                Ok::<_, LogError>(())
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn what_is_refused_is_told_without_the_records_bytes() {
    let Some(brokers) = brokers() else { return };
    let log = open(&brokers, Options { max_record_bytes: 1000, ..Options::default() }).await;
    let topic = fresh("refused");
    log.ensure_topics(&[spec(&topic, 1, keep())]).await.unwrap();
    let mut headers = Headers::builder();
    headers.push("hunter2\0", "hunter2");
    let records = vec![
        record("hunter2", "hunter2".repeat(1000)),
        Record { headers: headers.build(), ..record("k", "hunter2") },
        record("k", "good"),
    ];
    let results = log.append(&topic, records).await;
    for (result, what) in results.iter().zip(["1000", "NUL"]) {
        let Err(AppendError::Refused(told)) = result else { panic!("{result:?}") };
        assert!(told.contains(what) && !told.contains("hunter2"), "{told}");
    }
    assert!(results[2].is_ok(), "{results:?}");
}

/// A producer of transactions that is not ours.
fn others_transaction(brokers: &str) -> BaseProducer<DefaultProducerContext> {
    let producer: BaseProducer<_> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("transactional.id", fresh("id"))
        .create()
        .unwrap();
    producer.init_transactions(Duration::from_secs(10)).unwrap();
    producer.begin_transaction().unwrap();
    producer
}

fn send(producer: &BaseProducer<DefaultProducerContext>, topic: &str, value: &str) {
    let headers = OwnedHeaders::new().insert(Header { key: "null", value: None::<&[u8]> });
    let record = BaseRecord::<[u8], str>::to(topic).payload(value).headers(headers);
    producer.send(record).map_err(|(error, _)| error).unwrap();
    producer.flush(Duration::from_secs(10)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_stays_before_an_open_transaction_and_passes_it_when_it_is_over() {
    let Some(brokers) = brokers() else { return };
    let log = open(&brokers, Options::default()).await;
    let topic = fresh("open");
    log.ensure_topics(&[spec(&topic, 1, keep())]).await.unwrap();
    let other = others_transaction(&brokers);
    send(&other, &topic, "pending");
    assert_eq!(log.bounds(&topic, 0).await.unwrap().end, 0);
    other.commit_transaction(Duration::from_secs(10)).unwrap();
    let end = log.bounds(&topic, 0).await.unwrap().end;
    assert_eq!(end, 2, "a record and a marker");
    let records = read(&log, &topic, 0, end).await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].record.headers.get("null"), Some(&[][..]));
    other.begin_transaction().unwrap();
    send(&other, &topic, "given up");
    other.abort_transaction(Duration::from_secs(10)).unwrap();
    let end = log.bounds(&topic, 0).await.unwrap().end;
    assert!(end > 2, "aborted records take offsets too");
    assert!(read(&log, &topic, 2, end).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_processes_that_append_at_one_end_one_wins_and_both_can_go_on() {
    let Some(brokers) = brokers() else { return };
    let topic = fresh("race");
    let (one, two) =
        (open(&brokers, Options::default()).await, open(&brokers, Options::default()).await);
    one.ensure_topics(&[spec(&topic, 1, Retention::Compact)]).await.unwrap();
    let mut end = 0;
    for round in 0..5 {
        let value = format!("{round}");
        let (first, second) = tokio::join!(
            one.append_at(&topic, end, vec![record("k", value.clone())]),
            two.append_at(&topic, end, vec![record("k", value)])
        );
        let won = [&first, &second].into_iter().filter(|result| result.is_ok()).count();
        assert!(won <= 1, "{first:?} {second:?}");
        let bounds = one.bounds(&topic, 0).await.unwrap();
        let stored = read(&one, &topic, 0, bounds.end).await.len();
        end = bounds.end;
        if won == 0 {
            // They fenced each other; the next try is alone.
            end = one.append_at(&topic, end, vec![record("k", "again")]).await.unwrap();
        }
        assert_eq!(stored + usize::from(won == 0), round + 1);
    }
}

/// Everything from a position to another.
async fn read(log: &Log, topic: &str, from: u64, to: u64) -> Vec<Stored> {
    let (mut reader, mut all, mut at) = (log.read(topic, 0, from, to).await.unwrap(), vec![], from);
    while let Some((records, next)) = reader.next().await.unwrap() {
        assert!(next > at, "a reader advances");
        (all, at) = ([all, records].concat(), next);
    }
    assert_eq!(at, to);
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_that_are_not_there_are_named_in_time_and_readiness_tells() {
    let log = open("127.0.0.1:1", Options::default()).await;
    let started = Instant::now();
    let told = log.ensure_topics(&[spec("t", 1, keep())]).await;
    assert!(started.elapsed() < Duration::from_secs(15));
    let Err(LogError::Retry(told)) = told else { panic!("{told:?}") };
    assert!(told.contains("127.0.0.1:1"), "{told}");
    assert!(matches!(log.status(), Err(LogError::Retry(told)) if told.contains("127.0.0.1:1")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_brokers_the_queue_is_bounded_and_every_record_is_answered_in_time() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1, 1).unwrap();
    let commit_deadline = Duration::from_secs(3);
    let options = Options { commit_deadline, max_queued_bytes: 64 * 1024, ..Options::default() };
    let log = open(&cluster.bootstrap_servers(), options).await;
    assert!(log.append("t", vec![record("k", "v")]).await[0].is_ok());
    cluster.broker_down(1).unwrap();
    let started = Instant::now();
    let results = log.append("t", (0..200).map(|_| record("k", vec![7; 1000])).collect()).await;
    assert!(started.elapsed() < commit_deadline + Duration::from_secs(1));
    let put_off = results.partition_point(|result| matches!(result, Err(AppendError::Unknown(_))));
    assert!((1..100).contains(&put_off), "{put_off} of 200 kilobytes were taken into 64");
    let full = results[put_off..].iter().all(|result| matches!(result, Err(AppendError::Retry(_))));
    assert!(full, "{results:?}");
    cluster.broker_up(1).unwrap();
    let back = Instant::now();
    while log.append("t", vec![record("k", "v")]).await[0].is_err() {
        assert!(back.elapsed() < Duration::from_secs(10), "it does not come back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A broker that has just come up answers so for a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_brokers_do_not_know_for_a_while_refuses_no_record() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1, 1).unwrap();
    let properties = [
        ("topic.metadata.refresh.interval.ms".to_owned(), "100".to_owned()),
        ("topic.metadata.propagation.max.ms".to_owned(), "100".to_owned()),
    ];
    let options = Options { properties: properties.into(), ..Options::default() };
    let log = open(&cluster.bootstrap_servers(), options).await;
    assert!(log.append("t", vec![record("k", "v")]).await[0].is_ok());
    let unknown = RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    cluster.topic_error("t", unknown).unwrap();
    // Until the producer has heard it, and then the look-up, which waits before it believes it.
    let (since, mut failed) = (Instant::now(), 0);
    while since.elapsed() < Duration::from_secs(5) {
        match log.append("t", vec![record("k", "v")]).await.remove(0) {
            Ok(_) => {}
            Err(AppendError::Retry(_) | AppendError::Unknown(_)) => failed += 1,
            Err(refused @ AppendError::Refused(_)) => panic!("{refused}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(failed > 1, "the topic was known all the time");
    cluster.topic_error("t", RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).unwrap();
    let back = Instant::now();
    while log.append("t", vec![record("k", "v")]).await[0].is_err() {
        assert!(back.elapsed() < Duration::from_secs(10), "it does not come back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// As it is after an election of a leader that lacked the end of the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_stands_beyond_the_end_is_told_so_and_does_not_join_for_ever() {
    let Some(brokers) = brokers() else { return };
    let (topic, group) = (fresh("beyond"), fresh("group"));
    let log = open(&brokers, Options::default()).await;
    log.ensure_topics(&[spec(&topic, 1, keep())]).await.unwrap();
    assert!(log.append(&topic, vec![record("k", "v")]).await[0].is_ok());
    let other: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &brokers)
        .set("group.id", &group)
        .create()
        .unwrap();
    let mut stands = TopicPartitionList::new();
    stands.add_partition_offset(&topic, 0, Offset::Offset(1000)).unwrap();
    other.commit(&stands, CommitMode::Sync).unwrap();
    let mut member = log.subscribe(&group, &[&topic]).await.unwrap();
    let told = async {
        loop {
            match member.next().await {
                Ok(Delivery::Assigned(assigned)) => assigned.resume(),
                Ok(Delivery::Revoked(revocation)) => revocation.acknowledge(),
                other => return other,
            }
        }
    };
    let told = tokio::time::timeout(Duration::from_secs(30), told).await.unwrap();
    let Err(LogError::OutOfRange { wanted, end, .. }) = told else { panic!("{told:?}") };
    assert_eq!((wanted, end), (1000, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_waits_for_any_more_is_still_delivered_when_the_log_is_dropped() {
    let Some(brokers) = brokers() else { return };
    let topic = fresh("drain");
    // Records wait this long for others, so that none is delivered before the log is dropped.
    let properties = [("linger.ms".to_owned(), "1000".to_owned())].into();
    let log = open(&brokers, Options { properties, ..Options::default() }).await;
    log.ensure_topics(&[spec(&topic, 1, keep())]).await.unwrap();
    assert!(log.append(&topic, vec![record("k", "first")]).await[0].is_ok());
    let records = (0..500).map(|i| record("k", i.to_string())).collect();
    let begun_and_left = log.append(&topic, records).now_or_never();
    assert!(begun_and_left.is_none());
    drop(log);
    let log = open(&brokers, Options::default()).await;
    let end = log.bounds(&topic, 0).await.unwrap().end;
    assert_eq!(read(&log, &topic, 0, end).await.len(), 501);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_whose_name_is_not_text_does_not_stop_a_reader() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt, process::Command};
    let Some(brokers) = brokers() else { return };
    let log = open(&brokers, Options::default()).await;
    let topic = fresh("strange");
    log.ensure_topics(&[spec(&topic, 1, keep())]).await.unwrap();
    let value = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(value.path(), "hello").unwrap();
    let kcat = Command::new("kcat")
        .args(["-P", "-b", &brokers, "-t", &topic, "-H", "good=1", "-H"])
        .arg(OsStr::from_bytes(b"\xff\xfe=2"))
        .arg(value.path())
        .status();
    let Ok(status) = kcat else { return eprintln!("skipped: there is no kcat to write it") };
    assert!(status.success());
    let end = log.bounds(&topic, 0).await.unwrap().end;
    let records = read(&log, &topic, 0, end).await;
    assert_eq!(records[0].record.value.as_deref(), Some(&b"hello"[..]));
    assert_eq!(records[0].record.headers.get("good"), Some(&b"1"[..]));
}
