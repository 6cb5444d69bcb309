//! What a dead owner of a partition left behind, and what becomes of it when another takes over.
//!
//! The dead are played by producers that know a transactional id and do nothing any more.
#![cfg(feature = "kafka")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use eventlog::{
    Delivery, Lease, Log, LogError, Options, Position, Record, Retention, TopicSpec, TransactError,
    Transactor,
};
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// A group that copies one topic to another.
struct Pair {
    brokers: String,
    log: Log,
    input: String,
    output: String,
    group: String,
}

impl Pair {
    async fn begin() -> Option<Self> {
        let brokers = match std::env::var("PENSTOCK_TEST_KAFKA") {
            Ok(brokers) => brokers,
            Err(_) if std::env::var_os("CI").is_some() => panic!("PENSTOCK_TEST_KAFKA is not set"),
            Err(_) => {
                eprintln!("skipped: PENSTOCK_TEST_KAFKA names no broker");
                return None;
            }
        };
        let url = format!("kafka://{brokers}");
        let log = eventlog::open(&url, Options::default()).await.unwrap();
        let id = uuid::Uuid::new_v4().simple().to_string();
        let [input, output, group] =
            ["in", "out", "group"].map(|what| format!("claims-{what}-{id}"));
        let retention = Retention::Delete { age: None, bytes: None };
        let topic = |name: &str| TopicSpec {
            name: name.into(),
            partitions: 1,
            replication: None,
            retention: retention.clone(),
        };
        log.ensure_topics(&[topic(&input), topic(&output)]).await.unwrap();
        Some(Self { brokers, log, input, output, group })
    }

    fn id(&self, name: &str) -> String {
        format!("{}.{name}", self.group)
    }

    async fn member(&self, name: &str) -> Transactor {
        let member = self.log.subscribe(&self.group, &[&self.input]).await.unwrap();
        member.into_transactional(self.id(name)).await.unwrap()
    }

    async fn append(&self, value: &str) {
        let value = Some(value.to_owned().into());
        let record = Record { value, ..Record::default() };
        self.log.append(&self.input, vec![record]).await.remove(0).unwrap();
    }

    /// Copies what comes next.
    async fn copy(&self, member: &mut Transactor) {
        let (outputs, positions) = self.read(member).await;
        member.commit(outputs, &positions).await.unwrap();
    }

    async fn read(
        &self,
        member: &mut Transactor,
    ) -> (Vec<(Arc<str>, Record)>, Vec<(Lease, Position)>) {
        let output: Arc<str> = self.output.as_str().into();
        loop {
            match patient(member.next()).await.unwrap() {
                Delivery::Assigned(assigned) => assigned.resume(),
                Delivery::Revoked(revocation) => revocation.acknowledge(),
                Delivery::Gap(gap) => panic!("unexpected {gap:?}"),
                Delivery::Batch(batch) if batch.records.is_empty() => {}
                Delivery::Batch(batch) => {
                    let outputs = batch.records.into_iter().map(|r| (output.clone(), r.record));
                    return (outputs.collect(), vec![(batch.lease, batch.next)]);
                }
            }
        }
    }

    /// Leaves a transaction open on the output, as a process that was killed in the middle of one.
    fn die_in_a_transaction(&self, name: &str) -> BaseProducer {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("transactional.id", self.id(name))
            .set("transaction.timeout.ms", "60000")
            .create()
            .unwrap();
        producer.init_transactions(PATIENCE).unwrap();
        producer.begin_transaction().unwrap();
        producer.send(BaseRecord::<(), str>::to(&self.output).payload("never")).unwrap();
        producer.flush(PATIENCE).unwrap();
        producer
    }

    /// Waits until the output shows these values.
    async fn shows(&self, values: &[&str]) {
        let until = Instant::now() + PATIENCE;
        loop {
            let bounds = self.log.bounds(&self.output, 0).await.unwrap();
            let mut reader =
                self.log.read(&self.output, 0, bounds.start, bounds.end).await.unwrap();
            let mut seen = Vec::new();
            while let Some((records, _)) = reader.next().await.unwrap() {
                seen.extend(records.into_iter().map(|r| r.record.value.unwrap()));
            }
            if seen == values {
                return;
            }
            assert!(Instant::now() < until, "{seen:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn patient<T>(future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("nothing came within {PATIENCE:?}"),
    }
}

/// Waits for the first assignment, which is after the claim.
async fn assigned(member: &mut Transactor) {
    match patient(member.next()).await.unwrap() {
        Delivery::Assigned(assigned) => assigned.resume(),
        other => panic!("expected an assignment, got {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_left_open_by_who_committed_before_is_ended_at_once() {
    let Some(pair) = Pair::begin().await else { return };
    pair.append("a").await;
    let mut dead = pair.member("dead").await;
    pair.copy(&mut dead).await;
    dead.close().await.unwrap();
    let open = pair.die_in_a_transaction("dead");
    pair.append("b").await;
    let begun = Instant::now();
    let mut next = pair.member("next").await;
    pair.copy(&mut next).await;
    pair.shows(&["a", "b"]).await;
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert!(open.commit_transaction(PATIENCE).is_err(), "the dead one is fenced");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_left_open_by_who_had_never_committed_is_ended_too() {
    let Some(pair) = Pair::begin().await else { return };
    let mut dead = pair.member("dead").await;
    assigned(&mut dead).await;
    assert_eq!(pair.log.committed(&pair.group, &pair.input).await.unwrap(), [None]);
    dead.close().await.unwrap();
    let open = pair.die_in_a_transaction("dead");
    pair.append("a").await;
    let begun = Instant::now();
    let mut next = pair.member("next").await;
    pair.copy(&mut next).await;
    pair.shows(&["a"]).await;
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert!(open.commit_transaction(PATIENCE).is_err(), "the dead one is fenced");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_members_of_one_id_the_earlier_ends_and_says_why() {
    let Some(pair) = Pair::begin().await else { return };
    pair.append("a").await;
    let mut earlier = pair.member("same").await;
    let (outputs, positions) = pair.read(&mut earlier).await;
    let _later = pair.member("same").await;
    let refused = patient(earlier.commit(outputs, &positions)).await;
    assert!(matches!(refused, Err(TransactError::Aborted(_))), "{refused:?}");
    let told = loop {
        match patient(earlier.next()).await {
            Ok(Delivery::Revoked(revocation)) => revocation.acknowledge(),
            Ok(other) => panic!("unexpected {other:?}"),
            Err(error) => break error,
        }
    };
    assert!(matches!(&told, LogError::Fatal(why) if why.contains("another process")), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_members_of_one_instance_the_earlier_ends_and_says_why() {
    let Some(pair) = Pair::begin().await else { return };
    let url = format!("kafka://{}", pair.brokers);
    let options = || Options { instance: Some("one".into()), ..Options::default() };
    let mut members = Vec::new();
    for _ in 0..2 {
        let log = eventlog::open(&url, options()).await.unwrap();
        let mut member = log.subscribe(&pair.group, &[&pair.input]).await.unwrap();
        match patient(member.next()).await.unwrap() {
            Delivery::Assigned(assigned) => assigned.resume(),
            other => panic!("expected an assignment, got {other:?}"),
        }
        members.push(member);
    }
    let told = loop {
        match patient(members[0].next()).await {
            Ok(Delivery::Revoked(revocation)) => revocation.acknowledge(),
            Ok(other) => panic!("unexpected {other:?}"),
            Err(error) => break error,
        }
    };
    assert!(matches!(&told, LogError::Fatal(_)), "{told:?}");
    pair.append("a").await;
    match patient(members[1].next()).await.unwrap() {
        Delivery::Batch(batch) => assert_eq!(batch.records.len(), 1),
        other => panic!("expected a record, got {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_named_member_that_turns_to_transactions_does_not_fence_itself() {
    let Some(pair) = Pair::begin().await else { return };
    let options = Options { instance: Some("one".into()), ..Options::default() };
    let log = eventlog::open(&format!("kafka://{}", pair.brokers), options).await.unwrap();
    let mut plain = log.subscribe(&pair.group, &[&pair.input]).await.unwrap();
    match patient(plain.next()).await.unwrap() {
        Delivery::Assigned(assigned) => assigned.resume(),
        other => panic!("expected an assignment, got {other:?}"),
    }
    let mut member = plain.into_transactional(pair.id("one")).await.unwrap();
    pair.append("a").await;
    pair.copy(&mut member).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_record_passes() {
    let Some(pair) = Pair::begin().await else { return };
    let noise = |i: u64| i.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
    let value: Vec<u8> = (0..(8 << 20) / 8 - 64).flat_map(noise).collect();
    let record = Record { value: Some(value.clone().into()), ..Record::default() };
    pair.log.append(&pair.input, vec![record]).await.remove(0).unwrap();
    let mut member = pair.member("one").await;
    let (outputs, positions) = pair.read(&mut member).await;
    assert!(outputs[0].1.value.as_deref() == Some(&value[..]));
    member.commit(outputs, &positions).await.unwrap();
}
