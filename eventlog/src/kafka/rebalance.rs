//! What librdkafka calls while a member is polled: partitions come and go.
//!
//! Runs inside `poll`, on the poll thread. The group waits for a revocation to end here, so it is the
//! place to wait for the owner: until it has acknowledged, or the deadline. The invariant: when
//! `incremental_unassign` is called, the leases of its partitions are fenced; the next owner may
//! begin right after.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{Consumer as _, ConsumerContext, RebalanceProtocol},
    error::KafkaError,
    types::RDKafkaRespErr,
};
use tokio::sync::oneshot::error::TryRecvError;

use super::{
    errors,
    member::{Consumer, Shared, kafka_partition},
    observe::Observer,
};
use crate::{Delivery, Lease, LogError, Revocation};

/// The context of a member's consumer.
pub(super) struct Callbacks {
    pub shared: Arc<Shared>,
    /// Another consumer has taken the place of this one.
    pub replaced: AtomicBool,
    pub observer: Observer,
}

type Place = (Arc<str>, u32);

impl Callbacks {
    fn assigned(&self, consumer: &Consumer, places: &[Place]) {
        let shared = &self.shared;
        // Nothing is read before the owner has answered: paused, until the seek. Not at the end, which
        // has to be looked up: librdkafka puts that off for 500 ms while it does not know the leader,
        // and a look-up that was put off may come after the seek, and jumps.
        let list = list_at(places, Offset::Offset(0));
        if let Err(error) = consumer.incremental_assign(&list) {
            let told = errors::tell(&error);
            shared.fail(LogError::Fatal(format!("partitions could not be taken: {told}")));
            return;
        }
        if let Err(error) = consumer.pause(&list) {
            tracing::warn!(error = errors::tell(&error), "new partitions could not be paused");
        }
        let grown = places.iter().find(|(topic, partition)| {
            shared.topics.iter().any(|t| t.name == *topic && *partition >= t.partitions)
        });
        if let Some((topic, _)) = grown {
            shared.fail(LogError::Mismatch {
                topic: topic.clone(),
                detail: "its number of partitions has changed, and with it where keys are; make \
                         a new topic and drain this one"
                    .into(),
            });
            return;
        }
        tracing::debug!(group = %shared.group, ?places, "assigned");
        shared.gain(places);
    }

    fn revoked(&self, consumer: &Consumer, places: &[Place]) {
        let shared = &self.shared;
        let lost = consumer.assignment_lost();
        let (known, unknown) = shared.leave(places);
        tracing::debug!(group = %shared.group, ?places, lost, "revoked");
        if lost || shared.closing.load(Ordering::Relaxed) {
            shared.leases.fence(known.iter().chain(&unknown));
            shared.mailbox.forget(&known);
            shared.lost(known);
        } else {
            shared.leases.fence(&unknown);
            if !known.is_empty() {
                self.wait_for(known);
            }
        }
        shared.drop_slots(places);
        let unassigned = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => {
                consumer.incremental_unassign(&list_at(places, Offset::Invalid))
            }
            _ => consumer.unassign(),
        };
        if unassigned.or_else(|_| consumer.unassign()).is_err() {
            let error = format!("partitions of the group {} could not be given up", shared.group);
            shared.fail(LogError::Fatal(error));
        }
    }

    /// Asks the owner, and fences when it has acknowledged, or at the deadline.
    fn wait_for(&self, leases: Vec<Lease>) {
        let shared = &self.shared;
        shared.mailbox.forget(&leases);
        let (revocation, mut ack) = Revocation::new(leases.clone(), false);
        shared.mailbox.tell(Delivery::Revoked(revocation));
        let deadline = Instant::now() + shared.core.clients.options.revoke_deadline;
        while let Err(TryRecvError::Empty) = ack.try_recv() {
            // With a transaction that aborts meanwhile the leases end too.
            if !leases.iter().any(|lease| shared.leases.is_live(lease)) {
                return;
            }
            if shared.closing.load(Ordering::Relaxed) {
                break;
            }
            if Instant::now() >= deadline {
                tracing::warn!(group = %shared.group, partitions = leases.len(),
                    "partitions were not given back in time");
                shared.core.clients.options.metrics.lost_leases.inc_by(leases.len() as u64);
                shared.leases.fence(&leases);
                shared.mailbox.turn_lost(&leases);
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        shared.leases.fence(&leases);
        shared.mailbox.forget(&leases); // the owner may have paused one meanwhile
    }

    fn places(&self, list: &TopicPartitionList) -> Vec<Place> {
        let elements = list.elements();
        let place = |name: &str, partition: i32| {
            let topic = self.shared.topics.iter().find(|topic| *topic.name == *name);
            let name = topic.map_or_else(|| name.into(), |topic| topic.name.clone());
            (name, u32::try_from(partition).unwrap_or_default())
        };
        elements.iter().map(|e| place(e.topic(), e.partition())).collect()
    }
}

fn list_at(places: &[Place], offset: Offset) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(places.len());
    for (topic, partition) in places {
        let mut place = list.add_partition(topic, kafka_partition(*partition));
        let _ = place.set_offset(offset); // logical offsets are taken
    }
    list
}

impl ConsumerContext for Callbacks {
    fn rebalance(&self, consumer: &Consumer, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        if self.replaced.load(Ordering::Relaxed) {
            let _ = consumer.unassign(); // it is being closed
            return;
        }
        let places = self.places(list);
        if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.assigned(consumer, &places);
        } else {
            self.revoked(consumer, &places);
        }
    }
}

impl ClientContext for Callbacks {
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
