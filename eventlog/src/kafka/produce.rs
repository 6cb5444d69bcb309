//! Appending: records go to librdkafka's queue, and the answer is what the brokers say.
//!
//! Nothing waits for room: what does not fit is put off at once, and with it everything behind it in
//! the same request, so that the order within a key holds. librdkafka gets the records of a partition
//! in bursts (see `lanes`), in the order in which they came. It gives a record up shortly before the
//! caller would, so the caller hears from it; what was given up may have been stored.

use std::{
    sync::{
        Arc, Mutex, RwLock, Weak,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig,
    error::KafkaError,
    message::OwnedHeaders,
    producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer},
    types::RDKafkaErrorCode as Code,
};
use tokio::sync::mpsc;

use super::{
    client::Clients,
    deliveries::{Deliveries, MOST_RECORDS, Results},
    errors::{append_error, is_unknown, tell},
    lanes::{Burst, Waiting},
    observe::{Role, locked},
    record,
};
use crate::{AppendError, LogError, Metrics, Options, Record, partition_for};

/// A producer that failed for good is made anew, but not twice within this time.
const REBUILD: Duration = Duration::from_secs(60);
/// How long the end of a log waits for records that nobody waits for any more.
const DRAIN: Duration = Duration::from_secs(5);
/// An append that takes longer lets somebody look whether brokers answer at all.
const DOUBT: Duration = Duration::from_secs(3);

/// A producer with a thread of its own that polls it, and a task that hands records over.
pub(super) struct Producer {
    inner: Option<ThreadedProducer<Deliveries>>,
    /// Spreads records without a key.
    spread: AtomicU32,
    /// Held while a burst is handed over.
    giving: Mutex<()>,
}

impl Producer {
    /// Needs a tokio runtime.
    pub fn new(
        clients: &Clients,
        config: &ClientConfig,
        role: Role,
    ) -> Result<Arc<Self>, LogError> {
        let (deliveries, named) = Deliveries::new(clients.observer(role));
        let inner = config.create_with_context(deliveries).map_err(|error| {
            let told = creation(&error);
            LogError::Fatal(format!("no producer can be made with these log.properties: {told}"))
        })?;
        let (inner, spread, giving) = (Some(inner), AtomicU32::default(), Mutex::default());
        let producer = Arc::new(Self { inner, spread, giving });
        tokio::spawn(hand_over(Arc::downgrade(&producer), named));
        Ok(producer)
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

    /// Sends records to the partitions of a topic where their keys belong, and waits for the reports.
    pub async fn send(
        &self,
        topic: &Arc<str>,
        partitions: u32,
        records: Vec<Record>,
        options: &Options,
    ) -> Results {
        let (count, deliveries) = (records.len(), self.deliveries());
        if count == 0 {
            return Vec::new();
        }
        let put_off = |why: &str| vec![Err(AppendError::Retry(why.into())); count];
        if count > MOST_RECORDS {
            return put_off("more records at once than can be told apart");
        }
        let until = tokio::time::Instant::now() + options.commit_deadline;
        let Some((place, mut results)) = deliveries.open(count) else {
            return put_off("too many appends are under way");
        };
        let mut entering = Vec::with_capacity(count);
        for (at, record) in records.into_iter().enumerate() {
            let (size, most) = (record.size(), options.max_record_bytes);
            if size > most {
                let why = format!("the record has {size} bytes, more than {most}");
                deliveries.refuse(place, at, AppendError::Refused(why));
                continue;
            }
            let partition = self.partition(&record, partitions);
            entering.push((partition, Waiting { record, place, at, until }));
        }
        for Waiting { at, .. } in deliveries.lanes.enter(topic, entering, options.max_queued_bytes)
        {
            let full = AppendError::Retry("the queue of appends is full".into());
            deliveries.refuse(place, at, full);
        }
        let doubt = DOUBT.min(options.commit_deadline);
        let mut answer = tokio::time::timeout(doubt, &mut results).await;
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

    fn partition(&self, record: &Record, partitions: u32) -> u32 {
        match &record.key {
            Some(key) => partition_for(key, partitions),
            None => self.spread.fetch_add(1, Relaxed) % partitions.max(1),
        }
    }

    /// Gives a burst to librdkafka. What does not fit is put off, and with it all behind it, so that
    /// order within a key holds.
    ///
    /// Headers are made first, because they take most of the time: what comes apart by more than the
    /// linger is sent in pieces.
    fn give(&self, Burst { lane, topic, partition, records }: Burst) {
        let partition = i32::try_from(partition).unwrap_or(i32::MAX);
        let headers: Vec<_> =
            records.iter().map(|waiting| record::outgoing(&waiting.record.headers)).collect();
        let mut put_off = None;
        for (waiting, headers) in records.into_iter().zip(headers) {
            let word = Deliveries::word(waiting.place, lane, waiting.at);
            let given = match &put_off {
                None => self.give_one(&topic, partition, &waiting, headers, word),
                Some(why) => Err(AppendError::clone(why)),
            };
            if let Err(error) = given {
                if matches!(error, AppendError::Retry(_)) && put_off.is_none() {
                    put_off = Some(error.clone());
                }
                self.deliveries().settle(word, Err(error));
            }
        }
    }

    fn give_one(
        &self,
        topic: &str,
        partition: i32,
        waiting: &Waiting,
        headers: Result<Option<OwnedHeaders>, AppendError>,
        word: usize,
    ) -> Result<(), AppendError> {
        if waiting.until <= tokio::time::Instant::now() {
            return Err(AppendError::Retry("it was not sent in time".into()));
        }
        let record = &waiting.record;
        let mut base = BaseRecord::with_opaque_to(topic, word).partition(partition);
        base.key = record.key.as_deref();
        base.payload = record.value.as_deref();
        base.headers = headers?;
        self.native().send(base).map_err(|(error, _)| {
            match error.rdkafka_error_code() {
                Some(Code::Fatal) => self.deliveries().set_fatal(tell(&error)),
                Some(code) if is_unknown(code) => self.deliveries().doubt(topic),
                _ => {}
            }
            append_error(&error, false)
        })
    }

    /// Hands over all that waits, and waits until it is delivered, for a time.
    fn drain(&self) {
        let giving = locked(&self.giving);
        for burst in self.deliveries().lanes.rest() {
            self.give(burst);
        }
        drop(giving); // the task that hands over finds nothing more
        if self.native().in_flight_count() > 0
            && let Err(error) = self.native().flush(DRAIN)
        {
            let (left, error) = (self.native().in_flight_count(), tell(&error));
            tracing::warn!(left, error, "records were still on their way when the log closed");
        }
    }

    /// Waits until librdkafka has let go of what was reported; a commit would else wait for it in
    /// steps of 100 ms.
    pub fn settle(&self) {
        idle(self.native(), Duration::from_millis(50), Duration::from_micros(50));
    }
}

/// Waits until a producer has no record under way and no report to give, looking every so often;
/// whether it came to that within a time.
pub(super) fn idle<C: ProducerContext>(
    producer: &ThreadedProducer<C>,
    within: Duration,
    every: Duration,
) -> bool {
    let until = Instant::now() + within;
    while producer.in_flight_count() > 0 {
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(every);
    }
    true
}

/// Hands over the bursts of lanes that are named. In a task of its own, because a request that is
/// given up half-way would leave a lane without the answers it waits for.
async fn hand_over(producer: Weak<Producer>, mut named: mpsc::UnboundedReceiver<u16>) {
    while let Some(lane) = named.recv().await {
        let Some(producer) = producer.upgrade() else { return };
        let giving = locked(&producer.giving);
        if let Some(burst) = producer.deliveries().lanes.burst(lane) {
            producer.give(burst);
        }
        drop(giving);
        drop(producer);
        tokio::task::yield_now().await;
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else { return };
        // Dropping a producer throws away what is queued, and blocks.
        let dropping = move || drop(inner);
        let _ = std::thread::Builder::new().name("kafka drop".into()).spawn(dropping);
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
        Ok(Self { clients, producer: RwLock::new(producer), rebuilt: Mutex::default() })
    }

    /// The producer as it is.
    pub fn current(&self) -> Arc<Producer> {
        self.producer.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Whether an append may be answered at all: what would wait in the queue until it is given up may as well
    /// be told now, and truly.
    pub fn ready(&self) -> Result<(), LogError> {
        let status = self.clients.health.status();
        self.clients.options.metrics.deferred.inc_by(u64::from(status.is_err()));
        status
    }

    /// Appends to a topic of so many partitions.
    pub async fn append(&self, topic: &Arc<str>, partitions: u32, records: Vec<Record>) -> Results {
        let options = &self.clients.options;
        let (started, count) = (Instant::now(), records.len());
        let producer = match self.working() {
            Ok(producer) => producer,
            Err(why) => return vec![Err(AppendError::Retry(why)); count],
        };
        let sizes: Vec<_> = records.iter().map(Record::size).collect();
        let results = producer.send(topic, partitions, records, options).await;
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
        *place = producer.map_err(|error| error.to_string())?;
        Ok(place.clone())
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        // What nobody waits for any more is delivered nevertheless. Not left to the producer's own end:
        // the task that hands over may be the last to have it, and whoever drops the log goes on.
        self.current().drain();
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
    metrics.appended(topic, records, bytes);
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
