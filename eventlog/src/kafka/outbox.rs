//! A producer of transactions: what it does in each step, and what an error means for the next.
//!
//! Only failed deliveries are reported: of the others it is enough that none is left under way. Waiting
//! for that here, before the commit, spares librdkafka's own pause of 100 ms. Every call has a timeout,
//! and yet `send_offsets_to_transaction` may never return when brokers went away under it (librdkafka
//! waits for a state of the coordinator that does not change). So calls are made on a thread of their
//! own; one that does not return is left behind with it and the producer, and fails. The next producer
//! of the same id fences that one.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext, Message, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::ConsumerGroupMetadata,
    error::{KafkaError, RDKafkaError},
    message::DeliveryResult,
    producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer},
    types::RDKafkaErrorCode as Code,
};

use super::{
    errors,
    member::Shared,
    observe::{Observer, Role},
    produce::idle,
    record,
};
use crate::{AppendError, LogError, Record};

/// How long one call may take before it is repeated.
const STEP: Duration = Duration::from_secs(5);
/// A call that takes longer, in time that this process really lived, does not come back.
const HUNG: Duration = Duration::from_secs(8);
const TICK: Duration = Duration::from_millis(500);
/// So many calls may hang at once before the process ends: each keeps a producer with it.
const MOST_HUNG: u32 = 3;
/// How long records may take to all replicas.
const DELIVERED: Duration = Duration::from_secs(15);
/// How often it is looked whether records are still under way.
const LOOK: Duration = Duration::from_micros(200);
/// Offsets that were not taken by then are given up with their transaction.
const OFFSETS: Duration = Duration::from_secs(10);
/// As [`STEP`] and [`HUNG`], for offsets: the one call that is known to hang, when brokers have just come back, and what
/// a processor then waits for.
const OFFSETS_STEP: Duration = Duration::from_secs(3);
const OFFSETS_HUNG: Duration = Duration::from_millis(4_500);
/// The broker is still finishing a transaction when it has answered; asked too early, librdkafka
/// waits for 20 ms.
const BREATH: Duration = Duration::from_millis(3);

/// Why a transaction did not happen.
#[derive(Debug)]
pub(super) enum Failure {
    /// It is to be aborted; what it held comes again.
    Abort(String),
    /// It is to be aborted, and would fail again.
    Refused(LogError),
    /// The producer is of no use any more. `fenced`: because of another one of its id.
    Broken { reason: String, fenced: bool },
}

type Native = ThreadedProducer<Deliveries>;
type Job = Box<dyn FnOnce(&Native) + Send>;

/// The producer.
pub(super) struct Outbox {
    producer: Arc<Native>,
    /// Where calls are made, until it ends.
    calls: Option<(mpsc::Sender<Job>, thread::JoinHandle<()>)>,
    /// A call does not return.
    hangs: AtomicBool,
    shared: Arc<Shared>,
    open: bool,
    ended: Instant,
}

impl Outbox {
    /// Makes the producer and ends what an earlier one of this id left open; fences that one. Tries
    /// while the cluster does not answer, up to a deadline if there is one.
    pub fn new(shared: &Arc<Shared>, id: &str, deadline: Option<Instant>) -> Result<Self, Failure> {
        let clients = &shared.core.clients;
        let observer = clients.observer(Role::Transactions);
        let context = Deliveries { observer, failed: Mutex::default() };
        let mut config = clients.transactional_producer(id);
        // A report for each record takes a tenth of a processor's CPU.
        config.set("delivery.report.only.error", "true");
        let producer: Native = config.create_with_context(context).map_err(|e| {
            let told = errors::tell(&e);
            Failure::Refused(LogError::Fatal(format!("no producer for transactions: {told}")))
        })?;
        let producer = Arc::new(producer);
        let calls = begin_calls(producer.clone()).map_err(|e| {
            Failure::Refused(LogError::Fatal(format!("no thread for transactions: {e}")))
        })?;
        let outbox = Self {
            producer,
            calls: Some(calls),
            hangs: AtomicBool::new(false),
            shared: shared.clone(),
            open: false,
            ended: Instant::now(),
        };
        let ready = outbox
            .repeat("init_transactions", deadline, |producer| producer.init_transactions(STEP));
        ready.map(|()| outbox)
    }

    /// Begins a transaction.
    pub fn begin(&mut self) -> Result<(), Failure> {
        thread::sleep(BREATH.saturating_sub(self.ended.elapsed()));
        let begun = self.producer.begin_transaction();
        begun.map_err(|e| self.failure("begin", &e))?;
        self.open = true;
        Ok(())
    }

    /// Whether a transaction has begun and not ended.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Sends records and waits until all replicas have them. librdkafka copies each, and here it is
    /// let go of at once.
    pub fn send(&mut self, outputs: Vec<(Arc<str>, Record)>) -> Result<(), Failure> {
        *self.failed() = None;
        for (topic, record) in outputs {
            self.send_one(&topic, &record)?;
        }
        let complete = self.delivered(DELIVERED);
        let failed = self.failed().take();
        if let Some((code, topic)) = failed {
            let error = KafkaError::MessageProduction(code);
            return Err(match errors::append_error(&error, true) {
                AppendError::Refused(told) => refused(&topic, &told),
                _ => self.failure("a delivery", &error),
            });
        }
        if complete { Ok(()) } else { Err(Failure::Abort("records are not delivered".into())) }
    }

    fn send_one(&mut self, topic: &str, record: &Record) -> Result<(), Failure> {
        let headers = match record::outgoing(&record.headers) {
            Ok(headers) => headers,
            Err(error) => return Err(refused(topic, &error.to_string())),
        };
        let mut message = BaseRecord::<[u8], [u8]>::to(topic);
        message.key = record.key.as_deref();
        message.payload = record.value.as_deref();
        message.headers = headers;
        let mut full_until = None;
        while let Err((error, back)) = self.producer.send(message) {
            match error.rdkafka_error_code() {
                Some(Code::QueueFull)
                    if Instant::now() < *full_until.get_or_insert(Instant::now() + DELIVERED) =>
                {
                    thread::sleep(Duration::from_millis(1));
                    message = back;
                }
                Some(Code::MessageSizeTooLarge) => {
                    return Err(refused(topic, &errors::tell(&error)));
                }
                _ => return Err(self.failure("send", &error)),
            }
        }
        Ok(())
    }

    /// Waits until no record is under way any more, or a time. What failed was told by then: librdkafka
    /// counts a record until its report is done.
    fn delivered(&self, within: Duration) -> bool {
        idle(&self.producer, within, LOOK)
    }

    /// Adds positions; `group` answers, anew for each try, who we are, or why not to go on.
    pub fn offsets(
        &self,
        positions: &TopicPartitionList,
        group: impl Fn() -> Result<ConsumerGroupMetadata, Failure>,
    ) -> Result<(), Failure> {
        let until = Instant::now() + OFFSETS;
        let mut pause = Pause::default();
        loop {
            let metadata = group()?;
            let positions = positions.clone();
            let call = move |producer: &Native| {
                producer.send_offsets_to_transaction(&positions, &metadata, OFFSETS_STEP)
            };
            match self.call("send_offsets_to_transaction", OFFSETS_HUNG, call)? {
                Ok(()) => return Ok(()),
                Err(KafkaError::Transaction(error)) if error.is_retriable() => {
                    if Instant::now() >= until {
                        return Err(Failure::Abort(told("positions", &error)));
                    }
                    pause.wait();
                }
                Err(error) => return Err(self.failure("positions", &error)),
            }
        }
    }

    /// Commits. Tries until there is an answer, because without one nobody knows what happened.
    pub fn commit(&mut self) -> Result<(), Failure> {
        let done = self.repeat("commit", None, |producer| producer.commit_transaction(STEP));
        self.ended = Instant::now();
        done?;
        self.open = false;
        Ok(())
    }

    /// Aborts. Tries until there is an answer, as for a commit.
    pub fn abort(&mut self) -> Result<(), Failure> {
        let done = self.repeat("abort", None, |producer| producer.abort_transaction(STEP));
        self.ended = Instant::now();
        done?;
        self.open = false;
        // What was purged is reported, too, but maybe not yet.
        self.delivered(STEP);
        Ok(())
    }

    fn repeat(
        &self,
        what: &'static str,
        deadline: Option<Instant>,
        call: fn(&Native) -> Result<(), KafkaError>,
    ) -> Result<(), Failure> {
        let mut pause = Pause::default();
        loop {
            match self.call(what, HUNG, call)? {
                Ok(()) => return Ok(()),
                Err(KafkaError::Transaction(error)) if error.is_retriable() => {
                    if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                        return Err(Failure::Abort(told(what, &error)));
                    }
                    tracing::debug!(what, error = error.name(), "trying again");
                }
                // Before a commit librdkafka is flushed, which only takes time.
                Err(KafkaError::Flush(_)) => {}
                Err(error) => return Err(self.failure(what, &error)),
            }
            if self.shared.closing.load(Ordering::Relaxed) {
                return Err(Failure::Abort(format!("{what} was given up: closing")));
            }
            pause.wait();
        }
    }

    /// Makes a call, or leaves it behind after a time. While no broker answers it may take as long as that lasts.
    fn call(
        &self,
        what: &'static str,
        hung: Duration,
        call: impl FnOnce(&Native) -> Result<(), KafkaError> + Send + 'static,
    ) -> Result<Result<(), KafkaError>, Failure> {
        let (done, answer) = mpsc::sync_channel(1);
        let shared = self.shared.clone();
        let job = move |producer: &Native| {
            if done.send(call(producer)).is_err() {
                shared.hanging.fetch_sub(1, Ordering::Relaxed); // late, but it came back
            }
        };
        if let Some((calls, _)) = &self.calls {
            let _ = calls.send(Box::new(job)); // else the answer says so
        }
        let broken = |why: &str| Failure::Broken { reason: format!("{what} {why}"), fenced: false };
        let mut lived = Duration::ZERO;
        loop {
            let asked = Instant::now();
            match answer.recv_timeout(TICK) {
                Ok(answer) => return Ok(answer),
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(broken("was not made")),
                Err(mpsc::RecvTimeoutError::Timeout) => lived += asked.elapsed().min(TICK * 2),
            }
            if lived >= hung && self.shared.core.clients.health.status().is_ok() {
                self.hangs.store(true, Ordering::Relaxed);
                let hang = self.shared.hanging.fetch_add(1, Ordering::Relaxed) + 1;
                tracing::warn!(group = %self.shared.group, call = what, hang,
                    "a call to Kafka does not return and is left behind");
                if hang >= MOST_HUNG {
                    self.shared.watchdog.bite(what);
                }
                return Err(broken("does not return"));
            }
        }
    }

    fn failure(&self, what: &str, error: &KafkaError) -> Failure {
        let reason = match error {
            KafkaError::Transaction(error) => told(what, error),
            other => format!("{what}: {}", errors::tell(other)),
        };
        let fatal = self.producer.client().fatal_error();
        let fenced = |code: Code| {
            matches!(code, Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch)
        };
        match (fatal, error) {
            (Some((code, _)), _) => Failure::Broken { reason, fenced: fenced(code) },
            (None, KafkaError::Transaction(e)) if e.is_fatal() => {
                Failure::Broken { reason, fenced: fenced(e.code()) }
            }
            (None, KafkaError::Transaction(e)) if !e.txn_requires_abort() && !self.open => {
                Failure::Broken { reason, fenced: false }
            }
            _ => Failure::Abort(reason),
        }
    }

    fn failed(&self) -> MutexGuard<'_, Option<(Code, String)>> {
        self.producer.client().context().failed()
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let Some((calls, thread)) = self.calls.take() else { return };
        drop(calls);
        if !self.hangs.load(Ordering::Relaxed) {
            let _ = thread.join(); // then the producer ends here, and its transaction is not open
        }
    }
}

/// The thread of a producer's calls.
fn begin_calls(
    producer: Arc<Native>,
) -> std::io::Result<(mpsc::Sender<Job>, thread::JoinHandle<()>)> {
    let (calls, jobs) = mpsc::channel::<Job>();
    let body = move || {
        for job in jobs {
            job(&producer);
        }
    };
    let thread = thread::Builder::new().name("log-transact".into()).spawn(body)?;
    Ok((calls, thread))
}

fn told(what: &str, error: &RDKafkaError) -> String {
    format!("{what}: {}", error.name())
}

fn refused(topic: &str, told: &str) -> Failure {
    Failure::Refused(LogError::Fatal(format!("{topic} refuses a record: {told}")))
}

/// Grows from try to try.
struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(Duration::from_millis(10))
    }
}

impl Pause {
    fn wait(&mut self) {
        thread::sleep(self.0);
        self.0 = (self.0 * 2).min(Duration::from_millis(500));
    }
}

/// Hears of failed deliveries, on the producer's thread.
struct Deliveries {
    observer: Observer,
    /// The first failure: its code and topic.
    failed: Mutex<Option<(Code, String)>>,
}

impl Deliveries {
    fn failed(&self) -> MutexGuard<'_, Option<(Code, String)>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
            self.failed().get_or_insert_with(|| (code, message.topic().to_owned()));
        }
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.observer.log(level, facility, line);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.observer.stats_raw(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.observer.error(error, reason);
    }
}
