//! A member of a group, and its transactor, as the seam knows them.
//!
//! Joining waits until it is known whether there will be transactions, because those members have
//! another name in the group. See `member` for how the parts fit together.

use std::{sync::Arc, sync::mpsc, time::Duration};

use async_trait::async_trait;
use rdkafka::{
    TopicPartitionList,
    consumer::{CommitMode, Consumer as _},
    error::KafkaError,
    types::RDKafkaErrorCode as Code,
};
use tokio::sync::oneshot;

use super::{
    Core,
    mailbox::Command,
    member::{Membership, Role, Shared, Topic, kafka_partition, spawn},
    poll,
    transactions::{self, Work},
};
use crate::{
    Delivery, Lease, LogError, Position, Record, SubscriptionDriver, TopicInfo, TransactDriver,
    TransactError,
};

/// How long leaving a group may hold up its owner.
const LEAVE: Duration = Duration::from_secs(15);
/// A commit is tried again while the group rebalances.
const COMMIT_TRIES: u32 = 10;
/// A commit that takes longer, with brokers that answer, does not come back. It has no timeout of its
/// own and waits for the group's coordinator.
pub(super) const HUNG_COMMIT: Duration = Duration::from_secs(60);

/// Prepares to join a group that reads these topics.
pub(super) fn subscribe(
    core: Arc<Core>,
    group: &str,
    topics: Vec<TopicInfo>,
) -> Result<Box<dyn SubscriptionDriver>, LogError> {
    let topic = |info: TopicInfo| Topic { name: info.name, partitions: info.partitions };
    begin(core, group, topics.into_iter().map(topic).collect()).map(|s| Box::new(s) as Box<_>)
}

fn begin(core: Arc<Core>, group: &str, topics: Vec<Topic>) -> Result<Subscription, LogError> {
    let shared = Arc::new(Shared::new(core, group, topics)?);
    let polled = shared.clone();
    spawn("log-member", move || poll::run(&polled))?;
    Ok(Subscription(Membership(shared)))
}

struct Subscription(Membership);

#[async_trait]
impl SubscriptionDriver for Subscription {
    async fn next(&mut self) -> Result<Delivery, LogError> {
        let shared = &self.0.0;
        shared.decide(Role::Plain);
        shared.mailbox.next().await
    }

    async fn commit(&mut self, positions: &[(Lease, Position)]) -> Result<(), LogError> {
        if positions.is_empty() {
            return Ok(());
        }
        let (shared, positions) = (self.0.0.clone(), positions.to_vec());
        let committed = tokio::task::spawn_blocking(move || commit(&shared, &positions)).await;
        committed.unwrap_or_else(|_| Err(LogError::Retry("the commit was given up".into())))
    }

    fn pause(&mut self, lease: &Lease) {
        self.0.0.mailbox.pause(&self.0.0.leases, lease);
    }

    fn resume(&mut self, lease: &Lease, at: Position) {
        self.0.0.mailbox.resume(lease, at);
    }

    async fn into_transactional(
        self: Box<Self>,
        id: Arc<str>,
    ) -> Result<Box<dyn TransactDriver>, LogError> {
        let mut membership = self.0;
        if !membership.0.decide(Role::Transactional(id.clone())) {
            // Joined already, under another name. It leaves first, or one of an instance's name would
            // fence itself.
            let Shared { core, group, topics, .. } = &*membership.0;
            let (core, group, topics) = (core.clone(), group.clone(), topics.clone());
            leave(membership).await?;
            membership = begin(core, &group, topics)?.0;
            membership.0.decide(Role::Transactional(id.clone()));
        }
        let (sender, work) = mpsc::channel();
        let ((ready_tx, ready), (ended_tx, ended)) = (oneshot::channel(), oneshot::channel());
        let shared = membership.0.clone();
        spawn("log-transactions", move || {
            transactions::run(&shared, &id, &work, ready_tx, ended_tx);
        })?;
        let gone = |_| LogError::Retry("the thread of transactions has ended".into());
        ready.await.map_err(gone)??;
        Ok(Box::new(Transactor { membership, work: sender, ended, under_way: None, failed: false }))
    }

    async fn close(self: Box<Self>) -> Result<(), LogError> {
        leave(self.0).await
    }
}

struct Transactor {
    membership: Membership,
    work: mpsc::Sender<Work>,
    ended: oneshot::Receiver<()>,
    /// The answer of a commit whose wait was given up.
    under_way: Option<oneshot::Receiver<Result<(), TransactError>>>,
    /// The producer may need to be replaced before anything comes again.
    failed: bool,
}

impl Transactor {
    /// Waits for a commit whose wait was given up: how it ended decides what comes next.
    async fn settle(&mut self) {
        if let Some(earlier) = &mut self.under_way {
            self.failed |= !matches!(earlier.await, Ok(Ok(())));
            self.under_way = None;
        }
    }

    fn recover(&mut self) {
        if std::mem::take(&mut self.failed) {
            let _ = self.work.send(Work::Recover); // a thread that is gone has said why
        }
    }
}

#[async_trait]
impl TransactDriver for Transactor {
    async fn next(&mut self) -> Result<Delivery, LogError> {
        self.settle().await;
        self.recover();
        self.membership.0.mailbox.next().await
    }

    async fn commit(
        &mut self,
        outputs: Vec<(Arc<str>, Record)>,
        positions: &[(Lease, Position)],
    ) -> Result<(), TransactError> {
        if outputs.is_empty() && positions.is_empty() {
            return Ok(());
        }
        self.settle().await;
        let gone = || {
            let why = || LogError::Fatal("the thread of transactions has ended".into());
            TransactError::Log(self.membership.0.mailbox.ended().unwrap_or_else(why))
        };
        let (reply, answer) = oneshot::channel();
        let positions = positions.to_vec();
        self.work.send(Work::Commit { outputs, positions, reply }).map_err(|_| gone())?;
        let committed = self.under_way.insert(answer).await;
        self.under_way = None;
        let committed = committed.unwrap_or_else(|_| Err(gone()));
        self.failed |= committed.is_err();
        committed
    }

    async fn close(self: Box<Self>) -> Result<(), LogError> {
        let Self { membership, work, ended, .. } = *self;
        drop(work);
        // The producer first, so that nothing is open when the partitions move.
        let _ = tokio::time::timeout(LEAVE, ended).await;
        leave(membership).await
    }
}

/// Leaves the group and waits for that, but not for ever.
async fn leave(membership: Membership) -> Result<(), LogError> {
    let shared = membership.0.clone();
    if shared.mailbox.ended().is_some() && !shared.has_joined() {
        return Ok(()); // never joined
    }
    shared.decide(Role::Plain);
    let (tx, left) = oneshot::channel();
    shared.mailbox.command(Command::Close(Some(tx)));
    drop(membership);
    if tokio::time::timeout(LEAVE, left).await.is_err() {
        tracing::warn!(group = %shared.group, "leaving the group takes long; it goes on by itself");
    }
    Ok(())
}

/// Commits positions; blocks.
fn commit(shared: &Arc<Shared>, positions: &[(Lease, Position)]) -> Result<(), LogError> {
    let mut list = TopicPartitionList::with_capacity(positions.len());
    for (lease, at) in positions {
        let mut place = list.add_partition(&lease.topic, kafka_partition(lease.partition));
        let at = rdkafka::Offset::Offset(i64::try_from(*at).unwrap_or(i64::MAX));
        let _ = place.set_offset(at); // not negative
    }
    let mut tries = 0;
    loop {
        // Anew for each try: what holds up the fence must not wait.
        let _held = shared.leases.begin_commit(positions)?;
        let consumer = shared.consumer()?;
        let call = || consumer.commit(&list, CommitMode::Sync);
        let Err(error) = shared.watchdog.run("commit", HUNG_COMMIT, call) else { return Ok(()) };
        tries += 1;
        if tries == COMMIT_TRIES || !in_rebalance(&error) {
            return Err(shared.refusal("committing positions", &consumer, &error));
        }
        drop(_held);
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Partitions that stay see these while the group moves others.
fn in_rebalance(error: &KafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(Code::RebalanceInProgress | Code::IllegalGeneration))
}
