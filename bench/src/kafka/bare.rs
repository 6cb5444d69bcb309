//! The loops that Penstock's services are compared with: the same records, nothing around them.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rdkafka::{
    ClientConfig, ClientContext, Message,
    error::{KafkaError, RDKafkaErrorCode},
    message::BorrowedHeaders,
    producer::{
        BaseProducer, BaseRecord, DeliveryResult, NoCustomPartitioner, ProducerContext,
        ThreadedProducer,
    },
};
use tokio::sync::oneshot;

use super::{Kafka, WITHIN, client};
use crate::{
    measure::{Cost, Meter},
    template::Template,
};

impl Kafka {
    /// The bare producer: idempotent, acknowledged by all replicas, as fast as it goes.
    pub fn produce(&self, topic: &str, mut record: Template, numbers: Range<u64>) -> Result<Cost> {
        let deliveries = Deliveries::default();
        let producer: ThreadedProducer<_> =
            producer(&self.address).create_with_context(deliveries.clone())?;
        let mut sent = 0;
        let mut meter = self.meter()?;
        for number in numbers {
            record.number(number);
            let mut next = BaseRecord::to(topic)
                .key(record.key())
                .payload(record.value())
                .headers(record.headers());
            while let Err((error, back)) = producer.send(next) {
                full(error)?;
                thread::sleep(Duration::from_millis(1));
                next = back;
            }
            sent += 1;
            if sent == 1 {
                // Services have connected before they are measured, so this one has, too.
                deliveries.wait(sent, || thread::sleep(Duration::from_millis(1)))?;
                meter = self.meter()?;
            }
        }
        deliveries.wait(sent, || thread::sleep(Duration::from_micros(500)))?;
        meter.read()
    }

    /// The bare processor: one thread that consumes, parses, modifies and produces, without
    /// transactions, from the start of a topic.
    pub fn copy(&self, from: &str, to: &str, events: u64) -> Result<Cost> {
        let consumer = self.reader(from, "read_uncommitted")?;
        let deliveries = Deliveries::default();
        let producer: BaseProducer<_> =
            producer(&self.address).create_with_context(deliveries.clone())?;
        let mut copied = 0;
        let mut meter = None;
        while copied < events {
            let message = consumer.poll(WITHIN).context("the backlog ends too soon")??;
            if meter.is_none() {
                meter = Some(self.meter()?);
            }
            let mut data: serde_json::Value =
                serde_json::from_slice(message.payload().context("a record without value")?)?;
            modify(&mut data)?;
            let data = serde_json::to_vec(&data)?;
            let mut next = BaseRecord::to(to).payload(&data);
            if let Some(key) = message.key() {
                next = next.key(key);
            }
            if let Some(headers) = message.headers() {
                next = next.headers(BorrowedHeaders::detach(headers));
            }
            while let Err((error, back)) = producer.send(next) {
                full(error)?;
                producer.poll(Duration::from_millis(1));
                next = back;
            }
            copied += 1;
            if copied % 256 == 0 {
                producer.poll(Duration::ZERO);
            }
        }
        deliveries.wait(events, || producer.poll(Duration::from_millis(1)))?;
        meter.context("nothing to copy")?.read()
    }

    /// Watches this process as the bare loop, and the broker.
    fn meter(&self) -> Result<Meter> {
        let watched = [Some(("bare", std::process::id())), self.watched()];
        Meter::start(&watched.into_iter().flatten().collect::<Vec<_>>())
    }
}

/// What the steps of the measured processor do.
fn modify(data: &mut serde_json::Value) -> Result<()> {
    let number = |name: &str| data[name].as_f64().context("no number");
    let total = number("amount")? * number("items")?;
    let country = data["country"].as_str().context("no country")?.to_uppercase();
    data["total"] = total.into();
    data["country"] = country.into();
    Ok(())
}

fn producer(address: &str) -> ClientConfig {
    let mut config = client(address);
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        // As Penstock does, so that broker and disk have the same bytes to take.
        .set("compression.type", "lz4")
        .set("partitioner", "murmur2_random");
    config
}

/// A full queue is waited for; anything else is an error.
fn full(error: KafkaError) -> Result<()> {
    match error {
        KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) => Ok(()),
        error => bail!(error),
    }
}

/// The bare producer for who waits for each record, with the linger of Penstock's.
pub struct AckedProducer(ThreadedProducer<Told>);

/// Tells whoever sent a record.
struct Told;

impl AckedProducer {
    /// One for these brokers.
    pub fn new(brokers: &str) -> Result<Self> {
        let mut config = producer(brokers);
        config.set("linger.ms", "0.2");
        Ok(Self(config.create_with_context(Told)?))
    }

    /// Returns when the brokers have acknowledged the record.
    pub async fn produce(&self, topic: &str, key: &str, value: &[u8]) -> Result<()> {
        let (tell, told) = oneshot::channel();
        let record = BaseRecord::with_opaque_to(topic, Box::new(tell)).key(key).payload(value);
        self.0.send(record).map_err(|(error, _)| error)?;
        Ok(told.await??)
    }
}

impl ClientContext for Told {}

impl ProducerContext<NoCustomPartitioner> for Told {
    type DeliveryOpaque = Box<oneshot::Sender<Result<(), KafkaError>>>;

    fn delivery(&self, result: &DeliveryResult<'_>, tell: Self::DeliveryOpaque) {
        let result = result.as_ref().map(|_| ()).map_err(|(error, _)| error.clone());
        let _ = tell.send(result); // who asked may have gone
    }
}

/// Counts what became of records.
#[derive(Clone, Default)]
struct Deliveries {
    delivered: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
}

impl Deliveries {
    fn wait(&self, events: u64, pause: impl Fn()) -> Result<()> {
        let deadline = Instant::now() + WITHIN;
        while self.delivered.load(Ordering::Relaxed) < events {
            let failed = self.failed.load(Ordering::Relaxed);
            ensure!(failed == 0, "{failed} records were not delivered");
            ensure!(Instant::now() < deadline, "not all records were delivered in time");
            pause();
        }
        Ok(())
    }
}

impl ClientContext for Deliveries {}

impl ProducerContext<NoCustomPartitioner> for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let counter = if result.is_ok() { &self.delivered } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
