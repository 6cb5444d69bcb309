//! The log on Apache Kafka, through librdkafka.
//!
//! * `brokers`: the URL; `client`: the one place that makes clients, with what a user may set and
//!   what we insist on; `observe`: what clients tell by callbacks: logs, errors, statistics.
//! * `record`: to and from Kafka's messages; `errors`: what an error means to the caller.
//! * `topics`: make, check, list; `produce`: append; `compare`: append at an expected end; `read`:
//!   reading outside groups.
//! * `subscription`: a member of a group and its transactor.
//!
//! What is promised: an append is answered when all replicas in sync have it (`acks=all`); readers
//! see only what was committed (`read_committed`). librdkafka's types stay in this folder.

mod brokers;
mod client;
mod errors;
mod observe;
mod record;
mod subscription;

use std::sync::Arc;

use async_trait::async_trait;

use self::client::Clients;
use crate::{
    AppendAtError, AppendError, Appended, Bounds, LogDriver, LogError, Options, Position,
    ReadDriver, Record, SubscriptionDriver, TopicInfo, TopicSpec,
};

/// Opens the log on the brokers that a URL names, `kafka://host:port,host:port`. The brokers need not
/// be up: what needs them answers `Retry` until they are.
pub async fn open(url: &str, options: Options) -> Result<KafkaLog, LogError> {
    let brokers = brokers::parse(url)?;
    let clients = Clients::new(brokers, options)?;
    Ok(KafkaLog(Arc::new(Core { clients })))
}

/// A handle on a Kafka cluster; clones share it.
#[derive(Clone)]
pub struct KafkaLog(Arc<Core>);

/// What all parts share.
pub(crate) struct Core {
    /// Makes clients; also holds the options and the metrics.
    pub clients: Clients,
}

fn missing<T>() -> Result<T, LogError> {
    Err(LogError::Fatal("not built".into()))
}

#[async_trait]
impl LogDriver for KafkaLog {
    async fn ensure_topics(&self, _: &[TopicSpec]) -> Result<(), LogError> {
        missing()
    }

    async fn topic(&self, _: &str) -> Result<TopicInfo, LogError> {
        missing()
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>, LogError> {
        missing()
    }

    async fn bounds(&self, _: &str, _: u32) -> Result<Bounds, LogError> {
        missing()
    }

    async fn position_at(&self, _: &str, _: u32, _: i64) -> Result<Position, LogError> {
        missing()
    }

    async fn append(&self, _: &str, _: Vec<Record>) -> Vec<Result<Appended, AppendError>> {
        Vec::new()
    }

    async fn append_at(
        &self,
        _: &str,
        _: Position,
        _: Vec<Record>,
    ) -> Result<Position, AppendAtError> {
        Err(AppendAtError::Append(AppendError::Refused("not built".into())))
    }

    async fn read(
        &self,
        _: &str,
        _: u32,
        _: Position,
        _: Position,
    ) -> Result<Box<dyn ReadDriver>, LogError> {
        missing()
    }

    async fn subscribe(
        &self,
        group: &str,
        topics: &[&str],
    ) -> Result<Box<dyn SubscriptionDriver>, LogError> {
        subscription::subscribe(self.0.clone(), group, topics).await
    }

    async fn committed(&self, _: &str, _: &str) -> Result<Vec<Option<Position>>, LogError> {
        missing()
    }

    fn status(&self) -> Result<(), LogError> {
        self.0.clients.health.status()
    }
}
