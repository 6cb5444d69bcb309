//! A member of a group, as its poll thread and its owner share it.
//!
//! ```text
//! owner (a task)                           poll thread
//!   next() <------- mailbox: Assigned, Revoked, Batch, Gap <------- poll, rebalance callback
//!   commit() -----> librdkafka, if the lease is live                  |
//!   drop ---------> mailbox: Close -------------------------------->  leaves, ends
//! ```
//!
//! What it holds is a list of slots, one for each partition that the group gave us. A slot without a
//! lease is ours, but was lost with a transaction and not given out anew yet. Leases are fenced
//! before anyone is told that they are lost.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    types::RDKafkaErrorCode as Code,
};
use uuid::Uuid;

use super::{
    Core, errors,
    leases::Leases,
    mailbox::{Command, Mailbox},
    observe::locked,
    rebalance::Callbacks,
    watchdog::{self, Watchdog},
};
use crate::{Delivery, Lease, LogError, Revocation};

/// The consumer of a member.
pub(super) type Consumer = BaseConsumer<Callbacks>;

/// As what it joins: the transactional id is also its name in the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Commits positions alone.
    Plain,
    /// Commits positions with what it writes.
    Transactional(Arc<str>),
}

/// A topic of a subscription.
#[derive(Clone, Debug)]
pub(super) struct Topic {
    pub name: Arc<str>,
    /// As it was when the subscription began; readers depend on its staying so.
    pub partitions: u32,
}

/// What poll thread, callbacks and owner share.
pub(super) struct Shared {
    pub core: Arc<Core>,
    pub group: Arc<str>,
    /// Tells this member from others of its transactional id.
    pub nonce: String,
    pub topics: Vec<Topic>,
    pub leases: Arc<Leases>,
    pub mailbox: Mailbox,
    pub watchdog: Watchdog,
    /// Calls on transactions that were left behind and have not come back.
    pub hanging: AtomicU32,
    /// The owner is gone: nobody is to be told anything.
    pub closing: AtomicBool,
    /// Counts changes of the slots.
    pub changes: AtomicU64,
    slots: Mutex<Slots>,
    /// Set once the poll thread has made it.
    consumer: Mutex<Option<Weak<Consumer>>>,
    role: Mutex<Option<Role>>,
    decided: Condvar,
}

#[derive(Default)]
struct Slots {
    held: Vec<Slot>,
    /// Leases whose owner is to be told of them.
    fresh: Vec<Lease>,
}

struct Slot {
    topic: Arc<str>,
    partition: u32,
    lease: Option<Lease>,
    /// The owner knows of the lease.
    told: bool,
    /// The owner was asked to give it up.
    leaving: bool,
}

impl Shared {
    pub fn new(core: Arc<Core>, group: &str, topics: Vec<Topic>) -> Result<Self, LogError> {
        let options = &core.clients.options;
        let health = core.clients.health.clone();
        // Enough for the next transaction while one is being committed.
        let mailbox = Mailbox::new(options.batch_bytes * 3, options.batch_records);
        Ok(Self {
            group: group.into(),
            nonce: Uuid::new_v4().simple().to_string(),
            topics,
            leases: Arc::default(),
            mailbox,
            watchdog: Watchdog::new(
                watchdog::end_process(),
                Box::new(move || health.status().is_ok()),
            )?,
            hanging: AtomicU32::new(0),
            closing: AtomicBool::new(false),
            changes: AtomicU64::new(0),
            slots: Mutex::default(),
            consumer: Mutex::default(),
            role: Mutex::default(),
            decided: Condvar::new(),
            core,
        })
    }

    /// The consumer, while it lives.
    pub fn consumer(&self) -> Result<Arc<Consumer>, LogError> {
        let consumer = locked(&self.consumer).as_ref().and_then(Weak::upgrade);
        consumer.ok_or_else(|| LogError::Retry(format!("not in the group {} now", self.group)))
    }

    /// The name under which it is in the group: given, or its own.
    pub fn instance(&self) -> &str {
        self.core.clients.options.instance.as_deref().unwrap_or(&self.nonce)
    }

    /// The consumer from now on.
    pub fn set_consumer(&self, consumer: &Arc<Consumer>) {
        *locked(&self.consumer) = Some(Arc::downgrade(consumer));
    }

    /// Whether it ever joined.
    pub fn has_joined(&self) -> bool {
        locked(&self.consumer).is_some()
    }

    /// Whether the brokers know another one of the consumer's instance id, where we made that up: then
    /// the other one is ourselves, from when an answer to a join was lost, and a new consumer takes
    /// its place (KIP-345).
    pub fn is_its_own_double(&self, consumer: &Consumer) -> bool {
        self.core.clients.options.instance.is_none()
            && consumer
                .client()
                .fatal_error()
                .is_some_and(|(code, _)| code == Code::FencedInstanceId)
    }

    /// Why there is no going on with the consumer, if so.
    pub fn fatal(&self) -> Option<LogError> {
        let consumer = self.consumer().ok()?;
        let (code, _) = consumer.client().fatal_error()?;
        (!self.is_its_own_double(&consumer)).then(|| self.over(&code.to_string()))
    }

    /// That the membership has ended, and why.
    pub fn over(&self, why: &str) -> LogError {
        LogError::Fatal(format!("the membership of the group {} has ended: {why}", self.group))
    }

    /// What an error of the consumer means to the owner.
    pub fn refusal(&self, what: &str, consumer: &Consumer, error: &KafkaError) -> LogError {
        if self.is_its_own_double(consumer) {
            return LogError::Retry(format!("joining the group {} anew", self.group));
        }
        match errors::log_error(what, &self.group, error) {
            // The topic was there when it joined; a broker that has just come back learns of it.
            error @ LogError::Unknown(_) => LogError::Retry(error.to_string()),
            error => error,
        }
    }

    /// Says as what to join; `false` when it was said before.
    pub fn decide(&self, role: Role) -> bool {
        let mut decided = locked(&self.role);
        let first = decided.is_none();
        if first {
            *decided = Some(role);
            self.decided.notify_all();
        }
        first
    }

    /// As what to join, once it was said; after a moment without a word, as a plain member.
    pub fn role(&self, moment: Duration) -> Role {
        let role = locked(&self.role);
        let waited = self.decided.wait_timeout_while(role, moment, |role| role.is_none());
        let (mut role, _) = waited.unwrap_or_else(PoisonError::into_inner);
        role.get_or_insert(Role::Plain).clone()
    }

    /// The id of its transactions, if it has them.
    pub fn transactional_id(&self) -> Option<Arc<str>> {
        match self.role(Duration::ZERO) {
            Role::Transactional(id) => Some(id),
            Role::Plain => None,
        }
    }

    /// Partitions that the group gave us.
    pub fn gain(&self, places: &[(Arc<str>, u32)]) {
        let mut slots = self.slots();
        for (topic, partition) in places {
            let lease = self.leases.grant(topic, *partition);
            self.core.clients.options.metrics.assignments.inc();
            slots.fresh.push(lease.clone());
            slots.held.push(Slot {
                topic: topic.clone(),
                partition: *partition,
                lease: Some(lease),
                told: false,
                leaving: false,
            });
        }
        self.changed();
    }

    /// The leases of partitions that are to be given up; those that the owner knows of are to be
    /// revoked, the others just end.
    pub fn leave(&self, places: &[(Arc<str>, u32)]) -> (Vec<Lease>, Vec<Lease>) {
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for slot in self.slots().held.iter_mut().filter(|slot| slot.is_among(places)) {
            slot.leaving = true;
            let Some(lease) = &slot.lease else { continue };
            if slot.told { &mut known } else { &mut unknown }.push(lease.clone());
        }
        (known, unknown)
    }

    /// Partitions that are ours no longer; their leases are fenced already.
    pub fn drop_slots(&self, places: &[(Arc<str>, u32)]) {
        self.slots().held.retain(|slot| !slot.is_among(places));
        self.changed();
    }

    /// The group that gave us anything is another one now. All is lost already.
    pub fn drop_all_slots(&self) {
        self.slots().held.clear();
        self.changed();
    }

    /// Whether the group has given us anything.
    pub fn holds_any(&self) -> bool {
        !self.slots().held.is_empty()
    }

    /// Leases nobody has begun to prepare.
    pub fn take_fresh(&self) -> Vec<Lease> {
        std::mem::take(&mut self.slots().fresh)
    }

    /// From now on the owner knows of these leases; answers whether a lease still lives.
    pub fn telling(&self, leases: &[Lease]) -> Vec<bool> {
        let mut slots = self.slots();
        let told = |lease: &Lease| {
            let held = &mut slots.held;
            let slot = held.iter_mut().find(|slot| slot.lease.as_ref() == Some(lease));
            slot.filter(|slot| !slot.leaving).is_some_and(|slot| {
                slot.told = true;
                true
            })
        };
        leases.iter().map(told).collect()
    }

    /// Ends every lease and tells the owner: what was in a transaction comes again.
    pub fn lose_all(&self) {
        let (mut all, mut known) = (Vec::new(), Vec::new());
        {
            let mut slots = self.slots();
            slots.fresh.clear();
            for slot in &mut slots.held {
                let Some(lease) = slot.lease.take() else { continue };
                if slot.told && !slot.leaving {
                    known.push(lease.clone());
                }
                slot.told = false;
                all.push(lease);
            }
        }
        self.leases.fence(&all);
        self.changed();
        self.mailbox.forget(&all);
        self.lost(known);
    }

    /// New leases for what has none.
    pub fn renew(&self) -> Vec<Lease> {
        let mut slots = self.slots();
        let Slots { held, fresh } = &mut *slots;
        let mut renewed = Vec::new();
        for slot in held.iter_mut().filter(|slot| slot.lease.is_none() && !slot.leaving) {
            let lease = self.leases.grant(&slot.topic, slot.partition);
            slot.lease = Some(lease.clone());
            renewed.push(lease);
        }
        fresh.extend(renewed.iter().cloned());
        renewed
    }

    /// Tells the owner of leases that are fenced.
    pub fn lost(&self, leases: Vec<Lease>) {
        if leases.is_empty() || self.closing.load(Ordering::Relaxed) {
            return;
        }
        self.core.clients.options.metrics.lost_leases.inc_by(leases.len() as u64);
        self.mailbox.tell(Delivery::Revoked(Revocation::new(leases, true).0));
    }

    /// There is no going on: the owner is told of its losses and then why.
    pub fn fail(&self, error: LogError) {
        tracing::error!(group = %self.group, %error, "the membership has ended");
        self.lose_all();
        self.mailbox.end(error);
    }

    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        locked(&self.slots)
    }
}

impl Slot {
    fn is_among(&self, places: &[(Arc<str>, u32)]) -> bool {
        places.iter().any(|(topic, partition)| *partition == self.partition && *topic == self.topic)
    }
}

/// The owner's part: the membership ends with it.
pub(super) struct Membership(pub Arc<Shared>);

impl Drop for Membership {
    fn drop(&mut self) {
        self.0.closing.store(true, Ordering::Relaxed);
        self.0.mailbox.command(Command::Close(None));
    }
}

/// A thread of ours.
pub(super) fn spawn(
    name: &'static str,
    body: impl FnOnce() + Send + 'static,
) -> Result<(), LogError> {
    let spawned = thread::Builder::new().name(name.into()).spawn(body);
    spawned.map(drop).map_err(|e| LogError::Retry(format!("no thread for {name}: {e}")))
}

/// Partitions with an offset each, as librdkafka takes them.
pub(super) fn list<'a>(
    leases: impl IntoIterator<Item = (&'a Lease, Offset)>,
) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (lease, offset) in leases {
        let mut place = list.add_partition(&lease.topic, kafka_partition(lease.partition));
        let _ = place.set_offset(offset); // refused for what we never ask: a tail of negative length
    }
    list
}

pub(super) fn kafka_partition(partition: u32) -> i32 {
    i32::try_from(partition).unwrap_or(i32::MAX)
}
