//! Kafka behind TLS and SASL: everything works as without, and what is wrong is told without secrets.
#![cfg(feature = "kafka-tls")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use eventlog::{Delivery, Log, LogError, Options, Record, Retention, TopicSpec};

const USER: &str = "penstock";
/// As `e2e/backends/kafka.sh` makes it.
const PASSWORD: &str = "secret-word";

/// The listener with TLS and the file of its certificate; `None` skips, except in CI.
fn listener() -> Option<(String, String)> {
    let of = |name| std::env::var(name).ok();
    match (of("PENSTOCK_TEST_KAFKA_TLS"), of("PENSTOCK_TEST_KAFKA_CA")) {
        (Some(brokers), Some(certificate)) => Some((brokers, certificate)),
        _ if std::env::var_os("CI").is_some() => panic!("PENSTOCK_TEST_KAFKA_TLS is not set"),
        _ => {
            eprintln!("skipped: PENSTOCK_TEST_KAFKA_TLS names no broker");
            None
        }
    }
}

/// Options with librdkafka's properties for this listener; empty values are left out.
fn options(mechanism: &str, password: &str, certificate: &str) -> Options {
    let properties = [
        ("security.protocol", "SASL_SSL"),
        ("sasl.mechanism", mechanism),
        ("sasl.username", USER),
        ("sasl.password", password),
        ("ssl.ca.location", certificate),
    ];
    let set = properties.into_iter().filter(|(_, value)| !value.is_empty());
    Options {
        properties: set.map(|(name, value)| (name.into(), value.into())).collect(),
        commit_deadline: Duration::from_secs(5),
        ..Options::default()
    }
}

async fn open(brokers: &str, options: Options) -> Result<Log, LogError> {
    eventlog::open(&format!("kafka://{brokers}"), options).await
}

fn topic(what: &str) -> TopicSpec {
    let name = format!("tls-{what}-{}", uuid::Uuid::new_v4().simple());
    let retention = Retention::Delete { age: None, bytes: None };
    TopicSpec { name: name.as_str().into(), partitions: 1, replication: None, retention }
}

/// A record comes in, goes through a transaction, and is read.
async fn passes(mechanism: &str) {
    let Some((brokers, certificate)) = listener() else { return };
    let log = open(&brokers, options(mechanism, PASSWORD, &certificate)).await.unwrap();
    let (input, output) = (topic("in"), topic("out"));
    log.ensure_topics(&[input.clone(), output.clone()]).await.unwrap();
    let record = Record { value: Some(b"sealed".to_vec().into()), ..Record::default() };
    log.append(&input.name, vec![record]).await.remove(0).unwrap();

    let member = log.subscribe(&format!("{}-group", input.name), &[&input.name]).await.unwrap();
    let mut member = member.into_transactional(format!("{}-id", input.name)).await.unwrap();
    let batch = loop {
        let next = tokio::time::timeout(Duration::from_secs(30), member.next()).await.unwrap();
        match next.unwrap() {
            Delivery::Assigned(assigned) => assigned.resume(),
            Delivery::Batch(batch) if !batch.records.is_empty() => break batch,
            Delivery::Batch(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    };
    let outputs = vec![(output.name.clone(), batch.records[0].record.clone())];
    member.commit(outputs, &[(batch.lease, batch.next)]).await.unwrap();
    let bounds = log.bounds(&output.name, 0).await.unwrap();
    let mut reader = log.read(&output.name, 0, bounds.start, bounds.end).await.unwrap();
    let (read, _) = reader.next().await.unwrap().unwrap();
    assert_eq!(read[0].record.value.as_deref(), Some(&b"sealed"[..]));
    member.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_pass_with_scram() {
    passes("SCRAM-SHA-512").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_pass_with_plain() {
    passes("PLAIN").await;
}

/// What is said of it when a topic is asked for.
async fn refusal(options: Options) -> Option<String> {
    let (brokers, _) = listener()?;
    let asked = match open(&brokers, options).await {
        Ok(log) => log.ensure_topics(&[topic("refused")]).await,
        Err(error) => Err(error),
    };
    Some(asked.unwrap_err().to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_told_and_not_shown() {
    let Some((_, certificate)) = listener() else { return };
    let told = refusal(options("SCRAM-SHA-512", "hunter2", &certificate)).await.unwrap();
    assert!(told.to_lowercase().contains("authentication"), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_nobody_vouches_for_is_told() {
    let Some(told) = refusal(options("PLAIN", PASSWORD, "")).await else { return };
    assert!(told.to_lowercase().contains("ssl") || told.contains("certificate"), "{told}");
    assert!(!told.contains(PASSWORD), "{told}");
}
