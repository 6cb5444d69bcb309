//! The sink's loop: one subscription, one task for each partition held, commits.
//!
//! It moves messages and judges nothing: what records mean is in [`crate::partition`]. The
//! invariant: a lease's task has ended, or was cut off, before its revocation is acknowledged; and
//! a position is committed only after its task reported it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use eventlog::{
    Assigned, Assignment, Delivery, Lease, Log, LogError, Position, Revocation, Subscription,
};
use futures_util::{
    StreamExt as _, TryStreamExt as _,
    future::BoxFuture,
    stream::{self, FuturesUnordered},
};
use schemas::{Codec, topics};
use service::{config::SinkConfig, health::Part};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use crate::{
    SinkError,
    assignment::{self, LOOKS},
    board::Board,
    epoch,
    fold::Plan,
    metrics::Metrics,
    partition::{self, Clock, Context, Ends, Input},
    retry::{Patient, Status},
    store::{Definition, Store},
};

/// Positions are committed this often: later ones only mean more replays after a crash.
const COMMIT_EVERY: Duration = Duration::from_millis(200);
/// Batches that wait for a partition's task.
const INPUTS: usize = 2;
/// All reading waits this long for a task that has no room, before its partition is paused: that throws away
/// what was read ahead.
const BEHIND: Duration = Duration::from_millis(500);
/// How long a task may take to write what it has when its lease is revoked.
const REVOKE_WITHIN: Duration = Duration::from_secs(5);
/// The same at the end; the process has a deadline of its own around it.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// How often what is older than its retention is removed.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);
const LOG_PAUSE: Duration = Duration::from_millis(200);

/// What the sink runs with.
pub struct Sink {
    /// Where events come from, and dead letters go to.
    pub log: Log,
    /// Where events and rollups go.
    pub store: Store,
    /// Reads records.
    pub codec: Codec,
    /// Deduplication.
    pub config: SinkConfig,
    /// What is folded; see [`crate::definitions()`].
    pub definitions: Vec<Definition>,
    /// What is counted.
    pub metrics: Metrics,
    /// The sink's entry in `/readyz`.
    pub health: Part,
    /// The consumer group.
    pub group: Arc<str>,
}

impl Sink {
    /// Stores `events.clean` until `shutdown`, then writes and commits what it has.
    ///
    /// # Errors
    /// What a retry cannot mend; the sink has stopped and committed nothing that is not stored.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), SinkError> {
        self.run_with(Arc::new(|| chrono::Utc::now().timestamp_micros()), shutdown).await
    }

    /// As [`Sink::run`], with the time (microseconds since the Unix epoch) as an argument.
    pub async fn run_with(
        self,
        clock: Arc<dyn Fn() -> i64 + Send + Sync>,
        shutdown: CancellationToken,
    ) -> Result<(), SinkError> {
        let health = self.health.clone();
        let result = self.run_until(clock, shutdown).await;
        match &result {
            Ok(()) => health.failing("stopped"),
            Err(error) => health.failing(error.to_string()),
        }
        result
    }

    async fn run_until(self, clock: Clock, shutdown: CancellationToken) -> Result<(), SinkError> {
        let plans = self.definitions.iter().map(|d| Plan::new(d).map(Arc::new));
        let plans = plans.collect::<Result<_, _>>().map_err(SinkError::Definition)?;
        let patient = Patient {
            store: self.store,
            metrics: self.metrics,
            status: Status::new(self.health.clone()),
        };
        let context = Context {
            log: self.log,
            codec: self.codec,
            patient,
            config: self.config,
            plans,
            group: self.group.clone(),
            board: Board::default(),
            clock,
        };
        let begin = async {
            let patient = &context.patient;
            for definition in &self.definitions {
                patient.store(|| patient.store.register(definition)).await?;
            }
            patient.log(|| context.log.subscribe(&self.group, &[topics::CLEAN])).await
        };
        let subscription = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            subscription = begin => subscription?,
        };
        self.health.ready();
        let upkeep = expire(context.patient.store.clone(), context.clock.clone());
        let running = Running {
            context,
            subscription,
            tasks: JoinSet::new(),
            leases: HashMap::new(),
            rooms: FuturesUnordered::new(),
            behind: None,
            epoch: None,
        };
        tokio::select! {
            result = running.run(shutdown) => result,
            () = upkeep => Ok(()), // never: it has no end
        }
    }
}

/// Removes what is older than its retention, a share at a time. What does not succeed is
/// tried again next time: nothing depends on when rows go.
async fn expire(store: Store, clock: Clock) {
    let mut times = tokio::time::interval(EXPIRE_EVERY);
    times.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        times.tick().await;
        loop {
            match store.expire(clock()).await {
                Ok(true) => tokio::task::yield_now().await,
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!(%error, "what is older than its retention could not be removed");
                    break;
                }
            }
        }
    }
}

struct Running {
    context: Context,
    subscription: Subscription,
    /// Each answers its lease's id.
    tasks: JoinSet<(u64, Result<(), SinkError>)>,
    leases: HashMap<u64, Held>,
    /// Answer when a task has room for what was set aside for it.
    rooms: FuturesUnordered<BoxFuture<'static, (u64, Room)>>,
    /// The lease that all reading waits for, and until when.
    behind: Option<(u64, Instant)>,
    epoch: Option<u32>,
}

/// Without a permit the task has ended, and says why itself.
type Room = Result<mpsc::OwnedPermit<Input>, mpsc::error::SendError<()>>;

/// A lease and its task.
struct Held {
    lease: Lease,
    inputs: mpsc::Sender<Input>,
    /// What its task has no room for.
    aside: Option<Input>,
    /// It was paused, and its task has not caught up since: it is paused at once now.
    slow: bool,
    finish: CancellationToken,
    /// Cancelled first where the partition is another's already: nothing new is begun.
    lost: CancellationToken,
    abort: AbortHandle,
}

impl Running {
    async fn run(mut self, shutdown: CancellationToken) -> Result<(), SinkError> {
        let mut commits = tokio::time::interval(COMMIT_EVERY);
        commits.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(ended) = self.tasks.join_next() => self.ended(ended)?,
                _ = commits.tick() => {
                    self.show();
                    self.commit().await?;
                }
                Some((id, room)) = self.rooms.next() => self.room(id, room),
                id = past(self.behind), if self.behind.is_some() => self.pause(id),
                delivery = self.subscription.next(), if self.behind.is_none() => match delivery {
                    Ok(delivery) => tokio::select! {
                        () = shutdown.cancelled() => break,
                        done = self.handle(delivery) => done?,
                    },
                    Err(LogError::Retry(why)) => {
                        tracing::warn!(reason = %why, "the log does not answer; trying again");
                        self.context.patient.metrics.retries.inc();
                        tokio::time::sleep(LOG_PAUSE).await;
                    }
                    Err(error) => return Err(SinkError::Log(error)),
                },
            }
        }
        self.finish_all().await?;
        self.subscription.close().await.map_err(SinkError::Log)
    }

    fn show(&self) {
        let waited_for = self.behind.map(|(id, _)| id);
        let is_paused = |id: &u64, held: &Held| held.aside.is_some() && Some(*id) != waited_for;
        let paused = self.leases.iter().filter(|(id, held)| is_paused(id, held)).count();
        self.context.patient.metrics.paused.set(paused as i64);
    }

    async fn handle(&mut self, delivery: Delivery) -> Result<(), SinkError> {
        match delivery {
            Delivery::Assigned(assigned) => self.assigned(assigned).await,
            Delivery::Batch(batch) => {
                self.pass(batch.lease.id, Input::Batch(batch));
                Ok(())
            }
            Delivery::Gap(gap) => {
                self.pass(gap.lease.id, Input::Gap(gap));
                Ok(())
            }
            Delivery::Revoked(revocation) => self.revoked(revocation).await,
        }
    }

    fn pass(&mut self, id: u64, input: Input) {
        let Some(held) = self.leases.get_mut(&id) else { return };
        held.slow &= held.inputs.capacity() < INPUTS;
        if let Err(mpsc::error::TrySendError::Full(input)) = held.inputs.try_send(input) {
            held.aside = Some(input);
            let inputs = held.inputs.clone();
            self.rooms.push(Box::pin(async move { (id, inputs.reserve_owned().await) }));
            if held.slow {
                self.pause(id);
            } else {
                self.behind = Some((id, Instant::now() + BEHIND));
            }
        }
    }

    /// Goes on without a partition whose task takes nothing: it may fold all history into a new rollup, or wait for
    /// a store that refuses it alone.
    fn pause(&mut self, id: u64) {
        self.behind = None;
        if let Some(held) = self.leases.get_mut(&id) {
            held.slow = true;
            self.subscription.pause(&held.lease);
        }
    }

    /// A task has room again.
    fn room(&mut self, id: u64, room: Room) {
        let paused = self.behind.take_if(|(behind, _)| *behind == id).is_none();
        let (Some(held), Ok(permit)) = (self.leases.get_mut(&id), room) else { return };
        let Some(input) = held.aside.take() else { return };
        if paused {
            self.subscription.resume(&held.lease, input.next());
        }
        permit.send(input);
    }

    async fn assigned(&mut self, assigned: Assigned) -> Result<(), SinkError> {
        let context = &self.context;
        let now = (context.clock)();
        let epoch = epoch::current(&context.patient, &context.log, topics::CLEAN, now).await?;
        if self.epoch.is_some_and(|then| then != epoch.epoch) && !self.leases.is_empty() {
            self.finish_all().await?;
            return Err(SinkError::Epoch(epoch.epoch));
        }
        self.epoch = Some(epoch.epoch);
        context.patient.metrics.epoch.set(i64::from(epoch.epoch));
        let start = |assignment: &Assignment| {
            let (patient, log, config) = (&context.patient, &context.log, &context.config);
            assignment::start(patient, log, assignment.clone(), epoch, config, now)
        };
        let starts = stream::iter(&assigned.partitions).map(start).buffered(LOOKS);
        let starts: Vec<_> = starts.try_collect().await?;
        let answers = starts.iter().map(|start| start.begin.answer).collect();
        for start in starts {
            tracing::info!(
                partition = start.assignment.lease.partition,
                epoch = epoch.epoch,
                read_from = start.begin.read,
                work_from = start.begin.work,
                "partition assigned"
            );
            self.spawn(start);
        }
        assigned.start_at(answers);
        Ok(())
    }

    fn spawn(&mut self, start: assignment::Start) {
        let lease = start.assignment.lease.clone();
        let (inputs, receiver) = mpsc::channel(INPUTS);
        let [finish, lost] = [(); 2].map(|()| CancellationToken::new());
        let ends = Ends { finish: finish.clone(), lost: lost.clone() };
        let task = partition::run(self.context.clone(), start, receiver, ends);
        let id = lease.id;
        let abort = self.tasks.spawn(async move { (id, task.await) });
        let (aside, slow) = (None, false);
        self.leases.insert(id, Held { lease, inputs, aside, slow, finish, lost, abort });
    }

    async fn revoked(&mut self, revocation: Revocation) -> Result<(), SinkError> {
        let ids: Vec<u64> = revocation.leases.iter().map(|lease| lease.id).collect();
        // Of what was lost the flush under way ends as well: what comes late changes nothing within the epoch, and a next
        // one would take a locator without its rollups for an event that was counted.
        if revocation.lost {
            ids.iter().filter_map(|id| self.leases.get(id)).for_each(|held| held.lost.cancel());
        }
        self.finish(&ids, REVOKE_WITHIN).await?;
        revocation.acknowledge();
        Ok(())
    }

    async fn finish_all(&mut self) -> Result<(), SinkError> {
        let all: Vec<u64> = self.leases.keys().copied().collect();
        self.finish(&all, STOP_WITHIN).await
    }

    /// Lets tasks write what they have, commits it, and cuts off who takes too long.
    async fn finish(&mut self, ids: &[u64], within: Duration) -> Result<(), SinkError> {
        let until = Instant::now() + within;
        for held in ids.iter().filter_map(|id| self.leases.get(id)) {
            held.finish.cancel();
        }
        while ids.iter().any(|id| self.leases.contains_key(id)) {
            match tokio::time::timeout_at(until, self.tasks.join_next()).await {
                Ok(Some(ended)) => self.ended(ended)?,
                Ok(None) => break,
                Err(_) => {
                    tracing::warn!(
                        "a partition could not be written in time; its last records come again"
                    );
                    break;
                }
            }
        }
        self.commit().await?;
        ids.iter().for_each(|id| self.cut_off(*id));
        Ok(())
    }

    fn cut_off(&mut self, id: u64) {
        if let Some(held) = self.leases.remove(&id) {
            held.abort.abort();
            self.context.board.forget(&held.lease);
        }
    }

    fn ended(
        &mut self,
        ended: Result<(u64, Result<(), SinkError>), tokio::task::JoinError>,
    ) -> Result<(), SinkError> {
        match ended {
            Ok((id, result)) => {
                self.leases.remove(&id);
                result
            }
            Err(error) if error.is_cancelled() => Ok(()),
            Err(error) => Err(SinkError::Task(error.to_string())),
        }
    }

    async fn commit(&mut self) -> Result<(), SinkError> {
        let positions = self.context.board.take();
        if positions.is_empty() {
            return Ok(());
        }
        match self.subscription.commit(&positions).await {
            Err(LogError::Stale { .. }) => {
                // All or none: without the stale ones the others go through.
                for position in positions {
                    self.commit_one(position).await?;
                }
                Ok(())
            }
            other => self.committed(other, positions),
        }
    }

    async fn commit_one(&mut self, position: (Lease, Position)) -> Result<(), SinkError> {
        match self.subscription.commit(std::slice::from_ref(&position)).await {
            Err(LogError::Stale { .. }) => Ok(()),
            other => self.committed(other, vec![position]),
        }
    }

    fn committed(
        &self,
        result: Result<(), LogError>,
        positions: Vec<(Lease, Position)>,
    ) -> Result<(), SinkError> {
        match result {
            Ok(()) => Ok(()),
            Err(LogError::Retry(_)) => {
                self.context.patient.metrics.retries.inc();
                positions.iter().for_each(|(lease, at)| self.context.board.stored(lease, *at));
                Ok(())
            }
            Err(error) => Err(SinkError::Log(error)),
        }
    }
}

/// Answers the lease once its time has passed.
async fn past(behind: Option<(u64, Instant)>) -> u64 {
    match behind {
        Some((id, until)) => {
            tokio::time::sleep_until(until).await;
            id
        }
        None => std::future::pending().await,
    }
}
