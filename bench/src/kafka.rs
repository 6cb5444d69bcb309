//! The broker under the services: its topics, and what is in them.
//!
//! It deletes topics, so it works only on a broker that is the bench's own: one without events, or one
//! that it marked before.

mod bare;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;
use eventlog::{Options, Retention, TopicSpec};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
};
use schemas::topics;

pub use self::bare::AckedProducer;
use crate::{
    load,
    measure::{self, Watched},
};

const PARTITIONS: u32 = 4;
const MARK: &str = "bench.mark";
const WITHIN: Duration = Duration::from_secs(60);

/// Where Kafka is.
#[derive(Args, Clone, Debug)]
pub struct KafkaArg {
    /// A broker of the bench's own: topics of events are deleted on it.
    #[arg(long, env = "PENSTOCK_TEST_KAFKA", value_name = "HOST:PORT")]
    pub kafka: String,
}

/// A broker of our own.
#[derive(Clone)]
pub struct Kafka {
    address: String,
    admin: Arc<AdminClient<DefaultClientContext>>,
}

impl Kafka {
    /// Takes a broker that has no events, or whose events are an earlier bench's, which are deleted.
    pub async fn fresh(arg: &KafkaArg) -> Result<Self> {
        let admin = Arc::new(client(&arg.kafka).create()?);
        let kafka = Self { address: arg.kafka.clone(), admin };
        let mut known = kafka.topics()?;
        if !known.iter().any(|topic| topic == MARK) {
            ensure!(
                !known.iter().any(|topic| topic == topics::RAW),
                "{} holds events that are not a bench's: start a broker for it alone",
                arg.kafka
            );
            let mark = NewTopic::new(MARK, 1, TopicReplication::Fixed(1));
            kafka.admin.create_topics(&[mark], &AdminOptions::new()).await?;
        }
        known.retain(|topic| topic != MARK && !topic.starts_with("__"));
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        kafka.delete(&known).await?;
        kafka.make(&[topics::RAW, topics::CLEAN, topics::DEAD_LETTERS]).await?;
        Ok(kafka)
    }

    /// The lines of a configuration that name it.
    pub fn config(&self) -> String {
        format!("[log]\nurl = \"kafka://{}\"\n[topics]\npartitions = {PARTITIONS}\n", self.address)
    }

    /// Gives the type of the load's events a schema, as a service would find it.
    pub async fn register(&self, schema: &str) -> Result<()> {
        let log = eventlog::open(&format!("kafka://{}", self.address), Options::default()).await?;
        let registry = schemas::Registry::open(log).await?;
        registry.register("default", load::TYPE, schema).await?;
        Ok(())
    }

    /// Where it is.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The broker, to be watched, if it runs on this machine.
    pub fn watched(&self) -> Option<Watched> {
        measure::listener(&self.address).map(|pid| ("Kafka", pid))
    }

    /// Makes topics as the services would.
    pub async fn make(&self, names: &[&str]) -> Result<()> {
        let log = eventlog::open(&format!("kafka://{}", self.address), Options::default()).await?;
        let age = Some(Duration::from_secs(7 * 24 * 60 * 60));
        let spec = |name: &&str| TopicSpec {
            name: (*name).into(),
            partitions: PARTITIONS,
            replication: None,
            retention: Retention::Delete { age, bytes: None },
        };
        Ok(log.ensure_topics(&names.iter().map(spec).collect::<Vec<_>>()).await?)
    }

    /// Deletes topics and waits until they are gone.
    pub async fn delete(&self, names: &[&str]) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        for deleted in self.admin.delete_topics(names, &AdminOptions::new()).await? {
            deleted.map_err(|(topic, code)| anyhow!("cannot delete {topic}: {code}"))?;
        }
        let deadline = Instant::now() + WITHIN;
        while self.topics()?.iter().any(|topic| names.contains(&topic.as_str())) {
            ensure!(Instant::now() < deadline, "deleted topics are still there");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    fn topics(&self) -> Result<Vec<String>> {
        let metadata = self.admin.inner().fetch_metadata(None, WITHIN)?;
        Ok(metadata.topics().iter().map(|topic| topic.name().to_owned()).collect())
    }

    /// How many records a reader sees that reads only what is committed.
    pub fn committed(&self, topic: &str) -> Result<u64> {
        let consumer = self.reader(topic, "read_committed")?;
        let (mut count, mut ended) = (0, 0);
        while ended < PARTITIONS {
            match consumer.poll(WITHIN).context("a topic does not answer")? {
                Ok(_) => count += 1,
                Err(KafkaError::PartitionEOF(_)) => ended += 1,
                Err(error) => bail!(error),
            }
        }
        Ok(count)
    }

    fn reader(&self, topic: &str, isolation: &str) -> Result<BaseConsumer> {
        let consumer: BaseConsumer = client(&self.address)
            .set("group.id", "bench")
            .set("enable.auto.commit", "false")
            .set("isolation.level", isolation)
            .set("enable.partition.eof", (isolation == "read_committed").to_string())
            // A second by default: it would stall a reader that is faster than its queue.
            .set("fetch.queue.backoff.ms", "5")
            .create()?;
        let mut all = TopicPartitionList::new();
        for partition in 0..PARTITIONS as i32 {
            all.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&all)?;
        Ok(consumer)
    }
}

fn client(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address);
    config
}
