//! The thread that polls a member.
//!
//! librdkafka wants to be polled for rebalances whatever the owner does, so this thread never waits
//! for it longer than a moment: when the owner is behind, partitions are paused and polling goes on.
//! Reading starts with a seek once the owner has answered an assignment, so a message that arrives
//! without a reader is of no interest.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rdkafka::{
    Message, Offset, consumer::Consumer as _, error::KafkaError, message::BorrowedMessage,
    types::RDKafkaErrorCode as Code,
};
use tokio::sync::oneshot;

use super::{
    assignment::{self, Prepared},
    batch::Builder,
    claim, errors,
    mailbox::Command,
    member::{Consumer, Role, Shared, kafka_partition, list, spawn},
    rebalance::Callbacks,
};
use crate::{
    Assigned, Batch, Delivery, Gap, Lease, LogError, Metrics, Position, subscription::start,
};

/// Who subscribes may want transactions: the word comes right after, if it comes.
const UNDECIDED: Duration = Duration::from_millis(20);
/// How long a poll waits; commands wait as long.
const IDLE: Duration = Duration::from_millis(20);
/// The same while an answer or a seek is awaited.
const BRISK: Duration = Duration::from_millis(2);
/// The owner may be behind for so long before partitions are paused, which throws away what was
/// fetched ahead.
const BEHIND: Duration = Duration::from_millis(500);
/// Positions at the end of partitions are looked up at most this often.
const LOOK: Duration = Duration::from_millis(50);
/// A seek fails until librdkafka has started the partition.
const SEEK: Duration = Duration::from_secs(10);
/// How long a seek may take: librdkafka only passes it on.
const SEEK_CALL: Duration = Duration::from_secs(2);
/// How long leaving the group may take.
const LEAVE: Duration = Duration::from_secs(10);

/// Joins the group and polls until told to close.
pub(super) fn run(shared: &Arc<Shared>) {
    let role = shared.role(UNDECIDED);
    let consumer = match join(shared, &role) {
        Ok(consumer) => Arc::new(consumer),
        Err(error) => {
            shared.fail(error);
            return;
        }
    };
    shared.set_consumer(&consumer);
    let poller = Poller {
        role,
        one_topic: shared.topics.len() == 1,
        shared: shared.clone(),
        consumer,
        readers: Vec::new(),
        last: 0,
        changes: 0,
        unanswered: Vec::new(),
        seeks: Vec::new(),
        behind: None,
        paused: false,
        at_end: None,
        rejoin: false,
        renew: false,
        gathered: (0, 0),
    };
    if let Some(closed) = poller.run() {
        let _ = closed.send(()); // nobody waits
    }
}

fn join(shared: &Arc<Shared>, role: &Role) -> Result<Consumer, LogError> {
    let clients = &shared.core.clients;
    let mut config = clients.member(&shared.group, shared.instance());
    if let Role::Transactional(id) = role {
        // Peers look here for who is alive before they end a transaction.
        config.set("client.id", claim::client_id(id, &shared.nonce));
    }
    let observer = clients.member_observer(&shared.group);
    let context = Callbacks { shared: shared.clone(), replaced: AtomicBool::new(false), observer };
    let consumer: Consumer = config.create_with_context(context).map_err(refused)?;
    subscribe(&consumer, shared)?;
    Ok(consumer)
}

fn subscribe(consumer: &Consumer, shared: &Shared) -> Result<(), LogError> {
    let topics: Vec<&str> = shared.topics.iter().map(|topic| &*topic.name).collect();
    consumer.subscribe(&topics).map_err(refused)
}

fn refused(error: KafkaError) -> LogError {
    LogError::Fatal(format!("the group could not be joined: {}", errors::tell(&error)))
}

struct Poller {
    shared: Arc<Shared>,
    role: Role,
    consumer: Arc<Consumer>,
    /// What is read.
    readers: Vec<Reader>,
    /// Whose message came last.
    last: usize,
    /// The slots that `readers` were last compared with.
    changes: u64,
    unanswered: Vec<Unanswered>,
    seeks: Vec<Seek>,
    behind: Option<Instant>,
    paused: bool,
    /// An end was reached, and may be past a hole.
    at_end: Option<Instant>,
    /// The group is being left to join it again.
    rejoin: bool,
    /// The consumer is of no use any more.
    renew: bool,
    one_topic: bool,
    /// Records and bytes in the readers' batches.
    gathered: (usize, usize),
}

struct Reader {
    lease: Lease,
    batch: Builder,
    /// All there was has been given to it.
    ended: bool,
    next: Position,
    delivered: Position,
    /// Something was read there, or that it is the end: its position is one of the log.
    proven: bool,
}

struct Unanswered {
    prepared: Vec<Prepared>,
    answer: oneshot::Receiver<Vec<Option<Position>>>,
}

struct Seek {
    lease: Lease,
    at: Position,
    gap: Option<Gap>,
    /// As of its reader.
    proven: bool,
    until: Instant,
}

impl Seek {
    fn new(lease: Lease, at: Position) -> Self {
        Self { lease, at, gap: None, proven: false, until: Instant::now() + SEEK }
    }
}

impl Poller {
    /// Polls; answers who wants to know of the end.
    fn run(mut self) -> Option<oneshot::Sender<()>> {
        loop {
            for command in self.shared.mailbox.commands() {
                match command {
                    Command::Prepared(prepared) => self.tell(prepared),
                    Command::Rewind => self.rewind(),
                    Command::Pause(lease) => self.pause(&lease),
                    Command::Resume(lease, at, pause) => {
                        if self.shared.mailbox.end_pause(&lease, pause) {
                            self.seeks.push(Seek { proven: true, ..Seek::new(lease, at) });
                        }
                    }
                    Command::Close(told) => {
                        self.close();
                        return told;
                    }
                }
            }
            if std::mem::take(&mut self.renew) {
                self.renew();
            }
            self.prepare();
            self.answers();
            self.seek();
            if self.rejoin && !self.shared.holds_any() {
                self.rejoin = false;
                if let Err(error) = subscribe(&self.consumer, &self.shared) {
                    self.shared.fail(error);
                }
            }
            if self.may_read() {
                let brisk = !self.unanswered.is_empty() || !self.seeks.is_empty();
                self.read(if brisk { BRISK } else { IDLE });
            }
        }
    }

    /// Finds out where new partitions stand, without holding up this thread.
    fn prepare(&self) {
        let fresh = self.shared.take_fresh();
        if fresh.is_empty() {
            return;
        }
        let (shared, consumer) = (self.shared.clone(), self.consumer.clone());
        let prepare = move || assignment::prepare(&shared, &consumer, fresh);
        if let Err(error) = spawn("log-assignment", prepare) {
            self.shared.fail(error);
        }
    }

    /// Tells the owner of its leases.
    fn tell(&mut self, mut prepared: Vec<Prepared>) {
        let leases: Vec<_> = prepared.iter().map(|p| p.assignment.lease.clone()).collect();
        let mut lives = self.shared.telling(&leases).into_iter();
        prepared.retain(|_| lives.next().unwrap_or_default());
        if prepared.is_empty() || self.shared.closing.load(Ordering::Relaxed) {
            return;
        }
        let assignments = prepared.iter().map(|p| p.assignment.clone()).collect();
        let (assigned, answer) = Assigned::new(assignments);
        self.unanswered.push(Unanswered { prepared, answer });
        self.shared.mailbox.tell(Delivery::Assigned(assigned));
    }

    fn answers(&mut self) {
        let mut answered = Vec::new();
        self.unanswered.retain_mut(|waiting| {
            let answer = match waiting.answer.try_recv() {
                Ok(answer) => answer,
                Err(oneshot::error::TryRecvError::Closed) => Vec::new(),
                Err(oneshot::error::TryRecvError::Empty) => return true,
            };
            answered.push((std::mem::take(&mut waiting.prepared), answer));
            false
        });
        for (prepared, answer) in answered {
            let given = answer.into_iter().chain(std::iter::repeat(None));
            for (prepared, given) in prepared.into_iter().zip(given) {
                self.begin(prepared, given);
            }
        }
    }

    fn begin(&mut self, Prepared { assignment, log_start }: Prepared, given: Option<Position>) {
        let lease = assignment.lease;
        let wanted = start(given, assignment.committed, log_start);
        let gone = wanted < log_start;
        let gap = gone.then(|| Gap { lease: lease.clone(), from: wanted, to: log_start });
        self.seeks.push(Seek { gap, ..Seek::new(lease, wanted.max(log_start)) });
    }

    /// Reads no more under a lease. Its batch is empty: commands are taken between two rounds of polling.
    fn pause(&mut self, lease: &Lease) {
        self.readers.retain(|reader| reader.lease != *lease);
        self.seeks.retain(|seek| seek.lease != *lease);
        self.last = 0;
        if !self.shared.leases.is_live(lease) {
            return; // the partition may be read under another lease already
        }
        if let Err(error) = self.consumer.pause(&list([(lease, Offset::Invalid)])) {
            tracing::warn!(error = errors::tell(&error), "a partition could not be paused");
        }
    }

    /// Starts reading where it was answered.
    fn seek(&mut self) {
        self.seeks.retain(|seek| self.shared.leases.is_live(&seek.lease));
        if self.seeks.is_empty() {
            return;
        }
        self.unpause(); // a pause is of all that is read; if it must be, the next look pauses all anew
        if self.seeks.is_empty() {
            return; // the group is being left
        }
        let wanted: Vec<_> = self.seeks.iter().map(|seek| (seek.lease.clone(), seek.at)).collect();
        let started = self.resume(&wanted);
        for seek in self.seeks.extract_if(.., |seek| started.contains(&seek.lease)) {
            let Seek { lease, at, gap, proven, .. } = seek;
            tracing::debug!(group = %self.shared.group, partition = lease.partition, at, "reads");
            if let Some(gap) = gap {
                report(&self.shared, gap);
            }
            let (batch, ended) = (Builder::default(), false);
            self.readers.push(Reader { lease, batch, ended, next: at, delivered: at, proven });
        }
        if self.seeks.iter().any(|seek| seek.until <= Instant::now()) {
            tracing::warn!(group = %self.shared.group, "partitions do not start; joining anew");
            self.leave_to_rejoin();
        }
    }

    /// Reads partitions from these positions and ends their pause; answers of which it did. They are
    /// sought before, so that nothing else is read, and after it, because a seek, and not the end of a
    /// pause, wakes librdkafka's fetcher.
    fn resume(&self, wanted: &[(Lease, Position)]) -> Vec<Lease> {
        let ready = self.seek_to(wanted);
        let ready: Vec<_> =
            wanted.iter().filter(|(lease, _)| ready.contains(lease)).cloned().collect();
        if ready.is_empty() {
            return Vec::new();
        }
        let places = list(ready.iter().map(|(lease, at)| (lease, offset(*at))));
        if let Err(error) = self.consumer.resume(&places) {
            tracing::warn!(error = errors::tell(&error), "partitions could not be resumed");
        }
        self.seek_to(&ready)
    }

    fn seek_to(&self, wanted: &[(Lease, Position)]) -> Vec<Lease> {
        let places = list(wanted.iter().map(|(lease, at)| (lease, offset(*at))));
        let sought = match self.consumer.seek_partitions(places, SEEK_CALL) {
            Ok(sought) => sought,
            Err(error) => {
                tracing::warn!(error = errors::tell(&error), "a seek fails");
                return Vec::new();
            }
        };
        let done = |lease: &Lease| {
            let place = sought.find_partition(&lease.topic, kafka_partition(lease.partition));
            place.is_some_and(|place| place.error().is_ok())
        };
        wanted.iter().map(|(lease, _)| lease).filter(|lease| done(lease)).cloned().collect()
    }

    /// Whether the owner can take more; if not, waits a moment, and pauses when that does not help.
    fn may_read(&mut self) -> bool {
        if self.shared.mailbox.has_room() {
            self.behind = None;
            self.unpause();
            return true;
        }
        let since = *self.behind.get_or_insert_with(Instant::now);
        if since.elapsed() < BEHIND {
            self.shared.mailbox.wait(IDLE);
            return self.shared.mailbox.has_room();
        }
        if !self.paused {
            let all = list(self.readers.iter().map(|r| (&r.lease, Offset::Invalid)));
            self.paused = self.consumer.pause(&all).is_ok();
        }
        true // for callbacks; what slips in is little
    }

    /// Reads on what was paused.
    fn unpause(&mut self) {
        if !std::mem::take(&mut self.paused) || self.readers.is_empty() {
            return;
        }
        let at = |reader: &Reader| (reader.lease.clone(), reader.next);
        let all: Vec<_> = self.readers.iter().map(at).collect();
        if self.resume(&all).len() < all.len() {
            self.leave_to_rejoin(); // or they would never be read again
        }
    }

    fn read(&mut self, wait: Duration) {
        let options = &self.shared.core.clients.options;
        let (max_records, max_bytes) = (options.batch_records, options.batch_bytes);
        let consumer = self.consumer.clone();
        let mut polled = consumer.poll(wait);
        while let Some(event) = polled {
            self.compare();
            match event {
                Ok(message) => self.message(&message),
                Err(KafkaError::PartitionEOF(partition)) => self.came_to_end(partition),
                Err(error) => self.trouble(&error),
            }
            if self.gathered.0 >= max_records || self.gathered.1 >= max_bytes {
                break;
            }
            polled = consumer.poll(Duration::ZERO);
        }
        self.compare();
        if self.at_end.is_some_and(|since| since.elapsed() >= LOOK) {
            self.at_end = None;
            self.pass_holes();
        }
        self.flush();
    }

    /// Lets go of readers whose lease has ended.
    fn compare(&mut self) {
        let changes = self.shared.changes.load(Ordering::Acquire);
        if changes != self.changes {
            self.changes = changes;
            let leases = &self.shared.leases;
            self.readers.retain(|reader| leases.is_live(&reader.lease));
            self.last = 0;
        }
    }

    fn message(&mut self, message: &BorrowedMessage<'_>) {
        let Ok(partition) = u32::try_from(message.partition()) else { return };
        let Ok(at) = u64::try_from(message.offset()) else { return };
        let one_topic = self.one_topic;
        let is_of = |reader: &Reader| {
            reader.lease.partition == partition
                && (one_topic || *reader.lease.topic == *message.topic())
        };
        if !self.readers.get(self.last).is_some_and(is_of) {
            let Some(found) = self.readers.iter().position(is_of) else { return };
            self.last = found;
        }
        let reader = &mut self.readers[self.last];
        if at < reader.next {
            return;
        }
        (reader.next, reader.proven) = (at + 1, true);
        let bytes = reader.batch.add(message, at);
        self.gathered = (self.gathered.0 + 1, self.gathered.1 + bytes);
    }

    /// A reader has been given all there is. Of which topic is not said: where several have the
    /// partition, it is nobody's.
    fn came_to_end(&mut self, partition: i32) {
        let is_of = |reader: &&mut Reader| kafka_partition(reader.lease.partition) == partition;
        self.readers.iter_mut().filter(is_of).for_each(|reader| reader.proven = true);
        let mut of = self.readers.iter_mut().filter(is_of);
        if let (Some(reader), None) = (of.next(), of.next()) {
            reader.ended = true;
            self.at_end.get_or_insert_with(Instant::now);
        }
    }

    /// Positions at the end pass what is not shown: markers and aborted records. Only of readers that
    /// came to the end since they began, so that it does not matter whether a position that librdkafka
    /// tells can be older than a seek.
    fn pass_holes(&mut self) {
        let Ok(positions) = self.consumer.position() else { return };
        for place in positions.elements() {
            let Offset::Offset(at) = place.offset() else { continue };
            let (partition, at) = (place.partition(), u64::try_from(at).unwrap_or_default());
            let reader = self.readers.iter_mut().find(|reader| {
                reader.ended
                    && kafka_partition(reader.lease.partition) == partition
                    && *reader.lease.topic == *place.topic()
            });
            if let Some(reader) = reader {
                reader.next = reader.next.max(at);
            }
        }
        self.readers.iter_mut().for_each(|reader| reader.ended = false);
    }

    fn flush(&mut self) {
        self.gathered = (0, 0);
        for reader in &mut self.readers {
            if reader.next > reader.delivered {
                let (records, bytes) = reader.batch.take();
                reader.delivered = reader.next;
                let batch = Batch { lease: reader.lease.clone(), records, next: reader.next };
                self.shared.mailbox.push(&self.shared.leases, Delivery::Batch(batch), bytes);
            }
        }
    }

    fn trouble(&mut self, error: &KafkaError) {
        let told = errors::tell(error);
        match error.rdkafka_error_code() {
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => {
                // librdkafka has stopped the partition and does not say which. A new assignment
                // finds what is gone, but starts again at a position that never was.
                if let Some(error) = self.beyond_the_end() {
                    return self.shared.fail(error);
                }
                tracing::warn!(group = %self.shared.group, "a position is gone; joining anew");
                self.leave_to_rejoin();
            }
            Some(Code::PollExceeded) => {}
            _ if self.shared.is_its_own_double(&self.consumer) => self.renew = true,
            code if matches!(error, KafkaError::MessageConsumptionFatal(_))
                || code.is_some_and(errors::is_final) =>
            {
                let why = self.consumer.client().fatal_error();
                let why = why.map_or(told, |(code, _)| code.to_string());
                self.shared.fail(self.shared.over(&why));
            }
            // The callback for errors has said more.
            _ => tracing::trace!(group = %self.shared.group, error = told, "while polling"),
        }
    }

    /// The error of a reader that was started behind the end of its partition: a log that lost its
    /// end has positions there that nobody can go on from, since what is appended now takes them anew. One
    /// that had read is assigned anew first, so that its owner can see for itself.
    fn beyond_the_end(&self) -> Option<LogError> {
        let idle: Vec<_> = self.readers.iter().filter(|reader| !reader.proven).collect();
        if idle.is_empty() {
            return None;
        }
        let leases: Vec<_> = idle.iter().map(|reader| reader.lease.clone()).collect();
        let bounds = assignment::bounds(&self.consumer, &self.shared.group, &leases);
        let bounds = bounds
            .inspect_err(|error| tracing::warn!(group = %self.shared.group, %error, "no ends"))
            .ok()?;
        let (reader, bounds) =
            idle.into_iter().zip(bounds).find(|(reader, bounds)| reader.next > bounds.end)?;
        let Lease { topic, partition, .. } = &reader.lease;
        Some(self.shared.core.out_of_range(topic, *partition, reader.next, bounds))
    }

    /// Joins with another consumer.
    fn renew(&mut self) {
        tracing::warn!(group = %self.shared.group, "fenced by a former self; joining anew");
        self.consumer.context().replaced.store(true, Ordering::Relaxed);
        self.shared.lose_all();
        self.shared.drop_all_slots();
        self.readers.clear();
        self.unanswered.clear();
        self.seeks.clear();
        (self.behind, self.paused, self.at_end, self.rejoin) = (None, false, None, false);
        match join(&self.shared, &self.role) {
            Ok(consumer) => {
                let consumer = Arc::new(consumer);
                self.shared.set_consumer(&consumer);
                super::bury(std::mem::replace(&mut self.consumer, consumer));
            }
            Err(error) => self.shared.fail(error),
        }
    }

    fn leave_to_rejoin(&mut self) {
        if !self.rejoin {
            self.rejoin = true;
            self.shared.lose_all();
            self.seeks.clear();
            self.consumer.unsubscribe();
        }
    }

    /// New leases for what an aborted transaction took along, from where the group stands.
    fn rewind(&mut self) {
        let renewed = self.shared.renew();
        self.compare();
        if renewed.is_empty() {
            return;
        }
        let all = list(renewed.iter().map(|lease| (lease, Offset::Invalid)));
        if let Err(error) = self.consumer.pause(&all) {
            tracing::warn!(error = errors::tell(&error), "partitions could not be paused");
        }
    }

    /// Leaves the group. By `unsubscribe`, because with that even a static member leaves at once.
    fn close(self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        self.shared.lose_all();
        self.consumer.unsubscribe();
        let until = Instant::now() + LEAVE;
        while self.shared.holds_any() && Instant::now() < until {
            drop(self.consumer.poll(IDLE));
        }
        // It says so some time after it has given up its partitions; when it is closed before, it
        // says nothing, and they wait for its session to end.
        while claim::is_listed(&self.shared) && Instant::now() < until {
            drop(self.consumer.poll(BRISK));
        }
        // The consumer goes with this thread: closing it blocks.
    }
}

fn report(shared: &Shared, gap: Gap) {
    let (topic, partition) = (&gap.lease.topic, gap.lease.partition);
    tracing::warn!(group = %shared.group, %topic, partition, from = gap.from, to = gap.to,
        "retention took records before they were read");
    Metrics::of(&shared.core.clients.options.metrics.gaps, topic).inc();
    shared.mailbox.push(&shared.leases, Delivery::Gap(gap), 64);
}

fn offset(position: Position) -> Offset {
    Offset::Offset(i64::try_from(position).unwrap_or(i64::MAX))
}
