//! Where newly assigned partitions stand, found out on a thread of its own.
//!
//! For a plain member: the committed positions and the starts of the log. For one with transactions
//! first who had the partitions, so that what a dead owner left open is ended, and last the claim,
//! so that the next owner finds us; see [`super::claim`].

use std::{sync::Arc, thread, time::Duration};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext},
    types::RDKafkaErrorCode as Code,
};

use super::{
    LOOK,
    claim::{self, Standing},
    client::CALL,
    errors,
    mailbox::Command,
    member::{Consumer, Shared, list},
    subscription::HUNG_COMMIT,
};
use crate::{Assignment, Bounds, Lease, LogError, Position};

/// A partition the owner can be told of.
pub(super) struct Prepared {
    pub assignment: Assignment,
    /// The first position that can be read.
    pub log_start: Position,
}

/// Answers the poll thread once all is known; tries for as long as the leases live, since without
/// an answer of the cluster there is nothing to read.
pub(super) fn prepare(shared: &Arc<Shared>, consumer: &Arc<Consumer>, mut leases: Vec<Lease>) {
    let mut pause = Duration::from_millis(50);
    loop {
        leases.retain(|lease| shared.leases.is_live(lease));
        if leases.is_empty() {
            return;
        }
        match find(shared, consumer, &leases) {
            Ok(prepared) => return shared.mailbox.command(Command::Prepared(prepared)),
            // What exists may not be known for a moment, when brokers have just come back; and a
            // consumer that its own former self fenced is being replaced, which ends the leases.
            Err(error)
                if matches!(error, LogError::Retry(_) | LogError::Unknown(_))
                    || shared.is_its_own_double(consumer) =>
            {
                tracing::warn!(group = %shared.group, %error, "positions are not known yet");
                // What the consumer knows of the cluster may be old, and it would not ask by itself.
                let _ = consumer.client().fetch_metadata(Some(&leases[0].topic), LOOK);
            }
            Err(error) => return shared.fail(error),
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

fn find(
    shared: &Arc<Shared>,
    consumer: &Consumer,
    leases: &[Lease],
) -> Result<Vec<Prepared>, LogError> {
    let me = shared.transactional_id();
    if let Some(me) = &me {
        claim::end_former_owners(shared, leases, me)?;
    }
    let standing = committed(consumer, &shared.group, leases)?;
    let starts = positions(consumer, &shared.group, leases, Offset::Beginning)?;
    if let Some(me) = &me {
        claim(shared, consumer, leases, &standing, &starts, me);
    }
    let found = leases.iter().zip(standing).zip(starts);
    Ok(found
        .map(|((lease, standing), log_start)| Prepared {
            assignment: Assignment { lease: lease.clone(), committed: standing.committed },
            log_start,
        })
        .collect())
}

/// Where the group stands. A `read_committed` consumer waits for positions in open transactions.
pub(super) fn committed<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    group: &str,
    leases: &[Lease],
) -> Result<Vec<Standing>, LogError> {
    let asked = list(leases.iter().map(|lease| (lease, Offset::Invalid)));
    let answer = consumer
        .committed_offsets(asked, CALL)
        .map_err(|e| errors::log_error("looking up positions", group, &e))?;
    each(&answer, group, leases, |place| Ok(claim::standing(place)))
}

/// Where partitions begin and end.
pub(super) fn bounds(
    consumer: &Consumer,
    group: &str,
    leases: &[Lease],
) -> Result<Vec<Bounds>, LogError> {
    let starts = positions(consumer, group, leases, Offset::Beginning)?;
    let ends = positions(consumer, group, leases, Offset::End)?;
    Ok(starts.into_iter().zip(ends).map(|(start, end)| Bounds { start, end }).collect())
}

/// The first positions that can be read, or the ends.
fn positions(
    consumer: &Consumer,
    group: &str,
    leases: &[Lease],
    which: Offset,
) -> Result<Vec<Position>, LogError> {
    // The "time" of either is that of the protocol's ListOffsets: one request for all.
    let asked = list(leases.iter().map(|lease| (lease, which)));
    let answer = consumer
        .offsets_for_times(asked, CALL)
        .map_err(|e| errors::log_error("looking up bounds", group, &e))?;
    each(&answer, group, leases, |place| match place.offset() {
        Offset::Offset(at) => Ok(u64::try_from(at).unwrap_or_default()),
        _ => Err(LogError::Retry("the bounds of a partition are not known".into())),
    })
}

fn each<T>(
    answer: &TopicPartitionList,
    group: &str,
    leases: &[Lease],
    take: impl Fn(&rdkafka::topic_partition_list::TopicPartitionListElem<'_>) -> Result<T, LogError>,
) -> Result<Vec<T>, LogError> {
    let one = |lease: &Lease| {
        let partition = super::member::kafka_partition(lease.partition);
        let place = answer.find_partition(&lease.topic, partition);
        let place = place.ok_or_else(|| LogError::Retry("an answer lacks a partition".into()))?;
        place.error().map_err(|e| errors::log_error("looking up positions", group, &e))?;
        take(&place)
    };
    leases.iter().map(one).collect()
}

/// Commits our name where it is not yet. Without it a takeover after our death is slower, nothing
/// else, so what fails is left.
fn claim(
    shared: &Arc<Shared>,
    consumer: &Consumer,
    leases: &[Lease],
    standing: &[Standing],
    starts: &[Position],
    me: &str,
) {
    const TRIES: u32 = 5;
    let mut claims = TopicPartitionList::new();
    let mut positions = Vec::new();
    for ((lease, standing), start) in leases.iter().zip(standing).zip(starts) {
        if standing.owner.as_deref() != Some(me) {
            let at = standing.committed.unwrap_or(*start);
            claim::add(&mut claims, lease, at, me, standing.committed.is_none());
            positions.push((lease.clone(), at));
        }
    }
    if positions.is_empty() {
        return;
    }
    for _ in 0..TRIES {
        let Ok(_fence) = shared.leases.begin_commit(&positions) else { return };
        let call = || consumer.commit(&claims, CommitMode::Sync);
        let Err(error) = shared.watchdog.run("commit", HUNG_COMMIT, call) else { return };
        tracing::debug!(group = %shared.group, error = errors::tell(&error), "claim refused");
        if error.rdkafka_error_code() == Some(Code::UnknownMemberId) {
            return;
        }
        drop(_fence);
        thread::sleep(Duration::from_millis(50));
    }
}
