//! A session on a cluster, and how requests are made on it: within the budget, timed, repeated.
//!
//! Transient errors are retried here for a bounded time, request by request, so that a flush of
//! hundreds of them does not begin again for one that failed. Past that time the caller learns
//! `Retry` and decides. Every request made here is idempotent, so one of unknown outcome is simply
//! made again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};

use scylla::{
    client::{
        execution_profile::ExecutionProfile, session::Session, session_builder::SessionBuilder,
    },
    errors::ExecutionError,
    policies::{load_balancing::DefaultPolicy, retry::FallthroughRetryPolicy},
    response::query_result::{QueryResult, QueryRowsResult},
    serialize::{batch::BatchValues, row::SerializeRow},
    statement::{Consistency, SerialConsistency, batch::Batch, prepared::PreparedStatement},
};
use service::config::StoreConfig;

use super::{address::Address, budget::Budget, fault::Fault};
use crate::store::{Metrics, StoreError};

/// How long to try to reach a cluster before saying that it is not there.
const OPEN: Duration = Duration::from_secs(15);
const CONNECT: Duration = Duration::from_secs(5);

/// How long one attempt may take: longer than a server's own limits (2 s for a write and 5 s for
/// a read by default), so that its answer, which says more, comes first.
const ATTEMPT: Duration = Duration::from_secs(6);

/// How long a request is repeated before the caller learns of it.
const PATIENCE: Duration = Duration::from_secs(10);

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Requests of one call under way at once; all of a process share the budget.
const WORKERS: usize = 64;

/// What is asked for, as metrics call it.
pub(super) mod call {
    pub(in super::super) const WRITE_EVENTS: &str = "write_events";
    pub(in super::super) const WRITE_LOCATORS: &str = "write_locators";
    pub(in super::super) const WRITE_SUBJECTS: &str = "write_subjects";
    pub(in super::super) const WRITE_ROLLUPS: &str = "write_rollups";
    pub(in super::super) const WRITE_BUCKETS: &str = "write_buckets";
    pub(in super::super) const WRITE_PROGRESS: &str = "write_progress";
    pub(in super::super) const READ_LOCATORS: &str = "read_locators";
    pub(in super::super) const READ_EVENTS: &str = "read_events";
    pub(in super::super) const READ_ROLLUPS: &str = "read_rollups";
    pub(in super::super) const READ_BUCKETS: &str = "read_buckets";
    pub(in super::super) const READ_STATE: &str = "read_state";
}

pub(super) struct Client {
    pub(super) session: Session,
    pub(super) address: Address,
    pub(super) datacenter: String,
    pub(super) metrics: Metrics,
    budget: Budget,
}

impl Client {
    /// Connects; `Retry` when nobody answers in time.
    pub(super) async fn connect(
        address: Address,
        config: &StoreConfig,
        metrics: Metrics,
    ) -> Result<Self, StoreError> {
        let away = |why: &str| {
            StoreError::Retry(format!("no CQL node of {} can be used: {why}", address.shown()))
        };
        let mut builder = SessionBuilder::new()
            .known_nodes(&address.nodes)
            .connection_timeout(CONNECT)
            .keyspaces_to_fetch([&address.keyspace])
            .driver_config_reporting(false);
        if let Some(user) = &config.user {
            builder = builder.user(user, config.password.as_deref().unwrap_or_default());
        }
        // One connection a shard, which on Cassandra is one a node: the pool's default.
        let session = match tokio::time::timeout(OPEN, builder.build()).await {
            Err(_) => return Err(away(&format!("none answered within {} s", OPEN.as_secs()))),
            Ok(Ok(session)) => session,
            Ok(Err(error)) => {
                let fault = Fault::from(&error);
                return Err(match fault.transient {
                    true => away(&fault.text),
                    false => {
                        StoreError::Fatal(format!("CQL nodes {}: {}", address.shown(), fault.text))
                    }
                });
            }
        };
        let datacenter = datacenter(&session, config.datacenter.as_deref(), &away)?;
        let policy = DefaultPolicy::builder()
            .prefer_datacenter(datacenter.clone())
            .token_aware(true)
            .permit_dc_failover(false)
            .build();
        let profile = ExecutionProfile::builder()
            .consistency(Consistency::LocalQuorum)
            .serial_consistency(Some(SerialConsistency::LocalSerial))
            .request_timeout(Some(ATTEMPT))
            .load_balancing_policy(policy)
            .retry_policy(Arc::new(FallthroughRetryPolicy::new()))
            .build();
        session.get_default_execution_profile_handle().clone().map_to_another_profile(profile);
        let budget = Budget::new(metrics.in_flight.clone(), metrics.in_flight_limit.clone());
        Ok(Self { session, address, datacenter, metrics, budget })
    }

    /// Nodes of the datacenter that is spoken to.
    pub(super) fn nodes(&self) -> usize {
        let state = self.session.get_cluster_state();
        let ours = |node: &&Arc<scylla::cluster::Node>| {
            node.datacenter.as_deref() == Some(&*self.datacenter)
        };
        state.get_nodes_info().iter().filter(ours).count()
    }

    /// Prepares a statement that may be repeated at will.
    pub(super) async fn prepare(&self, text: String) -> Result<PreparedStatement, StoreError> {
        let late = |_| StoreError::Retry("a statement was not prepared in time".into());
        let answer = tokio::time::timeout(PATIENCE, self.session.prepare(text)).await;
        let mut prepared = answer.map_err(late)?.map_err(|e| Fault::from(&e).error())?;
        prepared.set_is_idempotent(true);
        Ok(prepared)
    }

    /// Executes a statement that writes a row of about so many bytes.
    pub(super) async fn execute(
        &self,
        call: &'static str,
        statement: &PreparedStatement,
        values: impl SerializeRow + Sync,
        bytes: usize,
    ) -> Result<QueryResult, StoreError> {
        let values = &values;
        self.persist(call, Some(bytes), || self.session.execute_unpaged(statement, values)).await
    }

    /// Executes a statement that answers rows.
    pub(super) async fn rows(
        &self,
        call: &'static str,
        statement: &PreparedStatement,
        values: impl SerializeRow + Sync,
    ) -> Result<QueryRowsResult, StoreError> {
        let values = &values;
        let answer =
            self.persist(call, None, || self.session.execute_unpaged(statement, values)).await?;
        answer.into_rows_result().map_err(unread)
    }

    /// Executes a batch of about so many bytes.
    pub(super) async fn batch(
        &self,
        call: &'static str,
        batch: &Batch,
        values: impl BatchValues + Sync,
        bytes: usize,
    ) -> Result<(), StoreError> {
        let values = &values;
        self.persist(call, Some(bytes), || self.session.batch(batch, values)).await?;
        Ok(())
    }

    /// Tries a request until it succeeds, for [`PATIENCE`] at most.
    async fn persist<F>(
        &self,
        call: &'static str,
        written: Option<usize>,
        attempt: impl Fn() -> F,
    ) -> Result<QueryResult, StoreError>
    where
        F: Future<Output = Result<QueryResult, ExecutionError>>,
    {
        let mut pause = FIRST_PAUSE;
        let mut until = None;
        loop {
            let permit = match written {
                Some(bytes) => self.budget.write(bytes).await,
                None => self.budget.read().await,
            };
            let began = Instant::now();
            let until = *until.get_or_insert(began + PATIENCE);
            let answer = attempt().await;
            let took = began.elapsed();
            drop(permit);
            self.metrics.answered(call, took);
            let fault = match answer {
                Ok(result) => {
                    if written.is_some() {
                        self.budget.learn(took, false);
                    }
                    return Ok(result);
                }
                Err(error) => Fault::from(&error),
            };
            self.metrics.failed(call, fault.name);
            if fault.overload && written.is_some() {
                self.budget.learn(took, true);
            }
            // Half of the pause is left to chance, so that those who failed together part.
            let wait = pause.mul_f64(0.5 + chance() / 2.0);
            if !fault.transient || Instant::now() + wait >= until {
                return Err(fault.error());
            }
            self.metrics.retried(call);
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Does `count` things, a bounded number of them at once, each by its index; ends at the first
/// error. As few futures are polled as there are workers, whatever the count.
pub(super) async fn each<'a>(
    count: usize,
    work: impl Fn(usize) -> BoxFuture<'a, Result<(), StoreError>> + Sync,
) -> Result<(), StoreError> {
    let next = AtomicUsize::new(0);
    let (next, work) = (&next, &work);
    let worker = |_| async move {
        loop {
            let index = next.fetch_add(1, Relaxed);
            if index >= count {
                return Ok::<_, StoreError>(());
            }
            work(index).await?;
        }
    };
    let mut workers: FuturesUnordered<_> = (0..count.min(WORKERS)).map(worker).collect();
    while let Some(done) = workers.next().await {
        done?;
    }
    Ok(())
}

/// The datacenter to speak to: the one that was asked for, or that of the first node that answers.
fn datacenter(
    session: &Session,
    wanted: Option<&str>,
    away: &dyn Fn(&str) -> StoreError,
) -> Result<String, StoreError> {
    let state = session.get_cluster_state();
    let nodes = state.get_nodes_info();
    let Some(wanted) = wanted else {
        let connected = nodes.iter().filter(|node| node.is_connected());
        let mut known = connected.chain(nodes).filter_map(|node| node.datacenter.clone());
        return known.next().ok_or_else(|| away("no node says which datacenter it is in"));
    };
    let mut known: Vec<&str> = nodes.iter().filter_map(|node| node.datacenter.as_deref()).collect();
    known.sort_unstable();
    known.dedup();
    if known.contains(&wanted) {
        return Ok(wanted.to_owned());
    }
    Err(StoreError::Fatal(format!(
        "store.datacenter is `{wanted}`, and the cluster has: {}",
        known.join(", ")
    )))
}

/// An answer that is not what its statement answers.
pub(super) fn unread(error: impl std::error::Error) -> StoreError {
    // Errors of reading name types and columns, never values.
    StoreError::Fatal(format!("an answer of the CQL store cannot be read: {error}"))
}

/// From 0 to 1, evenly.
pub(super) fn chance() -> f64 {
    let (random, _) = uuid::Uuid::new_v4().as_u64_pair();
    (random >> 11) as f64 / (1_u64 << 53) as f64
}
