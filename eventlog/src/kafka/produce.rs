//! Appending: records go to librdkafka's queue, and the answer is what the brokers say.
//!
//! Nothing waits for room in the queue: what does not fit is put off at once, and with it everything
//! behind it in the same request, so that the order within a key holds. librdkafka gives a record up
//! shortly before the caller would, so the caller hears from it; what was given up may have been stored.

use std::{
    sync::{Arc, Mutex, RwLock},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig,
    error::KafkaError,
    producer::{BaseRecord, Producer as _, ThreadedProducer},
    types::RDKafkaErrorCode as Code,
};

use super::{
    client::Clients,
    deliveries::{Deliveries, Results},
    errors::{append_error, tell},
    observe::{Role, locked},
    record,
};
use crate::{AppendError, LogError, Metrics, Record};

/// A producer that failed for good is made anew, but not twice within this time.
const REBUILD: Duration = Duration::from_secs(60);
/// How long the end of a log waits for records that nobody waits for any more.
const DRAIN: Duration = Duration::from_secs(5);
/// An append that takes longer lets somebody look whether brokers answer at all.
const DOUBT: Duration = Duration::from_secs(3);
/// So many records are handed over before other tasks get their turn.
const TURN: usize = 1024;

/// A producer with a thread of its own that polls it.
pub(super) struct Producer {
    inner: Option<ThreadedProducer<Deliveries>>,
}

impl Producer {
    pub fn new(clients: &Clients, config: &ClientConfig, role: Role) -> Result<Self, LogError> {
        let deliveries = Deliveries::new(clients.observer(role));
        let inner = config.create_with_context(deliveries).map_err(|error| {
            let told = creation(&error);
            LogError::Fatal(format!("no producer can be made with these log.properties: {told}"))
        })?;
        Ok(Self { inner: Some(inner) })
    }

    /// What rdkafka offers beyond this.
    pub fn native(&self) -> &ThreadedProducer<Deliveries> {
        match &self.inner {
            Some(inner) => inner,
            None => unreachable!("it is taken out only when it is dropped"),
        }
    }

    pub fn deliveries(&self) -> &Deliveries {
        self.native().client().context()
    }

    /// Hands records over, to a partition or wherever their keys belong, and waits for the reports.
    pub async fn send(
        &self,
        topic: &str,
        partition: Option<i32>,
        records: Vec<Record>,
        max_bytes: usize,
        deadline: Duration,
    ) -> Results {
        let (count, deliveries) = (records.len(), self.deliveries());
        if count == 0 {
            return Vec::new();
        }
        let until = tokio::time::Instant::now() + deadline;
        let (place, mut results) = deliveries.open(count);
        let mut rest = Rest { deliveries, place, from: 0, count };
        for record in records {
            if rest.from % TURN == TURN - 1 {
                tokio::task::yield_now().await;
            }
            let at = rest.from;
            rest.from += 1;
            if let Err(error) = self.hand_over(topic, partition, record, place, at, max_bytes) {
                deliveries.settle(place, at..at + 1, &error);
                if matches!(error, AppendError::Retry(_)) {
                    deliveries.settle(place, at + 1..count, &error);
                    rest.from = count;
                    break;
                }
            }
        }
        drop(rest);
        let mut answer = tokio::time::timeout(DOUBT.min(deadline), &mut results).await;
        if answer.is_err() {
            // A broker that hangs is not told of by librdkafka for half a minute.
            deliveries.suspect();
            answer = tokio::time::timeout_at(until, &mut results).await;
        }
        match answer {
            Ok(Ok(results)) => results,
            // The producer is gone, or the reports are late.
            Ok(Err(_)) | Err(_) => deliveries.so_far(place, count, &mut results),
        }
    }

    fn hand_over(
        &self,
        topic: &str,
        partition: Option<i32>,
        record: Record,
        place: u32,
        at: usize,
        max_bytes: usize,
    ) -> Result<(), AppendError> {
        let size = record.size();
        if size > max_bytes {
            return Err(AppendError::Refused(format!(
                "the record has {size} bytes, more than {max_bytes}"
            )));
        }
        let mut base = BaseRecord::with_opaque_to(topic, Deliveries::word(place, at));
        base.partition = partition;
        base.key = record.key.as_deref();
        base.payload = record.value.as_deref();
        base.headers = record::outgoing(&record.headers)?;
        self.native().send(base).map_err(|(error, _)| {
            if error.rdkafka_error_code() == Some(Code::Fatal) {
                self.deliveries().set_fatal(tell(&error));
            }
            append_error(&error, false)
        })
    }

    /// Waits until librdkafka has let go of what was reported; a commit would else wait for it in
    /// steps of 100 ms.
    pub fn settle(&self) {
        let until = Instant::now() + Duration::from_millis(50);
        while self.native().in_flight_count() > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}

/// What was not handed over when a request ends early is put off, so that its place comes free.
struct Rest<'a> {
    deliveries: &'a Deliveries,
    place: u32,
    from: usize,
    count: usize,
}

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        if self.from < self.count {
            let ended = AppendError::Retry("the request ended before it was sent".into());
            self.deliveries.settle(self.place, self.from..self.count, &ended);
        }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else { return };
        // Dropping a producer throws away what is queued, and blocks. Usually nothing is.
        let pending = inner.in_flight_count() > 0;
        let (done, drained) = std::sync::mpsc::channel::<()>();
        let drain = move || {
            if pending && let Err(error) = inner.flush(DRAIN) {
                let (left, error) = (inner.in_flight_count(), tell(&error));
                tracing::warn!(left, error, "records were still on their way when the log closed");
            }
            drop(done);
            drop(inner);
        };
        let thread = std::thread::Builder::new().name("kafka drain".into()).spawn(drain);
        if thread.is_ok() && pending {
            let _ = drained.recv_timeout(DRAIN); // answers by closing
        }
    }
}

/// The producer of `append`, made anew when it fails for good.
pub(super) struct Appender {
    clients: Arc<Clients>,
    producer: RwLock<Arc<Producer>>,
    rebuilt: Mutex<Option<Instant>>,
}

impl Appender {
    pub fn new(clients: Arc<Clients>) -> Result<Self, LogError> {
        let producer = Producer::new(&clients, &clients.producer(), Role::Producer)?;
        Ok(Self { clients, producer: RwLock::new(Arc::new(producer)), rebuilt: Mutex::default() })
    }

    /// The producer as it is.
    pub fn current(&self) -> Arc<Producer> {
        self.producer.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Appends to a topic that exists.
    pub async fn append(&self, topic: &Arc<str>, records: Vec<Record>) -> Results {
        let options = &self.clients.options;
        let (started, count) = (Instant::now(), records.len());
        // What would wait in the queue until it is given up may as well be told now, and truly.
        if let Err(error) = self.clients.health.status() {
            options.metrics.deferred.inc();
            return vec![Err(AppendError::Retry(error.to_string())); count];
        }
        let producer = match self.working() {
            Ok(producer) => producer,
            Err(why) => return vec![Err(AppendError::Retry(why)); count],
        };
        let sizes: Vec<_> = records.iter().map(Record::size).collect();
        let results = producer
            .send(topic, None, records, options.max_record_bytes, options.commit_deadline)
            .await;
        count_results(&options.metrics, topic, &sizes, &results);
        options.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
        results
    }

    /// The producer, or a new one in place of one that failed for good.
    fn working(&self) -> Result<Arc<Producer>, String> {
        let current = self.current();
        let Some(why) = current.deliveries().fatal() else { return Ok(current) };
        let mut rebuilt = locked(&self.rebuilt);
        let mut place = self.producer.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !Arc::ptr_eq(&place, &current) {
            return Ok(place.clone()); // another request was here first
        }
        if rebuilt.is_some_and(|then| then.elapsed() < REBUILD) {
            let why = format!("the producer failed twice: {why}");
            self.clients.health.fail(why.clone());
            return Err(why);
        }
        tracing::warn!(why, "the producer failed and is made anew");
        *rebuilt = Some(Instant::now());
        let producer = Producer::new(&self.clients, &self.clients.producer(), Role::Producer);
        *place = Arc::new(producer.map_err(|error| error.to_string())?);
        Ok(place.clone())
    }
}

fn count_results(metrics: &Metrics, topic: &Arc<str>, sizes: &[usize], results: &Results) {
    let (mut records, mut bytes, mut deferred) = (0, 0, false);
    for (size, result) in sizes.iter().zip(results) {
        match result {
            Ok(_) => (records, bytes) = (records + 1, bytes + *size as u64),
            Err(AppendError::Retry(_)) => deferred = true,
            Err(_) => {}
        }
    }
    Metrics::of(&metrics.appended_records, topic).inc_by(records);
    Metrics::of(&metrics.appended_bytes, topic).inc_by(bytes);
    metrics.deferred.inc_by(u64::from(deferred));
}

/// Why a client could not be made. librdkafka names the properties that do not go together; their
/// values, numbers and modes, are in its text only where they conflict.
fn creation(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientCreation(text) => text.clone(),
        other => tell(other),
    }
}
