//! What only the embedded log can show: its directory, its disk, its group commit.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{path::Path, sync::Arc};

use eventlog::{Delivery, Log, Options, Record, Retention, TopicSpec};

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
                .map(|s| String::from_utf8(s.record.value.unwrap_or_default().to_vec()).unwrap()),
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
