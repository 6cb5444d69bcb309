//! The thread that does a member's transactions, one after the other.
//!
//! ```text
//! begin > send > delivered > who are we? > still ours? > positions > commit
//! ```
//!
//! The order of the two questions is the fence. The broker accepts positions by member and generation
//! and does not look at who owns a partition. A partition moves only after its lease was fenced and
//! the group has a new generation; so an answer to the first question that is taken before the second
//! is either of the old generation, which the broker refuses then, or the fence shows.
//!
//! A transaction that does not commit takes every lease of the member along: what it held comes again
//! from where the group stands, also when the commit's answer was lost and it did happen.

use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use rdkafka::{
    TopicPartitionList,
    consumer::{Consumer as _, ConsumerGroupMetadata},
};
use tokio::sync::oneshot;

use super::{
    claim,
    mailbox::Command,
    member::Shared,
    outbox::{Failure, Outbox},
};
use crate::{Lease, LogError, Position, Record, TransactError};

/// Producers that broke in a row before it is called hopeless.
const REBUILDS: u32 = 5;
/// How long a first producer may take to be ready.
const READY: Duration = Duration::from_secs(25);

/// What the thread is to do.
pub(super) enum Work {
    /// A transaction.
    Commit {
        outputs: Vec<(Arc<str>, Record)>,
        positions: Vec<(Lease, Position)>,
        reply: oneshot::Sender<Result<(), TransactError>>,
    },
    /// The owner has heard of the failure and goes on: replace a broken producer. Not before, because a
    /// new producer fences whoever has fenced this one.
    Recover,
}

/// The thread's body: ends when the sender of `work` is dropped, and then drops `ended`.
pub(super) fn run(
    shared: &Arc<Shared>,
    id: &Arc<str>,
    work: &mpsc::Receiver<Work>,
    ready: oneshot::Sender<Result<(), LogError>>,
    ended: oneshot::Sender<()>,
) {
    let outbox = Outbox::new(shared, id, Some(Instant::now() + READY));
    let outbox = match outbox {
        Ok(outbox) => outbox,
        Err(failure) => {
            let _ = ready.send(Err(not_ready(failure))); // the owner may be gone
            return;
        }
    };
    let _ = ready.send(Ok(()));
    let mut worker =
        Worker { shared: shared.clone(), id: id.clone(), outbox: Ok(outbox), broken: 0 };
    while let Ok(work) = work.recv() {
        match work {
            Work::Commit { outputs, positions, reply } => worker.commit(outputs, &positions, reply),
            Work::Recover => worker.recover(),
        }
    }
    drop(worker);
    drop(ended);
}

fn not_ready(failure: Failure) -> LogError {
    match failure {
        Failure::Abort(why) => LogError::Retry(format!("transactions are not ready: {why}")),
        Failure::Broken { reason, .. } => {
            LogError::Retry(format!("transactions are not ready: {reason}"))
        }
        Failure::Refused(error) => error,
    }
}

struct Worker {
    shared: Arc<Shared>,
    id: Arc<str>,
    /// Or how the last one broke.
    outbox: Result<Outbox, Broken>,
    /// In a row.
    broken: u32,
}

struct Broken {
    fenced: bool,
}

/// How many records and bytes go to which topic.
fn by_topic(outputs: &[(Arc<str>, Record)]) -> BTreeMap<Arc<str>, (u64, u64)> {
    let mut sums = BTreeMap::new();
    for run in outputs.chunk_by(|(one, _), (other, _)| one == other) {
        let (records, bytes) = sums.entry(run[0].0.clone()).or_default();
        *records += run.len() as u64;
        *bytes += run.iter().map(|(_, record)| record.size() as u64).sum::<u64>();
    }
    sums
}

impl Worker {
    fn commit(
        &mut self,
        outputs: Vec<(Arc<str>, Record)>,
        positions: &[(Lease, Position)],
        reply: oneshot::Sender<Result<(), TransactError>>,
    ) {
        let failure = match self.transact(outputs, positions) {
            Ok(()) => {
                self.broken = 0;
                self.shared.core.clients.options.metrics.transactions.inc();
                let _ = reply.send(Ok(())); // an owner that is gone learns it from the positions
                return;
            }
            Err(failure) => failure,
        };
        self.shared.lose_all();
        let error = match (self.shared.mailbox.ended(), &failure) {
            (Some(ended), _) => TransactError::Log(ended),
            (None, Failure::Refused(error)) => TransactError::Log(error.clone()),
            (None, Failure::Abort(reason) | Failure::Broken { reason, .. }) => {
                TransactError::Aborted(reason.clone())
            }
        };
        tracing::debug!(group = %self.shared.group, ?failure, "a transaction fails");
        let _ = reply.send(Err(error));
        if let Failure::Broken { fenced, .. } = failure {
            self.outbox = Err(Broken { fenced });
        } else {
            self.abort();
        }
    }

    fn transact(
        &mut self,
        outputs: Vec<(Arc<str>, Record)>,
        positions: &[(Lease, Position)],
    ) -> Result<(), Failure> {
        let Self { shared, outbox, id, .. } = self;
        let check = || shared.leases.check(positions).map_err(|e| Failure::Abort(e.to_string()));
        check()?;
        let Ok(outbox) = outbox else {
            return Err(Failure::Broken { reason: "no producer".into(), fenced: false });
        };
        let written = by_topic(&outputs);
        outbox.begin()?;
        outbox.send(outputs)?;
        if !positions.is_empty() {
            let mut offsets = TopicPartitionList::with_capacity(positions.len());
            for (lease, at) in positions {
                claim::add(&mut offsets, lease, *at, id, false);
            }
            outbox.offsets(&offsets, || {
                let metadata = identity(shared)?;
                check()?;
                Ok(metadata)
            })?;
        }
        outbox.commit()?;
        let metrics = &shared.core.clients.options.metrics;
        for (topic, (records, bytes)) in &written {
            metrics.appended(topic, *records, *bytes);
        }
        Ok(())
    }

    /// Ends what is open, and has everything given out anew.
    fn abort(&mut self) {
        if let Ok(outbox) = &mut self.outbox
            && outbox.is_open()
            && let Err(failure) = outbox.abort()
        {
            tracing::warn!(group = %self.shared.group, ?failure, "an abort fails");
            let fenced = matches!(failure, Failure::Broken { fenced: true, .. });
            self.outbox = Err(Broken { fenced });
            return;
        }
        self.shared.mailbox.command(Command::Rewind);
    }

    /// Replaces a broken producer, if it is broken, and has everything given out anew.
    fn recover(&mut self) {
        while let Err(Broken { fenced }) = self.outbox {
            if let Some(error) = self.hopeless(fenced) {
                self.shared.fail(error);
                return;
            }
            self.broken += 1;
            tracing::warn!(group = %self.shared.group, fenced, "a new producer for transactions");
            match Outbox::new(&self.shared, &self.id, None) {
                Ok(outbox) => {
                    self.outbox = Ok(outbox);
                    self.abort();
                }
                Err(Failure::Broken { fenced, .. }) => self.outbox = Err(Broken { fenced }),
                Err(Failure::Refused(error)) => return self.shared.fail(error),
                Err(Failure::Abort(_)) => return, // closing
            }
        }
    }

    fn hopeless(&self, fenced: bool) -> Option<LogError> {
        let Self { shared, id, .. } = self;
        if let Some(error) = shared.fatal() {
            return Some(error);
        }
        // A peer that took us for dead is no reason to end; another process of our name is.
        if fenced && claim::has_double(shared, id).unwrap_or(false) {
            return Some(LogError::Fatal(format!(
                "another process does transactions as {id}; this one must end"
            )));
        }
        (self.broken >= REBUILDS).then(|| {
            LogError::Fatal(format!("producers of transactions as {id} break again and again"))
        })
    }
}

/// Who we are in the group.
fn identity(shared: &Shared) -> Result<ConsumerGroupMetadata, Failure> {
    let consumer = shared.consumer().map_err(|e| Failure::Abort(e.to_string()))?;
    let metadata = consumer.group_metadata();
    let metadata = metadata.ok_or_else(|| Failure::Abort("not in the group".into()))?;
    // One that lost its membership has no generation, and the broker would take that for a member
    // without a group. librdkafka sets this flag with the loss; when the callback has cleared it
    // since, it has fenced before.
    if consumer.assignment_lost() {
        return Err(Failure::Abort("the membership was lost".into()));
    }
    Ok(metadata)
}
