//! Between a member's poll thread and the task that owns the member.
//!
//! The task takes news of leases before records, and records only while their lease lives. The poll
//! thread takes commands, and stops reading while more waits than the limits say; what it pushes
//! beyond them is bounded by one round of polling.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, oneshot};

use super::{assignment::Prepared, leases::Leases};
use crate::{Delivery, Lease, LogError, Position};

/// What the poll thread is told to do.
pub(super) enum Command {
    /// Where partitions stand is known: the task can be told of its leases.
    Prepared(Vec<Prepared>),
    /// Give out anew what was lost with a transaction.
    Rewind,
    /// Read no more under a lease.
    Pause(Lease),
    /// Read on under a lease, from a position, if the pause of this number is still its last.
    Resume(Lease, Position, u64),
    /// Leave the group and end; says when it has.
    Close(Option<oneshot::Sender<()>>),
}

/// Deliveries one way, commands the other.
pub(super) struct Mailbox {
    state: Mutex<State>,
    arrived: Notify,
    changed: Condvar,
    max_bytes: usize,
    max_records: usize,
}

#[derive(Default)]
struct State {
    controls: VecDeque<Delivery>,
    data: VecDeque<(Delivery, usize)>,
    bytes: usize,
    records: usize,
    /// Leases whose records nobody takes now, each with the number of its pause.
    paused: HashMap<u64, u64>,
    pauses: u64,
    commands: VecDeque<Command>,
    ended: Option<LogError>,
}

impl Mailbox {
    /// An empty one; above these limits the poll thread reads nothing.
    pub fn new(max_bytes: usize, max_records: usize) -> Self {
        Self {
            state: Mutex::default(),
            arrived: Notify::new(),
            changed: Condvar::new(),
            max_bytes,
            max_records,
        }
    }

    /// What comes next, for the task. Cancel-safe.
    pub async fn next(&self) -> Result<Delivery, LogError> {
        loop {
            if let Some(next) = self.take() {
                return next;
            }
            self.arrived.notified().await;
        }
    }

    fn take(&self) -> Option<Result<Delivery, LogError>> {
        let mut state = self.lock();
        if let Some(control) = state.controls.pop_front() {
            return Some(Ok(control));
        }
        if let Some(ended) = &state.ended {
            return Some(Err(ended.clone()));
        }
        let was_full = self.is_full(&state);
        let (delivery, bytes) = state.data.pop_front()?;
        state.release(&delivery, bytes);
        if was_full {
            self.changed.notify_all();
        }
        Some(Ok(delivery))
    }

    /// News of leases.
    pub fn tell(&self, control: Delivery) {
        self.lock().controls.push_back(control);
        self.arrived.notify_one();
    }

    /// Records, or a gap; dropped when their lease has ended or is paused. `bytes` is what they take.
    pub fn push(&self, leases: &Leases, delivery: Delivery, bytes: usize) {
        let mut state = self.lock();
        // Under the lock: whoever ends a lease calls `forget` after fencing it.
        let wanted = |lease: &Lease| leases.is_live(lease) && !state.paused.contains_key(&lease.id);
        if !lease_of(&delivery).is_some_and(wanted) {
            return;
        }
        state.bytes += bytes;
        state.records += records_of(&delivery);
        state.data.push_back((delivery, bytes));
        drop(state);
        self.arrived.notify_one();
    }

    /// Drops what waits under these leases.
    pub fn forget(&self, leases: &[Lease]) {
        let mut state = self.lock();
        state.drop_data(leases);
        state.paused.retain(|id, _| leases.iter().all(|lease| lease.id != *id));
        self.changed.notify_all();
    }

    /// Drops what waits under a lease, and what comes until the pause has ended.
    pub fn pause(&self, leases: &Leases, lease: &Lease) {
        let mut state = self.lock();
        if leases.is_live(lease) {
            state.drop_data(std::slice::from_ref(lease));
            state.pauses += 1;
            let number = state.pauses;
            state.paused.insert(lease.id, number);
            state.commands.push_back(Command::Pause(lease.clone()));
            self.changed.notify_all();
        }
    }

    /// Has a paused lease read on from a position.
    pub fn resume(&self, lease: &Lease, at: Position) {
        let mut state = self.lock();
        if let Some(&number) = state.paused.get(&lease.id) {
            state.commands.push_back(Command::Resume(lease.clone(), at, number));
            self.changed.notify_all();
        }
    }

    /// For the poll thread, once nothing from before the pause can come any more. Whether that was the lease's
    /// last pause.
    pub fn end_pause(&self, lease: &Lease, number: u64) -> bool {
        let mut state = self.lock();
        let last = state.paused.get(&lease.id) == Some(&number);
        if last {
            state.paused.remove(&lease.id);
        }
        last
    }

    /// Revocations of these leases that were not taken yet came too late.
    pub fn turn_lost(&self, leases: &[Lease]) {
        for control in &mut self.lock().controls {
            if let Delivery::Revoked(revocation) = control {
                revocation.lost |= revocation.leases.iter().any(|lease| leases.contains(lease));
            }
        }
    }

    /// Nothing more comes, after the news of leases, but this error. It never invites to ask again,
    /// because whoever does would be told the same for ever.
    pub fn end(&self, error: LogError) {
        let error = match error {
            LogError::Retry(why) => LogError::Fatal(format!("the membership has ended: {why}")),
            error => error,
        };
        self.lock().ended.get_or_insert(error);
        self.arrived.notify_one();
    }

    /// Why nothing more comes.
    pub fn ended(&self) -> Option<LogError> {
        self.lock().ended.clone()
    }

    /// Tells the poll thread to do something.
    pub fn command(&self, command: Command) {
        self.lock().commands.push_back(command);
        self.changed.notify_all();
    }

    /// What the poll thread is to do.
    pub fn commands(&self) -> VecDeque<Command> {
        std::mem::take(&mut self.lock().commands)
    }

    /// Whether the poll thread may read.
    pub fn has_room(&self) -> bool {
        !self.is_full(&self.lock())
    }

    /// Waits for room or a command.
    pub fn wait(&self, at_most: Duration) {
        let state = self.lock();
        let busy = |state: &mut State| self.is_full(state) && state.commands.is_empty();
        drop(self.changed.wait_timeout_while(state, at_most, busy));
    }

    fn is_full(&self, state: &State) -> bool {
        state.bytes >= self.max_bytes || state.records >= self.max_records
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn drop_data(&mut self, leases: &[Lease]) {
        for (delivery, bytes) in std::mem::take(&mut self.data) {
            if lease_of(&delivery).is_some_and(|lease| leases.contains(lease)) {
                self.release(&delivery, bytes);
            } else {
                self.data.push_back((delivery, bytes));
            }
        }
    }

    fn release(&mut self, delivery: &Delivery, bytes: usize) {
        self.bytes -= bytes;
        self.records -= records_of(delivery);
    }
}

fn records_of(delivery: &Delivery) -> usize {
    match delivery {
        Delivery::Batch(batch) => batch.records.len(),
        _ => 0,
    }
}

fn lease_of(delivery: &Delivery) -> Option<&Lease> {
    match delivery {
        Delivery::Batch(batch) => Some(&batch.lease),
        Delivery::Gap(gap) => Some(&gap.lease),
        Delivery::Assigned(_) | Delivery::Revoked(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Batch, Revocation};

    fn batch(lease: &Lease, next: u64) -> Delivery {
        Delivery::Batch(Batch { lease: lease.clone(), records: Vec::new(), next })
    }

    fn two() -> (Leases, Lease, Lease) {
        let leases = Leases::default();
        let (one, other) = (leases.grant(&"t".into(), 0), leases.grant(&"t".into(), 1));
        (leases, one, other)
    }

    #[tokio::test]
    async fn news_of_leases_come_before_records() {
        let (leases, lease, _) = two();
        let mailbox = Mailbox::new(100, 100);
        mailbox.push(&leases, batch(&lease, 1), 1);
        mailbox.tell(Delivery::Revoked(Revocation::new(vec![lease], false).0));
        assert!(matches!(mailbox.next().await.unwrap(), Delivery::Revoked(_)));
        assert!(matches!(mailbox.next().await.unwrap(), Delivery::Batch(_)));
    }

    #[tokio::test]
    async fn records_of_an_ended_lease_never_arrive() {
        let (leases, ended, live) = two();
        let mailbox = Mailbox::new(100, 100);
        mailbox.push(&leases, batch(&ended, 1), 60);
        mailbox.push(&leases, batch(&live, 1), 60);
        assert!(!mailbox.has_room());
        leases.fence([&ended]);
        mailbox.forget(std::slice::from_ref(&ended));
        assert!(mailbox.has_room());
        mailbox.push(&leases, batch(&ended, 2), 60);
        let Delivery::Batch(next) = mailbox.next().await.unwrap() else { panic!() };
        assert_eq!(next.lease, live);
        assert!(mailbox.take().is_none());
    }

    #[tokio::test]
    async fn records_of_a_paused_lease_arrive_only_after_the_pause() {
        let (leases, paused, other) = two();
        let mailbox = Mailbox::new(100, 100);
        mailbox.push(&leases, batch(&paused, 1), 60);
        mailbox.push(&leases, batch(&other, 1), 60);
        mailbox.pause(&leases, &paused);
        assert!(mailbox.has_room());
        mailbox.push(&leases, batch(&paused, 2), 60);
        let Delivery::Batch(next) = mailbox.next().await.unwrap() else { panic!() };
        assert_eq!(next.lease, other);
        assert!(mailbox.take().is_none());
        let first = resumed(&mailbox, &paused);
        mailbox.pause(&leases, &paused);
        let second = resumed(&mailbox, &paused);
        assert!(!mailbox.end_pause(&paused, first), "it was paused again");
        assert!(mailbox.end_pause(&paused, second) && !mailbox.end_pause(&paused, second));
        mailbox.push(&leases, batch(&paused, 1), 60);
        assert!(matches!(mailbox.take(), Some(Ok(Delivery::Batch(_)))));
    }

    #[test]
    fn a_pause_ends_with_its_lease() {
        let (leases, lease, _) = two();
        let mailbox = Mailbox::new(100, 100);
        mailbox.pause(&leases, &lease);
        leases.fence([&lease]);
        mailbox.forget(std::slice::from_ref(&lease));
        mailbox.pause(&leases, &lease);
        mailbox.resume(&lease, 0);
        assert!(mailbox.commands().iter().all(|command| matches!(command, Command::Pause(_))));
    }

    /// The number of the pause that is to end.
    fn resumed(mailbox: &Mailbox, lease: &Lease) -> u64 {
        mailbox.resume(lease, 0);
        match mailbox.commands().pop_back() {
            Some(Command::Resume(_, 0, number)) => number,
            _ => panic!("it is paused"),
        }
    }

    #[tokio::test]
    async fn the_end_is_told_after_the_losses() {
        let (_, lease, _) = two();
        let mailbox = Mailbox::new(100, 100);
        mailbox.end(LogError::Fatal("over".into()));
        mailbox.tell(Delivery::Revoked(Revocation::new(vec![lease], true).0));
        assert!(matches!(mailbox.next().await, Ok(Delivery::Revoked(_))));
        assert!(matches!(mailbox.next().await, Err(LogError::Fatal(_))));
        assert!(matches!(mailbox.next().await, Err(LogError::Fatal(_))), "and stays so");
    }

    #[tokio::test]
    async fn an_end_never_invites_to_ask_again() {
        let mailbox = Mailbox::new(100, 100);
        mailbox.end(LogError::Retry("no thread".into()));
        let Err(LogError::Fatal(why)) = mailbox.next().await else { panic!() };
        assert!(why.contains("no thread"), "{why}");
    }

    #[test]
    fn a_revocation_taken_too_late_says_that_it_is_lost() {
        let (_, lease, _) = two();
        let mailbox = Mailbox::new(100, 100);
        mailbox.tell(Delivery::Revoked(Revocation::new(vec![lease.clone()], false).0));
        mailbox.turn_lost(&[lease]);
        let Some(Ok(Delivery::Revoked(revocation))) = mailbox.take() else { panic!() };
        assert!(revocation.lost);
    }
}
