//! A consumer group within the process: members, leases and committed positions.
//!
//! A partition passes through `New` (given, not yet told), `Held`, `Asked` (to give up, not yet
//! told) and `Leaving` (told, not yet acknowledged). A lease ends for good by acknowledgement, by
//! deadline, by an aborted transaction or with its member. The invariant: a partition gets a new
//! owner only when no commit under an earlier lease is still on its way to the disk, so the position
//! that the new owner is told already includes it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{runtime::Handle, sync::Notify};

use super::{
    assign::{Place, assign},
    topic::{Partition, Topic, locked},
};
use crate::{Assignment, Lease, LogError, Metrics, Position};

/// A group.
pub(crate) struct Group {
    pub name: Arc<str>,
    state: Mutex<State>,
    leases: Arc<AtomicU64>,
    deadline: Duration,
    metrics: Metrics,
    runtime: Handle,
}

#[derive(Default)]
struct State {
    members: BTreeMap<u64, Member>,
    slots: BTreeMap<Place, Slot>,
    last_member: u64,
}

struct Member {
    topics: Vec<Arc<str>>,
    notify: Arc<Notify>,
    lost: Vec<Lease>,
    fenced: bool,
}

struct Slot {
    partition: Arc<Partition>,
    committed: Option<Position>,
    /// Commits on their way to the disk.
    pending: u32,
    owner: Option<Owner>,
}

struct Owner {
    member: u64,
    lease: u64,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    New,
    Held,
    Asked,
    Leaving,
}

/// What a member has to be told first.
pub(crate) enum Control {
    /// A later member took its transactional id.
    Fenced,
    Lost(Vec<Lease>),
    Revoke(Vec<Lease>),
    Assign(Vec<(Assignment, Arc<Partition>)>),
}

impl Group {
    pub fn new(
        name: Arc<str>,
        leases: Arc<AtomicU64>,
        deadline: Duration,
        metrics: Metrics,
        runtime: Handle,
    ) -> Self {
        Self { name, state: Mutex::default(), leases, deadline, metrics, runtime }
    }

    /// Lets the group know of a topic's partitions and what was committed in them.
    pub fn know(&self, topic: &Topic, committed: impl Fn(u32) -> Option<Position>) {
        let mut state = locked(&self.state);
        for partition in &topic.partitions {
            state.slots.entry((topic.name.clone(), partition.index)).or_insert_with(|| Slot {
                partition: partition.clone(),
                committed: committed(partition.index),
                pending: 0,
                owner: None,
            });
        }
    }

    /// Whether [`Group::know`] was told of it.
    pub fn knows(&self, topic: &Topic) -> bool {
        locked(&self.state).slots.contains_key(&(topic.name.clone(), 0))
    }

    /// Committed positions of a topic the group knows.
    pub fn committed(&self, topic: &Topic) -> Vec<Option<Position>> {
        let state = locked(&self.state);
        let of = |p: &Arc<Partition>| state.slots.get(&(topic.name.clone(), p.index));
        topic.partitions.iter().map(|p| of(p).and_then(|slot| slot.committed)).collect()
    }

    /// A new member.
    pub fn join(self: &Arc<Self>, topics: Vec<Arc<str>>, notify: Arc<Notify>) -> u64 {
        let mut state = locked(&self.state);
        state.last_member += 1;
        let id = state.last_member;
        state.members.insert(id, Member { topics, notify, lost: Vec::new(), fenced: false });
        self.rebalance(&mut state);
        id
    }

    /// A member goes; what it held is free at once.
    pub fn leave(self: &Arc<Self>, member: u64) {
        let mut state = locked(&self.state);
        state.members.remove(&member);
        for slot in state.slots.values_mut() {
            slot.owner.take_if(|owner| owner.member == member);
        }
        self.rebalance(&mut state);
    }

    /// A member goes because another took its place; it is told so when it asks.
    pub fn fence(self: &Arc<Self>, member: u64) {
        let mut state = locked(&self.state);
        if let Some(member) = state.members.get_mut(&member) {
            member.topics.clear();
            member.fenced = true;
            member.notify.notify_one();
        }
        for slot in state.slots.values_mut() {
            slot.owner.take_if(|owner| owner.member == member);
        }
        self.rebalance(&mut state);
    }

    /// Ends all that a member was told it holds; it comes back as a loss and a new assignment.
    pub fn abort(self: &Arc<Self>, member: u64) {
        let mut state = locked(&self.state);
        let State { members, slots, .. } = &mut *state;
        let Some(told) = members.get_mut(&member) else { return };
        for ((topic, partition), slot) in slots {
            let ends = |o: &mut Owner| o.member == member && o.phase != Phase::New;
            if let Some(owner) = slot.owner.take_if(ends)
                && owner.phase != Phase::Leaving
            {
                let lease = Lease { id: owner.lease, topic: topic.clone(), partition: *partition };
                told.lost.push(lease);
                self.metrics.lost_leases.inc();
            }
        }
        told.notify.notify_one();
        self.rebalance(&mut state);
    }

    /// What a member has to be told now, if anything.
    pub fn control(self: &Arc<Self>, member: u64) -> Option<Control> {
        let mut state = locked(&self.state);
        let State { members, slots, .. } = &mut *state;
        let told = members.get_mut(&member)?;
        if told.fenced {
            return Some(Control::Fenced);
        }
        if !told.lost.is_empty() {
            return Some(Control::Lost(std::mem::take(&mut told.lost)));
        }
        let (mut revoked, mut assigned) = (Vec::new(), Vec::new());
        for ((topic, partition), slot) in slots.iter_mut() {
            let Some(owner) = slot.owner.as_mut().filter(|o| o.member == member) else { continue };
            let lease = Lease { id: owner.lease, topic: topic.clone(), partition: *partition };
            match owner.phase {
                Phase::Asked => revoked.push((lease, &mut owner.phase)),
                Phase::New => assigned.push((
                    (Assignment { lease, committed: slot.committed }, slot.partition.clone()),
                    &mut owner.phase,
                )),
                Phase::Held | Phase::Leaving => {}
            }
        }
        if !revoked.is_empty() {
            return Some(Control::Revoke(told_as(revoked, Phase::Leaving)));
        }
        (!assigned.is_empty()).then(|| Control::Assign(told_as(assigned, Phase::Held)))
    }

    /// Whether another took the member's place.
    pub fn is_fenced(&self, member: u64) -> bool {
        locked(&self.state).members.get(&member).is_some_and(|member| member.fenced)
    }

    /// The member is done with these leases.
    pub fn acknowledged(self: &Arc<Self>, leases: &[u64]) {
        self.end(leases, false);
    }

    /// Takes a commit up: every lease must be held, and stays accounted for until
    /// [`Group::committing_ended`].
    pub fn committing(&self, member: u64, positions: &[(Lease, Position)]) -> Result<(), LogError> {
        let mut state = locked(&self.state);
        for (lease, position) in positions {
            let slot = state.slots.get(&(lease.topic.clone(), lease.partition));
            let held = slot.filter(|slot| {
                let owner = slot.owner.as_ref();
                owner.is_some_and(|o| {
                    o.member == member && o.lease == lease.id && o.phase != Phase::New
                })
            });
            let Some(slot) = held else {
                return Err(LogError::Stale {
                    topic: lease.topic.clone(),
                    partition: lease.partition,
                });
            };
            let bounds = slot.partition.bounds();
            if *position > bounds.end {
                return Err(LogError::OutOfRange {
                    topic: lease.topic.clone(),
                    partition: lease.partition,
                    wanted: *position,
                    start: bounds.start,
                    end: bounds.end,
                });
            }
        }
        for (lease, _) in positions {
            if let Some(slot) = state.slots.get_mut(&(lease.topic.clone(), lease.partition)) {
                slot.pending += 1;
            }
        }
        Ok(())
    }

    /// A commit reached the disk, or failed to.
    pub fn committing_ended(self: &Arc<Self>, positions: &[(Lease, Position)], stored: bool) {
        let mut state = locked(&self.state);
        let mut freed = false;
        for (lease, position) in positions {
            if let Some(slot) = state.slots.get_mut(&(lease.topic.clone(), lease.partition)) {
                slot.pending -= 1;
                freed |= slot.pending == 0 && slot.owner.is_none();
                if stored {
                    slot.committed = Some(*position);
                }
            }
        }
        if freed {
            self.rebalance(&mut state);
        }
    }

    /// Where a slot is kept: the key in the engine.
    pub fn key_of(group: &str, topic: u32, partition: u32) -> Vec<u8> {
        let mut key = Self::prefix_of(group);
        key.extend(topic.to_be_bytes());
        key.extend(partition.to_be_bytes());
        key
    }

    /// What the keys of a group begin with; names hold no zero byte.
    pub fn prefix_of(group: &str) -> Vec<u8> {
        let mut key = b"group/".to_vec();
        key.extend(group.as_bytes());
        key.push(0);
        key
    }

    /// Ends leases that were asked back; by deadline, those never told are told as lost.
    fn end(self: &Arc<Self>, leases: &[u64], late: bool) {
        let mut state = locked(&self.state);
        let State { members, slots, .. } = &mut *state;
        let mut ended = false;
        for ((topic, partition), slot) in slots {
            let ends = |o: &mut Owner| {
                leases.contains(&o.lease) && matches!(o.phase, Phase::Asked | Phase::Leaving)
            };
            let Some(owner) = slot.owner.take_if(ends) else { continue };
            ended = true;
            if late {
                self.metrics.lost_leases.inc();
                tracing::warn!(group = %self.name, %topic, partition, "a member did not give a partition back in time");
            }
            if let Some(told) =
                members.get_mut(&owner.member).filter(|_| owner.phase == Phase::Asked)
            {
                let lease = Lease { id: owner.lease, topic: topic.clone(), partition: *partition };
                told.lost.push(lease);
                told.notify.notify_one();
            }
        }
        if ended {
            self.rebalance(&mut state);
        }
    }

    /// Hands free partitions out and asks back what should move.
    fn rebalance(self: &Arc<Self>, state: &mut State) {
        let State { members, slots, .. } = state;
        let stays = |slot: &Slot| {
            let owner = slot.owner.as_ref();
            owner.filter(|o| matches!(o.phase, Phase::New | Phase::Held)).map(|o| o.member)
        };
        let places: Vec<_> =
            slots.iter().map(|(place, slot)| (place.clone(), stays(slot))).collect();
        let wants = members.iter().map(|(id, member)| (*id, member.topics.clone())).collect();
        let target = assign(&places, &wants);
        let mut asked = Vec::new();
        for (place, slot) in slots {
            let wanted = target.get(place).copied();
            match &mut slot.owner {
                Some(owner) if Some(owner.member) == wanted => continue,
                Some(owner) if owner.phase == Phase::Held => {
                    owner.phase = Phase::Asked;
                    asked.push(owner.lease);
                    if let Some(member) = members.get(&owner.member) {
                        member.notify.notify_one();
                    }
                    continue;
                }
                Some(owner) if owner.phase != Phase::New => continue,
                _ if slot.pending > 0 => continue,
                _ => {}
            }
            slot.owner = wanted.map(|member| {
                self.metrics.assignments.inc();
                let lease = self.leases.fetch_add(1, Ordering::Relaxed) + 1;
                Owner { member, lease, phase: Phase::New }
            });
            if let Some(member) = wanted.and_then(|member| members.get(&member)) {
                member.notify.notify_one();
            }
        }
        if !asked.is_empty() {
            let (group, deadline) = (Arc::downgrade(self), self.deadline);
            self.runtime.spawn(async move {
                tokio::time::sleep(deadline).await;
                if let Some(group) = Weak::upgrade(&group) {
                    group.end(&asked, true);
                }
            });
        }
    }
}

fn told_as<T>(news: Vec<(T, &mut Phase)>, phase: Phase) -> Vec<T> {
    let tell = |(item, was): (T, &mut Phase)| {
        *was = phase;
        item
    };
    news.into_iter().map(tell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Retention,
        embedded::topic::{Cursor, RetentionRecord, TopicRecord},
    };

    const END: Position = 10;

    fn group(partitions: u32) -> Arc<Group> {
        let deadline = Duration::from_secs(60);
        let runtime = Handle::current();
        let group = Group::new("g".into(), Arc::default(), deadline, Metrics::default(), runtime);
        let cursor = Cursor { next: END, ..Cursor::default() };
        let partition = |i| Arc::new(Partition::new("t".into(), 0, i, 0, cursor));
        let retention = RetentionRecord::from(&Retention::Compact);
        let record = TopicRecord { id: 0, partitions, incarnation: 1, retention };
        group.know(
            &Topic::new("t".into(), &record, (0..partitions).map(partition).collect()),
            |_| None,
        );
        Arc::new(group)
    }

    fn join(group: &Arc<Group>) -> u64 {
        group.join(vec!["t".into()], Arc::default())
    }

    fn assigned(group: &Arc<Group>, member: u64) -> Vec<Assignment> {
        match group.control(member) {
            Some(Control::Assign(partitions)) => partitions.into_iter().map(|(a, _)| a).collect(),
            _ => Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_partition_gets_no_new_owner_while_a_commit_is_under_way() {
        let group = group(1);
        let first = join(&group);
        let commit = [(assigned(&group, first).remove(0).lease, 7)];
        group.committing(first, &commit).unwrap();
        group.leave(first);
        let second = join(&group);
        assert_eq!(assigned(&group, second), []);
        group.committing_ended(&commit, true);
        assert_eq!(assigned(&group, second)[0].committed, Some(7));
    }

    #[tokio::test]
    async fn a_commit_that_failed_leaves_the_position_as_it_was() {
        let group = group(1);
        let member = join(&group);
        let lease = assigned(&group, member).remove(0).lease;
        for (position, stored) in [(3, true), (5, false)] {
            let commit = [(lease.clone(), position)];
            group.committing(member, &commit).unwrap();
            group.committing_ended(&commit, stored);
        }
        group.leave(member);
        let next = join(&group);
        assert_eq!(assigned(&group, next)[0].committed, Some(3));
    }

    #[tokio::test]
    async fn a_position_after_the_end_is_refused() {
        let group = group(1);
        let member = join(&group);
        let lease = assigned(&group, member).remove(0).lease;
        let refused = group.committing(member, &[(lease, END + 1)]);
        assert!(matches!(refused, Err(LogError::OutOfRange { wanted: 11, end: END, .. })));
    }

    #[tokio::test]
    async fn what_was_never_told_moves_without_a_revocation() {
        let group = group(2);
        let (first, second) = (join(&group), join(&group));
        assert_eq!(assigned(&group, first).len(), 1);
        assert_eq!(assigned(&group, second).len(), 1);
        assert!(group.control(first).is_none());
    }

    #[tokio::test]
    async fn an_abort_is_told_as_lost_before_the_new_assignment() {
        let group = group(1);
        let member = join(&group);
        let lease = assigned(&group, member).remove(0).lease;
        group.abort(member);
        let Some(Control::Lost(lost)) = group.control(member) else { panic!("nothing is lost") };
        assert_eq!(lost.first(), Some(&lease));
        assert_ne!(assigned(&group, member)[0].lease.id, lease.id);
    }
}
