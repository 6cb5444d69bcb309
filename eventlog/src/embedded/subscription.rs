//! A member of a group: what it is told, what it reads, and its commits, with or without outputs.
//!
//! Everything a member is told comes in one order: loss, revocation, assignment, records. Reading
//! waits on notifications only. `next` keeps no state across its waits that would be lost when its
//! future is dropped.

use std::{future::poll_fn, pin::Pin, sync::Arc, task::Poll};

use async_trait::async_trait;
use tokio::{
    sync::{Notify, oneshot},
    task::JoinHandle,
};

use super::{
    EmbeddedLog,
    group::{Control, Group},
    prepare::Prepared,
    queue::{Failure, Write},
    reader::{Fetched, Limits, fetch_blocking, fetch_hot},
    topic::Partition,
};
use crate::{
    Assigned, Assignment, Batch, Delivery, Gap, Lease, LogError, Metrics, Position, Record,
    Revocation, SubscriptionDriver, TransactDriver, TransactError, subscription::start,
};

/// A member of a group.
pub(crate) struct Member {
    log: EmbeddedLog,
    group: Arc<Group>,
    id: u64,
    notify: Arc<Notify>,
    /// What it reads, in turn.
    held: Vec<Held>,
    /// Assignments that were not answered yet.
    unanswered: Vec<Unanswered>,
    turn: usize,
    /// A read from the engine under way; survives a dropped `next`.
    cold: Option<Cold>,
    limits: Limits,
}

struct Held {
    lease: Lease,
    partition: Arc<Partition>,
    at: Position,
    paused: bool,
}

struct Unanswered {
    /// In the order of the answer; none where the lease has ended meanwhile.
    partitions: Vec<Option<(Assignment, Arc<Partition>)>>,
    answer: oneshot::Receiver<Vec<Option<Position>>>,
}

struct Cold {
    lease: u64,
    from: Position,
    read: JoinHandle<Result<Fetched, LogError>>,
}

impl Member {
    pub fn new(log: EmbeddedLog, group: Arc<Group>, id: u64, notify: Arc<Notify>) -> Self {
        let limits = Limits::from(&log.core().options);
        Self {
            log,
            group,
            id,
            notify,
            held: Vec::new(),
            unanswered: Vec::new(),
            turn: 0,
            cold: None,
            limits,
        }
    }

    async fn next(&mut self) -> Result<Delivery, LogError> {
        loop {
            if let Some(control) = self.group.control(self.id) {
                return self.tell(control);
            }
            if self.cold.as_ref().is_some_and(|cold| cold.read.is_finished())
                && let Some(delivery) = {
                    let read = thawed(&mut self.cold).await;
                    self.resumed(read)?
                }
            {
                return Ok(delivery);
            }
            if let Some(delivery) = self.read()? {
                return Ok(delivery);
            }
            let notify = self.notify.clone();
            tokio::select! {
                () = notify.notified() => {}
                (which, answer) = answered(&mut self.unanswered) => self.begin(which, answer),
                read = thawed(&mut self.cold) => if let Some(delivery) = self.resumed(read)? {
                    return Ok(delivery);
                },
            }
        }
    }

    fn tell(&mut self, control: Control) -> Result<Delivery, LogError> {
        match control {
            Control::Fenced => Err(fenced()),
            Control::Lost(leases) => {
                self.drop_leases(&leases);
                Ok(Delivery::Revoked(Revocation::new(leases, true).0))
            }
            Control::Revoke(leases) => {
                self.drop_leases(&leases);
                let ids: Vec<u64> = leases.iter().map(|lease| lease.id).collect();
                let (revocation, ack) = Revocation::new(leases, false);
                let group = self.group.clone();
                self.log.core().runtime.spawn(async move {
                    let _ = ack.await; // closed without a message is an acknowledgement too
                    group.acknowledged(&ids);
                });
                Ok(Delivery::Revoked(revocation))
            }
            Control::Assign(partitions) => {
                let assignments = partitions.iter().map(|(a, _)| a.clone()).collect();
                let (assigned, answer) = Assigned::new(assignments);
                let partitions = partitions.into_iter().map(Some).collect();
                self.unanswered.push(Unanswered { partitions, answer });
                Ok(Delivery::Assigned(assigned))
            }
        }
    }

    /// Starts what was answered.
    fn begin(&mut self, which: usize, answer: Vec<Option<Position>>) {
        let given = answer.into_iter().chain(std::iter::repeat(None));
        let partitions = self.unanswered.swap_remove(which).partitions;
        for (place, given) in partitions.into_iter().zip(given) {
            let Some((assignment, partition)) = place else { continue };
            let at = start(given, assignment.committed, partition.bounds().start);
            self.held.push(Held { lease: assignment.lease, partition, at, paused: false });
        }
    }

    fn drop_leases(&mut self, leases: &[Lease]) {
        let ends = |lease: &Lease| leases.iter().any(|l| l.id == lease.id);
        self.held.retain(|held| !ends(&held.lease));
        for place in self.unanswered.iter_mut().flat_map(|u| &mut u.partitions) {
            place.take_if(|(assignment, _)| ends(&assignment.lease));
        }
    }

    /// The next records that can be had without waiting.
    fn read(&mut self) -> Result<Option<Delivery>, LogError> {
        let engine = &self.log.core().engine;
        let count = self.held.len();
        for index in (0..count).map(|i| (self.turn + i) % count) {
            let held = &mut self.held[index];
            if held.paused || self.cold.as_ref().is_some_and(|cold| cold.lease == held.lease.id) {
                continue;
            }
            let fetched = fetch_hot(engine, &held.partition, held.at, u64::MAX, self.limits);
            match fetched {
                Ok(Fetched::End) => {}
                Ok(Fetched::Cold) if self.cold.is_some() => {}
                Ok(Fetched::Cold) => {
                    let (engine, partition) = (engine.clone(), held.partition.clone());
                    let read = fetch_blocking(engine, partition, held.at, u64::MAX, self.limits);
                    let read = tokio::spawn(read);
                    self.cold = Some(Cold { lease: held.lease.id, from: held.at, read });
                }
                Ok(Fetched::Gone(start)) => {
                    self.turn = index;
                    return Ok(Some(self.gap(index, start)));
                }
                Ok(Fetched::Records((records, next))) => {
                    held.at = next;
                    let lease = held.lease.clone();
                    self.turn = index + 1;
                    return Ok(Some(Delivery::Batch(Batch { lease, records, next })));
                }
                Err(e) => {
                    // There is no going on from here: the partition is given out anew.
                    self.group.abort(self.id);
                    return Err(e);
                }
            }
        }
        Ok(None)
    }

    /// What a read from the engine brought, if it is still wanted.
    fn resumed(&mut self, read: Thawed) -> Result<Option<Delivery>, LogError> {
        let (lease, from, fetched) = read;
        let wanted = |held: &Held| held.lease.id == lease && held.at == from && !held.paused;
        let Some(index) = self.held.iter().position(wanted) else { return Ok(None) };
        match fetched? {
            Fetched::Gone(start) => Ok(Some(self.gap(index, start))),
            Fetched::Records((records, next)) => {
                self.held[index].at = next;
                self.turn = index + 1;
                let lease = self.held[index].lease.clone();
                Ok(Some(Delivery::Batch(Batch { lease, records, next })))
            }
            Fetched::End | Fetched::Cold => Ok(None),
        }
    }

    fn gap(&mut self, index: usize, to: Position) -> Delivery {
        let held = &mut self.held[index];
        let gap = Gap { lease: held.lease.clone(), from: held.at, to };
        held.at = to;
        let (topic, partition) = (&gap.lease.topic, gap.lease.partition);
        tracing::warn!(group = %self.group.name, %topic, partition, from = gap.from, to,
            "retention took records before they were read");
        Metrics::of(&self.log.core().options.metrics.gaps, topic).inc();
        Delivery::Gap(gap)
    }

    /// A write that moves positions; the group must have taken them up.
    fn moving(&self, positions: &[(Lease, Position)]) -> Result<Write, LogError> {
        let core = self.log.core();
        let mut meta = Vec::with_capacity(positions.len());
        for (lease, position) in positions {
            let topic = core.find(&lease.topic)?;
            let key = Group::key_of(&self.group.name, topic.id, lease.partition);
            meta.push((key, position.to_be_bytes().to_vec()));
        }
        self.group.committing(self.id, positions)?;
        let (group, positions) = (self.group.clone(), positions.to_vec());
        let done = move |stored| group.committing_ended(&positions, stored);
        let size = meta.len() * 64;
        Ok(Write { meta, size, done: Some(Box::new(done)), ..Write::default() })
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.group.leave(self.id);
    }
}

#[async_trait]
impl SubscriptionDriver for Member {
    async fn next(&mut self) -> Result<Delivery, LogError> {
        Member::next(self).await
    }

    async fn commit(&mut self, positions: &[(Lease, Position)]) -> Result<(), LogError> {
        if positions.is_empty() {
            return Ok(());
        }
        let write = self.moving(positions)?;
        self.log.core().write(write).await?;
        Ok(())
    }

    fn pause(&mut self, lease: &Lease) {
        if let Some(held) = self.held.iter_mut().find(|held| held.lease == *lease) {
            held.paused = true;
        }
    }

    fn resume(&mut self, lease: &Lease, at: Position) {
        if let Some(held) = self.held.iter_mut().find(|held| held.lease == *lease && held.paused) {
            (held.paused, held.at) = (false, at);
        }
    }

    async fn into_transactional(
        self: Box<Self>,
        transactional_id: Arc<str>,
    ) -> Result<Box<dyn TransactDriver>, LogError> {
        self.log.core().claim(transactional_id, &self.group, self.id);
        Ok(Box::new(Transactor(self)))
    }

    async fn close(self: Box<Self>) -> Result<(), LogError> {
        Ok(())
    }
}

/// A member that also appends.
struct Transactor(Box<Member>);

#[async_trait]
impl TransactDriver for Transactor {
    async fn next(&mut self) -> Result<Delivery, LogError> {
        self.0.next().await
    }

    async fn commit(
        &mut self,
        outputs: Vec<(Arc<str>, Record)>,
        positions: &[(Lease, Position)],
    ) -> Result<(), TransactError> {
        let member = &mut self.0;
        if outputs.is_empty() && positions.is_empty() {
            return Ok(());
        }
        let core = member.log.core();
        let mut prepared = Prepared::default();
        for (topic, record) in &outputs {
            core.prepare(&mut prepared, topic, record)?;
        }
        if member.group.is_fenced(member.id) {
            return Err(TransactError::Log(fenced()));
        }
        let moving = match member.moving(positions) {
            Ok(moving) => moving,
            Err(e @ (LogError::Stale { .. } | LogError::OutOfRange { .. })) => {
                member.group.abort(member.id);
                return Err(TransactError::Aborted(e.to_string()));
            }
            Err(e) => return Err(e.into()),
        };
        let Write { meta, done, size, .. } = moving;
        let outputs = prepared.into_write();
        let size = outputs.size + size;
        let write = Write { meta, done, size, burn: true, ..outputs };
        match core.written(write).await {
            Ok(_) => {
                core.options.metrics.transactions.inc();
                Ok(())
            }
            Err(Failure::Unknown(why)) => Err(TransactError::Log(LogError::Fatal(why))),
            Err(failure) => {
                member.group.abort(member.id);
                Err(TransactError::Aborted(LogError::from(failure).to_string()))
            }
        }
    }

    async fn close(self: Box<Self>) -> Result<(), LogError> {
        Ok(())
    }
}

fn fenced() -> LogError {
    LogError::Fatal("a later transactor with the same id took over; this one must end".into())
}

/// Waits for the first answer to an assignment; for ever when none is awaited.
async fn answered(unanswered: &mut [Unanswered]) -> (usize, Vec<Option<Position>>) {
    poll_fn(|cx| {
        for (which, waiting) in unanswered.iter_mut().enumerate() {
            if let Poll::Ready(answer) = Pin::new(&mut waiting.answer).poll(cx) {
                return Poll::Ready((which, answer.unwrap_or_default()));
            }
        }
        Poll::Pending
    })
    .await
}

/// Whose read it was, where it began, and what it brought.
type Thawed = (u64, Position, Result<Fetched, LogError>);

/// Waits for the read from the engine, if one is under way; for ever otherwise.
async fn thawed(cold: &mut Option<Cold>) -> Thawed {
    poll_fn(|cx| {
        let Some(under_way) = cold else { return Poll::Pending };
        let Poll::Ready(read) = Pin::new(&mut under_way.read).poll(cx) else {
            return Poll::Pending;
        };
        let read = read.unwrap_or_else(|e| Err(LogError::Fatal(format!("reading failed: {e}"))));
        let (lease, from) = (under_way.lease, under_way.from);
        *cold = None;
        Poll::Ready((lease, from, read))
    })
    .await
}
