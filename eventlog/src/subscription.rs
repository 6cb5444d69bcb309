//! What a member of a group receives, and what it answers.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::{
    LogError, Position, Record, Stored, SubscriptionDriver, TransactDriver, TransactError,
};

/// One assignment of one partition to one member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// Never used twice by a log handle.
    pub id: u64,
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
}

/// What comes next in a subscription.
#[derive(Debug)]
pub enum Delivery {
    /// Partitions to read from now on; nothing is read until it is answered.
    Assigned(Assigned),
    /// Records of one partition.
    Batch(Batch),
    /// Records of one partition that are gone.
    Gap(Gap),
    /// Partitions to stop reading.
    Revoked(Revocation),
}

/// Records of one partition, in order; may be empty, when only the position advanced.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Under which lease they were read.
    pub lease: Lease,
    /// The records.
    pub records: Vec<Stored>,
    /// The position after them, past any hole.
    pub next: Position,
}

/// What retention took before it was read: `from..to` is gone, reading goes on at `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Under which lease it was found.
    pub lease: Lease,
    /// The first position that is gone.
    pub from: Position,
    /// The first position that can be read.
    pub to: Position,
}

/// One newly assigned partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Its lease.
    pub lease: Lease,
    /// Where the group stands; `None` before its first commit, which reads from the start.
    pub committed: Option<Position>,
}

/// Newly assigned partitions, to be answered with start positions.
/// Dropping it unanswered means [`Assigned::resume`].
#[derive(Debug)]
pub struct Assigned {
    /// The partitions.
    pub partitions: Vec<Assignment>,
    answer: Option<oneshot::Sender<Vec<Option<Position>>>>,
}

impl Assigned {
    /// For implementations: the message, and where its answer arrives: for each partition the
    /// position to start at, `None` for the committed one. A closed channel means all `None`.
    pub fn new(partitions: Vec<Assignment>) -> (Self, oneshot::Receiver<Vec<Option<Position>>>) {
        let (tx, rx) = oneshot::channel();
        (Self { partitions, answer: Some(tx) }, rx)
    }

    /// Starts each partition at its committed position.
    pub fn resume(self) {}

    /// Starts each partition, in the order of `partitions`, at the position given (`None`: committed).
    /// A position below the log's start is moved up to it without a gap, unless it is the
    /// committed one or above. One beyond the log's end, given or committed, makes the subscription
    /// answer [`LogError::OutOfRange`].
    pub fn start_at(mut self, positions: Vec<Option<Position>>) {
        if let Some(answer) = self.answer.take() {
            let _ = answer.send(positions); // a receiver that is gone has already lost the lease
        }
    }
}

/// Partitions to stop reading.
#[derive(Debug)]
pub struct Revocation {
    /// Whose leases end.
    pub leases: Vec<Lease>,
    /// Already fenced: a commit under these leases fails. Otherwise commits are still taken
    /// until the acknowledgement, or the deadline.
    pub lost: bool,
    ack: Option<oneshot::Sender<()>>,
}

impl Revocation {
    /// For implementations: the message, and where its acknowledgement arrives. A channel closed
    /// without a message is an acknowledgement too.
    pub fn new(leases: Vec<Lease>, lost: bool) -> (Self, oneshot::Receiver<()>) {
        let (tx, rx) = oneshot::channel();
        (Self { leases, lost, ack: Some(tx) }, rx)
    }

    /// Says that this member is done with the partitions.
    pub fn acknowledge(mut self) {
        if let Some(ack) = self.ack.take() {
            let _ = ack.send(()); // nobody waits any longer: the deadline passed
        }
    }
}

/// Membership in a group.
pub struct Subscription(Box<dyn SubscriptionDriver>);

impl Subscription {
    pub(crate) fn new(driver: Box<dyn SubscriptionDriver>) -> Self {
        Self(driver)
    }

    /// Waits for what comes next. Cancel-safe.
    pub async fn next(&mut self) -> Result<Delivery, LogError> {
        self.0.next().await
    }

    /// Commits positions, each under its lease, all or none.
    pub async fn commit(&mut self, positions: &[(Lease, Position)]) -> Result<(), LogError> {
        self.0.commit(positions).await
    }

    /// Gives out nothing more of a partition until it is [resumed](Self::resume), so that one whose records
    /// cannot be taken holds up neither the others nor the news of leases. What was read ahead of it is
    /// dropped, and read again then. Changes nothing once the lease has ended.
    pub fn pause(&mut self, lease: &Lease) {
        self.0.pause(lease);
    }

    /// Reads a [paused](Self::pause) partition again, from a position: [`Batch::next`] of the last batch taken.
    /// Changes nothing once the lease has ended.
    pub fn resume(&mut self, lease: &Lease, at: Position) {
        self.0.resume(lease, at);
    }

    /// Turns this into a [`Transactor`]. The id names the producer on Kafka; a later one with
    /// the same id fences the earlier.
    pub async fn into_transactional(
        self,
        transactional_id: impl Into<Arc<str>>,
    ) -> Result<Transactor, LogError> {
        self.0.into_transactional(transactional_id.into()).await.map(Transactor)
    }

    /// Leaves the group in good order. Dropping instead leaves it as a crash would.
    pub async fn close(self) -> Result<(), LogError> {
        self.0.close().await
    }
}

/// Membership in a group together with a producer, so that what is read and what is written
/// move as one.
pub struct Transactor(Box<dyn TransactDriver>);

impl Transactor {
    /// Waits for what comes next. Cancel-safe.
    pub async fn next(&mut self) -> Result<Delivery, LogError> {
        self.0.next().await
    }

    /// Appends `outputs` (topic and record) and commits `positions`, atomically and durably.
    pub async fn commit(
        &mut self,
        outputs: Vec<(Arc<str>, Record)>,
        positions: &[(Lease, Position)],
    ) -> Result<(), TransactError> {
        self.0.commit(outputs, positions).await
    }

    /// Leaves the group in good order.
    pub async fn close(self) -> Result<(), LogError> {
        self.0.close().await
    }
}

/// Where to start: the position given, else the committed one, else the log's start. A warm-up from
/// below the log's start begins at the start, but never above the committed position, so that what
/// is missing from there on still shows as a gap.
pub(crate) fn start(
    given: Option<Position>,
    committed: Option<Position>,
    start: Position,
) -> Position {
    match (given, committed) {
        (None, committed) => committed.unwrap_or(start),
        (Some(given), None) => given.max(start),
        (Some(given), Some(committed)) if given < committed => given.max(start.min(committed)),
        (Some(given), Some(_)) => given,
    }
}

#[cfg(test)]
mod tests {
    use super::start;

    #[test]
    fn without_a_wish_reading_starts_where_the_group_stands() {
        assert_eq!(start(None, Some(7), 3), 7);
        assert_eq!(start(None, None, 3), 3);
    }

    #[test]
    fn a_committed_position_that_is_gone_stays_for_the_gap_to_show() {
        assert_eq!(start(None, Some(2), 5), 2);
        assert_eq!(start(Some(2), Some(2), 5), 2);
    }

    #[test]
    fn a_warm_up_from_below_the_start_is_moved_up() {
        assert_eq!(start(Some(1), Some(8), 5), 5);
        assert_eq!(start(Some(1), None, 5), 5);
    }

    #[test]
    fn a_warm_up_never_hides_that_committed_records_are_gone() {
        assert_eq!(start(Some(1), Some(3), 5), 3);
    }
}
