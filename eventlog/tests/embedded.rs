//! What only the embedded log can show: its directory, its disk, its group commit.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use eventlog::{
    AppendError, Bounds, Clock, Delivery, Log, LogError, Options, Record, Retention, TopicSpec,
    TransactError,
    embedded::{self, EmbeddedLog},
};

async fn open(path: &Path) -> Log {
    eventlog::open(&format!("file:{}", path.display()), Options::default()).await.unwrap()
}

fn topic(name: &str, partitions: u32) -> TopicSpec {
    let retention = Retention::Delete { age: None, bytes: None };
    TopicSpec { name: name.into(), partitions, replication: None, retention }
}

fn record(key: &str, value: &str) -> Record {
    Record {
        key: Some(key.to_owned().into()),
        value: Some(value.to_owned().into()),
        ..Record::default()
    }
}

async fn values(log: &Log, topic: &str, partition: u32) -> Vec<String> {
    let bounds = log.bounds(topic, partition).await.unwrap();
    let mut reader = log.read(topic, partition, bounds.start, bounds.end).await.unwrap();
    let mut all = Vec::new();
    while let Some((records, _)) = reader.next().await.unwrap() {
        all.extend(
            records
                .into_iter()
                .map(|s| String::from_utf8_lossy(&s.record.value.unwrap_or_default()).into_owned()),
        );
    }
    all
}

#[tokio::test]
async fn what_was_appended_is_there_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).await;
    log.ensure_topics(&[topic("t", 1)]).await.unwrap();
    for value in ["one", "two"] {
        log.append("t", vec![record("k", value)]).await.remove(0).unwrap();
    }
    drop(log);
    let log = open(dir.path()).await;
    assert_eq!(values(&log, "t", 0).await, ["one", "two"]);
    let appended = log.append("t", vec![record("k", "three")]).await.remove(0).unwrap();
    assert_eq!(appended.offset, 2);
}

#[tokio::test]
async fn a_transaction_moves_outputs_and_positions_and_leaves_a_hole() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).await;
    log.ensure_topics(&[topic("in", 1), topic("out", 1)]).await.unwrap();
    log.append("in", vec![record("k", "a"), record("k", "b")]).await;
    let mut transactor =
        log.subscribe("g", &["in"]).await.unwrap().into_transactional("g-0").await.unwrap();
    let Delivery::Assigned(assigned) = transactor.next().await.unwrap() else { panic!() };
    assigned.resume();
    let Delivery::Batch(batch) = transactor.next().await.unwrap() else { panic!() };
    assert_eq!(batch.records.len(), 2);
    let out: Vec<_> = batch.records.into_iter().map(|s| (Arc::from("out"), s.record)).collect();
    transactor.commit(out, &[(batch.lease, batch.next)]).await.unwrap();
    drop(transactor);
    drop(log);
    let log = open(dir.path()).await;
    assert_eq!(values(&log, "out", 0).await, ["a", "b"]);
    assert_eq!(log.committed("g", "in").await.unwrap(), [Some(2)]);
    assert_eq!(log.bounds("out", 0).await.unwrap().end, 3, "two records and a hole");
}

fn large(i: usize) -> Record {
    Record {
        key: Some(format!("k{i}").into()),
        value: Some(vec![i as u8; 900].into()),
        ..Record::default()
    }
}

async fn open_with(path: &Path, options: Options) -> Result<Log, LogError> {
    eventlog::open(&format!("file:{}", path.display()), options).await
}

fn told(error: Option<LogError>, path: &Path) -> String {
    let error = error.expect("it must not open").to_string();
    assert!(error.contains(&path.display().to_string()), "{error}");
    error
}

#[tokio::test]
async fn a_log_in_use_is_told_as_locked_with_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).await;
    let second = open_with(dir.path(), Options::default()).await.err();
    assert!(matches!(second, Some(LogError::Locked(_))), "{second:?}");
    told(second, dir.path());
    drop(log);
    open(dir.path()).await;
}

#[tokio::test]
async fn a_file_in_the_way_is_told_with_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, "not a directory").unwrap();
    let told = told(open_with(&path, Options::default()).await.err(), &path);
    assert!(told.contains("a file stands where a directory is needed"), "{told}");
}

#[tokio::test]
async fn a_creation_that_was_cut_short_does_not_stand_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let engine = dir.path().join("engine");
    std::fs::create_dir_all(engine.join("keyspaces")).unwrap();
    std::fs::write(engine.join("0.jnl"), [0; 1024]).unwrap();
    std::fs::write(engine.join("lock"), "").unwrap();
    let log = open(dir.path()).await;
    log.ensure_topics(&[topic("t", 1)]).await.unwrap();
}

#[tokio::test]
async fn an_almost_full_disk_puts_appends_off_and_readers_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).await;
    log.ensure_topics(&[topic("t", 1)]).await.unwrap();
    log.append("t", vec![record("k", "before")]).await.remove(0).unwrap();
    drop(log);
    let options = Options { min_free_bytes: u64::MAX, ..Options::default() };
    let log = open_with(dir.path(), options).await.unwrap();
    let refused = log.append("t", vec![record("k", "lost")]).await.remove(0);
    assert!(
        matches!(&refused, Err(AppendError::Retry(why)) if why.contains("free")),
        "{refused:?}"
    );
    assert!(matches!(log.status(), Err(LogError::Retry(_))));
    assert_eq!(values(&log, "t", 0).await, ["before"]);
    drop(log);
    let log = open(dir.path()).await;
    assert_eq!(log.status(), Ok(()));
    assert_eq!(values(&log, "t", 0).await, ["before"]);
}

#[tokio::test]
async fn a_transaction_on_an_almost_full_disk_aborts_and_comes_again() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).await;
    log.ensure_topics(&[topic("t", 1)]).await.unwrap();
    log.append("t", vec![record("k", "in")]).await.remove(0).unwrap();
    drop(log);
    let options = Options { min_free_bytes: u64::MAX, ..Options::default() };
    let log = open_with(dir.path(), options).await.unwrap();
    let member = log.subscribe("g", &["t"]).await.unwrap();
    let mut member = member.into_transactional("id").await.unwrap();
    let Delivery::Assigned(assigned) = member.next().await.unwrap() else { panic!() };
    let lease = assigned.partitions[0].lease.clone();
    drop(assigned);
    let outcome =
        member.commit(vec![("t".into(), record("k", "out"))], &[(lease.clone(), 1)]).await;
    assert!(matches!(outcome, Err(TransactError::Aborted(_))), "{outcome:?}");
    let Delivery::Revoked(revoked) = member.next().await.unwrap() else { panic!() };
    assert_eq!((revoked.lost, &revoked.leases[..]), (true, &[lease][..]));
    let Delivery::Assigned(again) = member.next().await.unwrap() else { panic!() };
    assert_eq!(again.partitions[0].committed, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_that_wait_together_share_a_sync() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::default();
    let metrics = options.metrics.clone();
    let log = open_with(dir.path(), options).await.unwrap();
    log.ensure_topics(&[topic("t", 4)]).await.unwrap();
    let before = metrics.syncs.get();
    let tasks: Vec<_> = (0..400)
        .map(|i| {
            let log = log.clone();
            tokio::spawn(async move { log.append("t", vec![large(i)]).await.remove(0) })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let syncs = metrics.syncs.get() - before;
    assert!((1..=200).contains(&syncs), "400 appends took {syncs} syncs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_puts_off_what_it_cannot_hold_and_loses_nothing_it_took() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { max_queued_bytes: 4096, ..Options::default() };
    let log = open_with(dir.path(), options).await.unwrap();
    log.ensure_topics(&[topic("t", 1)]).await.unwrap();
    let tasks: Vec<_> = (0..200)
        .map(|i| {
            let log = log.clone();
            tokio::spawn(async move { log.append("t", vec![large(i)]).await.remove(0) })
        })
        .collect();
    let (mut stored, mut put_off) = (0, 0);
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => stored += 1,
            Err(AppendError::Retry(_)) => put_off += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(put_off > 0, "nothing was put off");
    assert_eq!(values(&log, "t", 0).await.len(), stored);
}

#[tokio::test]
async fn a_record_over_the_limit_is_refused_and_the_others_are_stored() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { max_record_bytes: 100, ..Options::default() };
    let log = open_with(dir.path(), options).await.unwrap();
    log.ensure_topics(&[topic("t", 1)]).await.unwrap();
    let results = log.append("t", vec![record("k", "a"), large(1), record("k", "b")]).await;
    assert!(matches!(&results[..], [Ok(_), Err(AppendError::Refused(_)), Ok(_)]), "{results:?}");
    assert_eq!(values(&log, "t", 0).await, ["a", "b"]);
}

/// A log whose time is what a test says, and one partition with ten records, one a second.
async fn aged(dir: &Path, retention: Retention) -> (EmbeddedLog, Log, Arc<AtomicI64>) {
    let time = Arc::new(AtomicI64::new(0));
    let clock = Clock::new({
        let time = time.clone();
        move || time.load(Ordering::Relaxed)
    });
    let engine =
        embedded::open(dir.to_owned(), Options { clock, ..Options::default() }).await.unwrap();
    let log = Log::new(engine.clone());
    log.ensure_topics(&[TopicSpec { retention, ..topic("t", 1) }]).await.unwrap();
    for i in 0..10 {
        time.store(i * 1_000_000, Ordering::Relaxed);
        log.append("t", vec![record("k", &i.to_string())]).await.remove(0).unwrap();
    }
    (engine, log, time)
}

#[tokio::test]
async fn records_go_when_they_are_older_than_the_age() {
    let dir = tempfile::tempdir().unwrap();
    let age = Retention::Delete { age: Some(Duration::from_secs(5)), bytes: None };
    let (engine, log, time) = aged(dir.path(), age).await;
    time.store(9_500_000, Ordering::Relaxed);
    engine.retain().await.unwrap();
    assert_eq!(values(&log, "t", 0).await, ["5", "6", "7", "8", "9"]);
}

#[tokio::test]
async fn records_go_when_the_partition_is_over_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let size = Retention::Delete { age: None, bytes: Some(100) };
    let (engine, log, _) = aged(dir.path(), size).await;
    engine.retain().await.unwrap();
    // A chunk of one such record has 46 bytes: three are the fewest that keep a hundred.
    assert_eq!(values(&log, "t", 0).await, ["7", "8", "9"]);
}

#[tokio::test]
async fn a_compacted_topic_never_ages() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, log, time) = aged(dir.path(), Retention::Compact).await;
    time.store(i64::MAX / 2, Ordering::Relaxed);
    engine.retain().await.unwrap();
    assert_eq!(values(&log, "t", 0).await.len(), 10);
}

#[tokio::test]
async fn positions_and_times_go_on_after_everything_went() {
    let dir = tempfile::tempdir().unwrap();
    let age = Retention::Delete { age: Some(Duration::ZERO), bytes: None };
    let (engine, log, _) = aged(dir.path(), age).await;
    engine.retain().await.unwrap();
    drop((engine, log));
    let clock = Clock::new(|| 0);
    let log = open_with(dir.path(), Options { clock, ..Options::default() }).await.unwrap();
    assert_eq!(log.bounds("t", 0).await.unwrap(), Bounds { start: 10, end: 10 });
    let at = log.append("t", vec![record("k", "new")]).await.remove(0).unwrap();
    assert_eq!(at.offset, 10);
    let mut reader = log.read("t", 0, 10, 11).await.unwrap();
    let (records, _) = reader.next().await.unwrap().unwrap();
    assert_eq!(records[0].appended_at, 9_000_000, "never earlier than what came before");
}

#[tokio::test]
async fn what_left_memory_is_read_from_disk() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { tail_bytes: 0, batch_bytes: 2000, ..Options::default() };
    let log = open_with(dir.path(), options).await.unwrap();
    log.ensure_topics(&[topic("t", 1)]).await.unwrap();
    for i in 0..20 {
        log.append("t", vec![large(i), large(i)]).await.remove(0).unwrap();
    }
    assert_eq!(values(&log, "t", 0).await.len(), 40);
    let mut member = log.subscribe("g", &["t"]).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 40 {
        match tokio::time::timeout(Duration::from_secs(10), member.next()).await.unwrap().unwrap() {
            Delivery::Assigned(assigned) => assigned.start_at(vec![Some(0)]),
            Delivery::Batch(batch) => seen.extend(batch.records.iter().map(|s| s.offset)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, (0..40).collect::<Vec<_>>());
}
