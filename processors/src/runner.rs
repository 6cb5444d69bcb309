//! The runner: reads batches of a topic, sends their events through a chain, and commits what
//! comes out together with how far it read.
//!
//! ```text
//! next ... next -> decode > steps > encode -> commit(outputs, positions) -> next ...
//! ```
//!
//! While one transaction is committed the next batches are already being worked on, in pieces side by
//! side where there are cores; they are committed only after it, and in their order, so that positions never run
//! ahead of outputs. The invariant: a position is committed in the same transaction as everything its
//! records led to, and what an aborted transaction held is forgotten whole, because its records come
//! again.
//!
//! A log that cannot answer is asked again for as long as it takes, with growing pauses, and the
//! processor's health says so: there is nothing better a processor could do.

use std::{
    collections::HashSet,
    num::NonZero,
    sync::Arc,
    thread::available_parallelism,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use eventlog::{Batch, Delivery, Lease, Log, LogError, Position, Revocation, TransactError};
use futures_util::{FutureExt, future::try_join_all};
use schemas::{Codec, RegistryError, Wanted};
use service::{backoff::Backoff, config::ProcessorConfig, health::Part as Health};
use tokio_util::sync::CancellationToken;

use crate::{
    Chain, Decision, Metrics,
    metrics::{Outcome, ProcessorMetrics},
};

mod feed;
mod work;

use feed::Feed;
use work::{Part, Progress, Work, Workshop};

/// Records and bytes after which a transaction takes no further batch.
const ENOUGH_RECORDS: usize = 8 * 1024;
const ENOUGH_BYTES: usize = 3 * 1024 * 1024;
/// Fewer records are worked on where they are read: handing them to another thread costs more.
const FEW_RECORDS: usize = 64;
/// A piece that has a core of its own has at least so many.
const PIECE_RECORDS: usize = 256;

/// The consumer group of a processor. Its members' transactional ids begin with it, so that on a
/// shared cluster all that is ours is under `penstock.`.
pub fn group_name(processor: &str) -> String {
    format!("penstock.processor.{processor}")
}

/// One processor, ready to run.
pub struct Runner {
    /// Its name, topics and delivery.
    pub config: ProcessorConfig,
    /// Its steps.
    pub chain: Chain,
    /// Where it reads and writes.
    pub log: Log,
    /// How records are events.
    pub codec: Codec,
    /// Where it counts.
    pub metrics: Metrics,
    /// Where it says how it is.
    pub health: Health,
    /// The topic for what it cannot process.
    pub dead_letters: Arc<str>,
    /// Tells the members of its group apart. A member that starts again under the same name
    /// fences the transactions of its former self.
    pub instance: Arc<str>,
}

impl Runner {
    /// Runs until the token is cancelled: then what is being processed is committed and the group
    /// left. An error means that a retry will not help.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), LogError> {
        let Self { config, chain, log, codec, metrics, health, dead_letters, instance } = self;
        let processor: Arc<str> = config.name.as_str().into();
        let to = config.to.as_str().into();
        let shop = Workshop { processor, chain, codec, to, dead_letters };
        let metrics = metrics.of(&config.name);
        let cores = available_parallelism().map_or(1, NonZero::get);
        let mut run =
            Run { shop: Arc::new(shop), config, log, metrics, health, instance, shutdown, cores };
        run.until_shutdown().await
    }
}

/// A runner at work.
struct Run {
    shop: Arc<Workshop>,
    config: ProcessorConfig,
    log: Log,
    metrics: ProcessorMetrics,
    health: Health,
    instance: Arc<str>,
    shutdown: CancellationToken,
    cores: usize,
}

/// Results waiting for their transaction.
struct Prepared {
    parts: Vec<Part>,
    /// What was read with them and after them, and must wait because they are enough for one
    /// transaction.
    rest: Vec<Work>,
    since: Instant,
}

/// What was read in one go.
#[derive(Default)]
struct Gathered {
    batches: Vec<Batch>,
    /// Ended the reading, and must be answered before more is read.
    revoked: Option<Revocation>,
    records: usize,
    bytes: usize,
}

impl Run {
    async fn until_shutdown(&mut self) -> Result<(), LogError> {
        let mut backoff = Backoff::default();
        loop {
            match self.membership(&mut backoff).await {
                Ok(()) => {
                    self.health.failing("stopped");
                    return Ok(());
                }
                Err(error @ (LogError::Retry(_) | LogError::Stale { .. })) => {
                    tracing::warn!(processor = %self.shop.processor, %error, "trying again");
                    if !self.pause(&error.to_string(), &mut backoff).await {
                        return Ok(());
                    }
                }
                Err(error) => {
                    self.health.failing(error.to_string());
                    return Err(error);
                }
            }
        }
    }

    /// Waits before the next try; `false` when the processor is to stop instead.
    async fn pause(&self, reason: &str, backoff: &mut Backoff) -> bool {
        self.health.failing(reason);
        self.metrics.retried();
        tokio::select! {
            () = tokio::time::sleep(backoff.next_wait()) => true,
            () = self.shutdown.cancelled() => false,
        }
    }

    /// One membership of the group, until the end or until it must be begun anew.
    async fn membership(&mut self, backoff: &mut Backoff) -> Result<(), LogError> {
        let ProcessorConfig { name, from, to, delivery, .. } = &self.config;
        for topic in [from, to, &*self.shop.dead_letters] {
            self.log.topic(topic).await?;
        }
        let group = group_name(name);
        let id = format!("{group}.{}", self.instance);
        let mut feed = Feed::open(&self.log, &group, from, *delivery, id).await?;
        let mut prepared: Option<Prepared> = None;
        // Leases whose records were given up with an aborted transaction: they come again under
        // new leases, and what still arrives under these must not move a position.
        let mut void: HashSet<Lease> = HashSet::new();
        self.health.ready();
        loop {
            if self.shutdown.is_cancelled() && prepared.is_none() {
                feed.close().await?;
                return Ok(());
            }
            let rest = prepared.as_mut().map(Prepared::take_rest).unwrap_or_default();
            let mut read = match rest.is_empty() {
                true => self.gather(&mut feed, prepared.is_none(), &void).await?,
                false => Gathered::default(),
            };
            let revoked = read.revoked.take();
            if let Some(lost) = revoked.as_ref().filter(|revocation| revocation.lost) {
                read.forget(&lost.leases);
                if let Some(waiting) = &mut prepared {
                    waiting.parts.retain(|part| !lost.leases.contains(&part.lease));
                }
            }
            let work = if rest.is_empty() { self.begin(read) } else { rest };
            let given: Vec<_> = prepared.iter().flat_map(Prepared::leases).collect();
            let (committed, next) =
                tokio::join!(self.commit(&mut feed, prepared.take()), self.process(work));
            let mut next = next?;
            let mut aborted = self.judge(committed, backoff)?;
            if aborted.is_some() {
                void.extend(given);
                void.extend(next.take().iter().flat_map(Prepared::leases));
            }
            if let Some(revocation) = revoked {
                // Commits are taken until the acknowledgement, so what was read is finished first.
                while let Some(mut last) = next.take() {
                    let given: Vec<_> = last.leases().collect();
                    let rest = last.take_rest();
                    let committed = self.commit(&mut feed, Some(last)).await;
                    if let Some(reason) = self.judge(committed, backoff)? {
                        aborted = Some(reason);
                        void.extend(given);
                    } else {
                        next = self.process(rest).await?;
                    }
                }
                void.retain(|lease| !revocation.leases.contains(lease));
                revocation.acknowledge();
            }
            // The first abort is what a rebalance looks like; only more in a row are trouble.
            if let Some(reason) = aborted.filter(|_| backoff.tries() > 1)
                && !self.pause(&format!("transactions abort: {reason}"), backoff).await
            {
                return Ok(());
            }
            prepared = next;
        }
    }

    /// Reads what is there, up to what one transaction should hold. Waits for the first delivery
    /// if told to, but not beyond shutdown.
    async fn gather(
        &self,
        feed: &mut Feed,
        wait: bool,
        void: &HashSet<Lease>,
    ) -> Result<Gathered, LogError> {
        let mut read = Gathered::default();
        if self.shutdown.is_cancelled() {
            return Ok(read);
        }
        let mut delivery = if wait {
            tokio::select! {
                delivery = feed.next() => Some(delivery?),
                () = self.shutdown.cancelled() => None,
            }
        } else {
            feed.next().now_or_never().transpose()?
        };
        while let Some(arrived) = delivery {
            match arrived {
                Delivery::Assigned(assigned) => {
                    assigned.resume();
                    self.health.ready();
                }
                Delivery::Batch(batch) if void.contains(&batch.lease) => {}
                Delivery::Batch(batch) => read.add(batch),
                Delivery::Gap(gap) if void.contains(&gap.lease) => {}
                Delivery::Gap(gap) => {
                    self.metrics.gap();
                    let Lease { topic, partition, .. } = &gap.lease;
                    let text = format!(
                        "retention took positions {} to {} of {topic}/{partition} before they were read",
                        gap.from, gap.to
                    );
                    tracing::warn!(processor = %self.shop.processor, "{text}");
                    self.health.note(text);
                    read.add(Batch { lease: gap.lease, records: Vec::new(), next: gap.to });
                }
                Delivery::Revoked(revocation) => {
                    read.revoked = Some(revocation);
                    break;
                }
            }
            if read.records >= ENOUGH_RECORDS || read.bytes >= ENOUGH_BYTES {
                break;
            }
            delivery = feed.next().now_or_never().transpose()?;
        }
        Ok(read)
    }

    /// What was read as work to do, if there is any: for one core, or for several if it is much.
    fn begin(&self, read: Gathered) -> Vec<Work> {
        if read.batches.is_empty() {
            return Vec::new();
        }
        let cores = match self.shop.chain.is_copy() {
            true => 1,
            false => self.cores.min(read.records / PIECE_RECORDS).max(1),
        };
        Work::divide(&self.shop, read.batches, cores)
    }

    /// Works until there is something to commit.
    async fn process(&self, work: Vec<Work>) -> Result<Option<Prepared>, LogError> {
        if work.is_empty() {
            return Ok(None);
        }
        let since = Instant::now();
        let worked = try_join_all(work.into_iter().map(|work| self.work_on(work))).await?;
        let mut prepared = Prepared { parts: Vec::new(), rest: Vec::new(), since };
        for mut work in worked {
            // What comes after work that is not done waits with it: a position that is committed has all
            // before it done.
            if prepared.rest.is_empty() {
                prepared.parts.extend(work.take());
            }
            if !prepared.rest.is_empty() || !work.is_done() {
                prepared.rest.push(work);
            }
        }
        Ok(Some(prepared))
    }

    /// Works on one of them until it is done or full.
    async fn work_on(&self, mut work: Work) -> Result<Work, LogError> {
        loop {
            let progress = if work.waiting_records() < FEW_RECORDS {
                work.run()
            } else {
                let ran = tokio::task::spawn_blocking(move || {
                    let progress = work.run();
                    (work, progress)
                });
                let progress;
                (work, progress) = ran.await.map_err(|error| {
                    LogError::Fatal(format!("the work on a batch did not end: {error}"))
                })?;
                progress
            };
            match progress {
                Progress::Ask(wanted) => {
                    self.learn(&wanted).await?;
                    work.asked(wanted);
                }
                Progress::Done | Progress::Full => return Ok(work),
            }
        }
    }

    /// Asks the registry, for as long as it takes: this member keeps its partitions, because another one would
    /// have to ask as well.
    async fn learn(&self, wanted: &Wanted) -> Result<(), LogError> {
        let mut backoff = Backoff::default();
        loop {
            let learnt = self.shop.codec.learn(std::slice::from_ref(wanted)).await;
            let detail = match learnt {
                Ok(()) => {
                    if backoff.tries() > 0 {
                        self.health.ready();
                    }
                    return Ok(());
                }
                Err(RegistryError::Fatal(detail)) => return Err(LogError::Fatal(detail)),
                Err(RegistryError::Retry(detail)) => detail,
            };
            tracing::warn!(processor = %self.shop.processor, error = detail, "asking again for a schema");
            if !self.pause(&format!("the schema registry: {detail}"), &mut backoff).await {
                return Err(LogError::Retry(detail));
            }
        }
    }

    /// Commits results, if there are any, and publishes their counts.
    async fn commit(
        &self,
        feed: &mut Feed,
        prepared: Option<Prepared>,
    ) -> Result<bool, TransactError> {
        let Some(Prepared { parts, since, .. }) = prepared else { return Ok(false) };
        if parts.is_empty() {
            return Ok(false);
        }
        let mut positions: Vec<(Lease, Position)> = Vec::new();
        let mut outputs = Vec::with_capacity(parts.iter().map(|part| part.outputs.len()).sum());
        let mut counts = Vec::with_capacity(parts.len());
        for part in parts {
            match positions.iter_mut().find(|(lease, _)| *lease == part.lease) {
                Some((_, position)) => *position = (*position).max(part.next),
                None => positions.push((part.lease, part.next)),
            }
            outputs.extend(part.outputs);
            counts.push(part.counts);
        }
        feed.commit(outputs, &positions).await?;
        self.publish(&counts, since);
        Ok(true)
    }

    /// Why a commit was aborted, if it was; any other failure ends the membership.
    fn judge(
        &self,
        committed: Result<bool, TransactError>,
        backoff: &mut Backoff,
    ) -> Result<Option<String>, LogError> {
        match committed {
            Ok(false) => Ok(None),
            Ok(true) => {
                backoff.reset();
                self.health.ready();
                Ok(None)
            }
            Err(TransactError::Aborted(reason)) => {
                self.metrics.aborted();
                tracing::warn!(processor = %self.shop.processor, reason, "transaction aborted");
                backoff.next_wait();
                Ok(Some(reason))
            }
            Err(TransactError::Log(error)) => Err(error),
        }
    }

    fn publish(&self, counts: &[work::Counts], since: Instant) {
        let metrics = &self.metrics;
        for part in counts {
            metrics.records(Outcome::emitted, part.emitted);
            metrics.records(Outcome::dropped, part.dropped);
            metrics.records(Outcome::dead_lettered, part.dead);
            metrics.events(part.events);
            for (step, decision, reason, count) in part.tally.iter() {
                metrics.verdicts(self.shop.chain.step_name(step), decision, reason, count);
            }
            for ((step, reason), count) in &part.faults {
                metrics.verdicts(step, Decision::Reject, reason, *count);
            }
        }
        let last = counts.iter().filter_map(|part| part.appended_at).max();
        let age = last.map(|appended_at| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            (now.as_secs_f64() - appended_at as f64 / 1e6).max(0.0)
        });
        metrics.committed(since.elapsed().as_secs_f64(), age);
    }
}

impl Prepared {
    fn take_rest(&mut self) -> Vec<Work> {
        std::mem::take(&mut self.rest)
    }

    fn leases(&self) -> impl Iterator<Item = Lease> {
        let rest = self.rest.iter().flat_map(Work::leases);
        self.parts.iter().map(|part| &part.lease).chain(rest).cloned()
    }
}

impl Gathered {
    fn add(&mut self, batch: Batch) {
        self.records += batch.records.len();
        self.bytes += batch.records.iter().map(|stored| stored.record.size()).sum::<usize>();
        self.batches.push(batch);
    }

    fn forget(&mut self, leases: &[Lease]) {
        self.batches.retain(|batch| !leases.contains(&batch.lease));
    }
}
