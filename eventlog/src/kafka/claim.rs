//! Whose transactions may be open on a partition, and how a dead owner's are ended.
//!
//! A transaction that its process left open hides everything after it from `read_committed` readers,
//! and the positions it was about to commit from the next owner. The broker aborts it by itself only
//! after its timeout and a scan every ten seconds; who initialises transactions with the same
//! transactional id ends it at once. So the next owner has to know that id:
//!
//! 1. A member's transactional id is also in its `client.id`, which the broker lists with the group, and
//!    in the metadata of every offset it commits.
//! 2. A new owner looks up the committed offsets without waiting for open transactions, and takes the
//!    ids of former owners from them. Those that are not among the group's living members are
//!    initialised once by a producer that is thrown away.
//! 3. Then it reads where the group stands, and *claims* the partition: it commits the same position
//!    with its own id, so that the next owner finds it even when it dies before its first commit. Where
//!    nothing is committed yet, the claim says so, and counts as nothing.
//!
//! A living member keeps its transactions: a partition that moves in good order was acknowledged by
//! it. When nobody can say who lives, they are ended too: a living member then aborts, and goes
//! on with a new producer; nothing is lost or doubled, only time.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::Duration,
};

use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    groups::GroupMemberInfo,
    producer::{BaseProducer, DeliveryResult, Producer as _, ProducerContext},
    topic_partition_list::TopicPartitionListElem,
};

use super::{
    assignment,
    client::CALL,
    errors,
    member::{Shared, kafka_partition},
    observe::{Observer, Role},
};
use crate::{Lease, LogError, Position};

/// What the metadata of our offsets begins with: the format's version.
const MARK: &str = "penstock1";
/// How long the brokers may take to list a group. With one of them down it takes as long.
const LIST: Duration = Duration::from_secs(2);

/// Where a group stands in a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// `None` before the first commit; a claim is none.
    pub committed: Option<Position>,
    /// The transactional id of who committed or claimed last.
    pub owner: Option<String>,
}

/// What a committed offset says.
pub(super) fn standing(place: &TopicPartitionListElem<'_>) -> Standing {
    let Offset::Offset(at) = place.offset() else { return Standing::default() };
    // Other tools may write what is not UTF-8, which makes rdkafka panic.
    let metadata = catch_unwind(AssertUnwindSafe(|| place.metadata().to_owned()));
    parse(u64::try_from(at).unwrap_or_default(), &metadata.unwrap_or_default())
}

fn parse(at: Position, metadata: &str) -> Standing {
    let mut words = metadata.splitn(3, ' ');
    match (words.next(), words.next(), words.next()) {
        (Some(MARK), Some("claim"), owner) => {
            Standing { committed: None, owner: owner.map(str::to_owned) }
        }
        (Some(MARK), Some("commit"), owner) => {
            Standing { committed: Some(at), owner: owner.map(str::to_owned) }
        }
        _ => Standing { committed: Some(at), owner: None },
    }
}

/// Adds an offset to commit, with its owner. `nothing` is committed yet when it is a mere claim.
pub(super) fn add(
    list: &mut TopicPartitionList,
    lease: &Lease,
    at: Position,
    owner: &str,
    nothing: bool,
) {
    let kind = if nothing { "claim" } else { "commit" };
    let mut place = list.add_partition(&lease.topic, kafka_partition(lease.partition));
    let _ = place.set_offset(Offset::Offset(i64::try_from(at).unwrap_or(i64::MAX))); // not negative
    place.set_metadata(format!("{MARK} {kind} {owner}"));
}

/// Ends the transactions of former owners that are no longer in the group.
pub(super) fn end_former_owners(
    shared: &Arc<Shared>,
    leases: &[Lease],
    me: &str,
) -> Result<(), LogError> {
    let observer = observer(shared)?;
    let standing = assignment::committed(&observer, &shared.group, leases)?;
    let mut former: BTreeSet<String> = standing.into_iter().filter_map(|s| s.owner).collect();
    former.remove(me);
    if former.is_empty() {
        return Ok(());
    }
    match living(&observer, &shared.group) {
        Ok(living) => former.retain(|id| !living.iter().any(|client| bears(client, id))),
        Err(error) => {
            let error = errors::tell(&error);
            tracing::warn!(group = %shared.group, error, "who is in the group is not known");
        }
    }
    thread::scope(|scope| {
        let ending: Vec<_> =
            former.iter().map(|id| scope.spawn(|| end_transactions(shared, id))).collect();
        let ended = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|_| Err(LogError::Retry("a thread panicked".into())))
        };
        ending.into_iter().try_for_each(ended)
    })
}

/// Whether another living member of the group bears our transactional id. What we were before we lost
/// a membership may still be listed, and is no other.
pub(super) fn has_double(shared: &Arc<Shared>, id: &str) -> Result<bool, LogError> {
    let living = living(&observer(shared)?, &shared.group);
    let living = living.map_err(|e| errors::log_error("listing", &shared.group, &e))?;
    let me = client_id(id, &shared.nonce);
    Ok(living.iter().any(|client| bears(client, id) && *client != me))
}

/// Whether this member is still in its group, as far as a broker says in time. Brokers begin the
/// member id of a static member with its instance id.
pub(super) fn is_listed(shared: &Shared) -> bool {
    let begins = format!("{}-", shared.instance());
    let ours = members(&shared.core.lookup, &shared.group, |m| m.id().starts_with(&begins));
    ours.is_ok_and(|ours| ours.contains(&true))
}

/// A member's name in its group: the id of its transactions, and what tells it from its doubles.
pub(super) fn client_id(id: &str, nonce: &str) -> String {
    format!("{id}@{nonce}")
}

fn bears(client: &str, id: &str) -> bool {
    client.rsplit_once('@').is_some_and(|(bears, _)| bears == id)
}

/// Asks for offsets of the group without being in it, and without waiting for open transactions.
fn observer(shared: &Arc<Shared>) -> Result<BaseConsumer<Observer>, LogError> {
    let clients = &shared.core.clients;
    let mut config = clients.reader(Some(&shared.group));
    config.set("isolation.level", "read_uncommitted");
    config
        .create_with_context(clients.observer(Role::Reader))
        .map_err(|e| errors::log_error("asking for positions", &shared.group, &e))
}

/// The client ids of the group's members.
fn living(observer: &BaseConsumer<Observer>, group: &str) -> Result<Vec<String>, KafkaError> {
    members(observer, group, |member| member.client_id().to_owned())
}

/// Something of each member of the group.
fn members<T>(
    asker: &BaseConsumer<Observer>,
    group: &str,
    of: impl Fn(&GroupMemberInfo) -> T,
) -> Result<Vec<T>, KafkaError> {
    let list = asker.fetch_group_list(Some(group), LIST)?;
    let of_group = list.groups().iter().filter(|found| found.name() == group);
    Ok(of_group.flat_map(|found| found.members()).map(of).collect())
}

fn end_transactions(shared: &Arc<Shared>, id: &str) -> Result<(), LogError> {
    let clients = &shared.core.clients;
    let context = Silent(clients.observer(Role::Transactions));
    let producer: BaseProducer<Silent> = clients
        .transactional_producer(id)
        .create_with_context(context)
        .map_err(|e| errors::log_error("ending transactions", id, &e))?;
    let call = || producer.init_transactions(CALL);
    match shared.watchdog.run("init_transactions of a former owner", CALL * 3, call) {
        Ok(()) => {
            tracing::info!(group = %shared.group, former = id, "ended transactions of a former owner");
            Ok(())
        }
        Err(KafkaError::Transaction(error)) if error.is_retriable() => {
            Err(LogError::Retry(format!("transactions of {id} do not end: {}", error.name())))
        }
        Err(error) => {
            // Another one was quicker, or nobody may: then the broker's timeout has to do.
            let error = errors::tell(&error);
            tracing::info!(group = %shared.group, former = id, error, "transactions left alone");
            Ok(())
        }
    }
}

/// A producer that produces nothing.
struct Silent(Observer);

impl ClientContext for Silent {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, line: &str) {
        self.0.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(error, reason);
    }
}

impl ProducerContext for Silent {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_back(nothing: bool) -> Standing {
        let lease = Lease { id: 1, topic: "t".into(), partition: 3 };
        let mut list = TopicPartitionList::new();
        add(&mut list, &lease, 7, "clean.host 1", nothing);
        standing(&list.find_partition("t", 3).unwrap())
    }

    #[test]
    fn an_owner_is_found_again_in_what_it_committed() {
        let owner = Some("clean.host 1".to_owned());
        assert_eq!(read_back(false), Standing { committed: Some(7), owner });
    }

    #[test]
    fn a_claim_is_no_commit() {
        let owner = Some("clean.host 1".to_owned());
        assert_eq!(read_back(true), Standing { committed: None, owner });
    }

    #[test]
    fn what_other_tools_committed_is_a_position_without_an_owner() {
        for metadata in ["", "claim me", "penstock1", "penstock2 claim x"] {
            assert_eq!(parse(7, metadata), Standing { committed: Some(7), owner: None });
        }
    }
}
