//! The schema registry: a fold over one compacted topic, `penstock.schemas`.
//!
//! Every replica reads the same records and applies them without judging ([`fold`]), so replicas
//! cannot differ. Judgement is the writer's: it parses, checks that the new version reads what
//! every earlier one wrote, picks the next id, and appends only if the topic still ends where it
//! had read to. Of two writers at once the later is told, reads on and judges again.
//!
//! Ids are never used twice: each registration also writes the highest id, which no deletion takes
//! back.

mod fold;

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use eventlog::{AppendAtError, AppendError, Log, LogError, Position, Retention, Stored, TopicSpec};
use fold::{Fold, SubjectKey};
use tokio::{
    sync::Mutex,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use crate::{Data, DecodeError, Fault, avro::Avro, topics};

/// How often [`Registry::follow`] looks for news.
const POLL: Duration = Duration::from_millis(500);
/// How long a registration tries while others get in between or the log is not well.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause before a second try on a log that is not well; it doubles up to 16 times itself.
const BACKOFF: Duration = Duration::from_millis(50);

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
    #[error("not compatible with version {version}: {detail}")]
    Incompatible {
        /// The earlier version.
        version: u32,
        /// What differs.
        detail: String,
    },
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
    /// Parsed; an error when it is beyond this version of Penstock.
    avro: Result<Avro, String>,
}

impl Registered {
    /// Checks data and makes its value: Confluent framing (0, the id as 4 bytes, the datum).
    pub(crate) fn encode(&self, data: &Data) -> Result<Bytes, Vec<Fault>> {
        let refuse = |code, detail: String| Err(vec![Fault::at(code, "data", detail)]);
        let json = match data {
            Data::Json(json) => json,
            Data::None => return refuse("missing_data", "the type's schema needs `data`".into()),
            Data::Bytes(_) => {
                return refuse("invalid_data", "the type's schema needs `data` in JSON".into());
            }
        };
        let avro = match &self.avro {
            Ok(avro) => avro,
            Err(why) => {
                return refuse(
                    "unusable_schema",
                    format!("schema {} is not usable: {why}", self.id),
                );
            }
        };
        let mut value = Vec::with_capacity(json.len() + 5);
        value.push(0);
        value.extend_from_slice(&self.id.to_be_bytes());
        avro.encode(json, &mut value)?;
        Ok(value.into())
    }

    /// Takes a datum back.
    pub(crate) fn decode(&self, datum: &[u8]) -> Result<Data, DecodeError> {
        let malformed =
            |why: &str| DecodeError::Malformed(format!("a datum of schema {}: {why}", self.id));
        let avro = self.avro.as_ref().map_err(|why| malformed(why))?;
        avro.decode(datum).map(|json| Data::Json(json.into())).map_err(malformed)
    }
}

/// A namespace's subjects, each with its versions in order.
type Subjects = HashMap<Arc<str>, Vec<Arc<Registered>>>;

/// What is known at one moment.
#[derive(Default)]
struct Snapshot {
    /// By namespace; a map of maps, so that looking up borrows.
    subjects: HashMap<Arc<str>, Subjects>,
    ids: HashMap<u32, Arc<Registered>>,
}

impl Snapshot {
    fn versions(&self, namespace: &str, subject: &str) -> &[Arc<Registered>] {
        self.subjects.get(namespace).and_then(|n| n.get(subject)).map_or(&[], Vec::as_slice)
    }
}

/// What has been read; held while reading or writing, so that a process does one at a time.
#[derive(Default)]
struct Reading {
    fold: Fold,
    position: Position,
}

struct Shared {
    log: Log,
    reading: Mutex<Reading>,
    snapshot: RwLock<Arc<Snapshot>>,
}

/// A handle on the registry; clones share it.
#[derive(Clone)]
pub struct Registry(Arc<Shared>);

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
        let registry =
            Self(Arc::new(Shared { log, reading: Mutex::default(), snapshot: RwLock::default() }));
        registry.refresh().await?;
        Ok(registry)
    }

    /// Reads up to the topic's end.
    pub async fn refresh(&self) -> Result<(), RegistryError> {
        let mut reading = self.0.reading.lock().await;
        self.read(&mut reading).await
    }

    /// Keeps up with the topic until the token is cancelled.
    pub async fn follow(&self, shutdown: CancellationToken) {
        let mut tick = tokio::time::interval(POLL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut well = true;
        while shutdown.run_until_cancelled(tick.tick()).await.is_some() {
            let read = self.refresh().await;
            if let (true, Err(e)) = (well, &read) {
                tracing::warn!("schemas are as they were, not as they are: {e}");
            }
            well = read.is_ok();
        }
    }

    /// The latest version of a type's schema.
    pub fn latest(&self, namespace: &str, subject: &str) -> Option<Arc<Registered>> {
        self.peek(|known| known.versions(namespace, subject).last().cloned())
    }

    /// All versions of a type's schema, from the first.
    pub fn versions(&self, namespace: &str, subject: &str) -> Vec<Arc<Registered>> {
        self.peek(|known| known.versions(namespace, subject).to_vec())
    }

    /// The schema with an id.
    pub fn by_id(&self, id: u32) -> Option<Arc<Registered>> {
        self.peek(|known| known.ids.get(&id).cloned())
    }

    /// Registers a schema as the next version of a type's. The same one again (the same JSON, apart
    /// from white space and the order of members) answers with the same id and version.
    pub async fn register(
        &self,
        namespace: &str,
        subject: &str,
        schema: &str,
    ) -> Result<Arc<Registered>, RegisterError> {
        let avro = Avro::parse(schema).map_err(RegisterError::Invalid)?;
        let canonical = canonical(schema);
        let mut reading = self.0.reading.lock().await;
        let mut last = RegistryError::Retry("others register without a pause".into());
        let mut pause = BACKOFF;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            self.read(&mut reading).await?;
            let snapshot = self.snapshot();
            let versions = snapshot.versions(namespace, subject);
            if let Some(same) = versions.iter().find(|v| self::canonical(&v.text) == canonical) {
                return Ok(same.clone());
            }
            judge(&avro, versions)?;
            let key = SubjectKey { namespace: namespace.into(), subject: subject.into() };
            let version = reading.fold.next_version(&key);
            let records = reading.fold.registration(&key, version, schema)?;
            let end = reading.position;
            match self.0.log.append_at(topics::SCHEMAS, end, records).await {
                // read on, and see; a conflict needs no pause, as somebody did get through
                Ok(_) | Err(AppendAtError::Conflict { .. }) => {}
                Err(AppendAtError::Append(AppendError::Refused(why))) => {
                    return Err(RegistryError::Fatal(why).into());
                }
                Err(AppendAtError::Append(AppendError::Retry(why) | AppendError::Unknown(why))) => {
                    last = RegistryError::Retry(why);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(BACKOFF * 16);
                }
            }
        }
        Err(last.into())
    }

    /// Looks at what is known. Writers hold the lock only to put the next snapshot in place.
    fn peek<T>(&self, look: impl FnOnce(&Snapshot) -> T) -> T {
        look(&self.0.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.0.snapshot.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn read(&self, reading: &mut Reading) -> Result<(), RegistryError> {
        let bounds = self.0.log.bounds(topics::SCHEMAS, 0).await?;
        if bounds.end < reading.position {
            return Err(RegistryError::Fatal(format!(
                "topic {} ends at {}, before {} which was read: it was made anew; restart to read it again",
                topics::SCHEMAS,
                bounds.end,
                reading.position
            )));
        }
        if bounds.end == reading.position {
            return Ok(());
        }
        let from = reading.position.max(bounds.start);
        let mut reader = self.0.log.read(topics::SCHEMAS, 0, from, bounds.end).await?;
        let mut news = false;
        while let Some((records, next)) = reader.next().await? {
            for Stored { offset, record, .. } in records {
                news |= reading.fold.apply(offset, &record);
            }
            reading.position = next;
        }
        reading.position = bounds.end;
        if news {
            let next = reading.fold.snapshot(&self.snapshot());
            *self.0.snapshot.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        }
        Ok(())
    }
}

/// The new version must read what every earlier one wrote: records stay longer than versions.
fn judge(avro: &Avro, versions: &[Arc<Registered>]) -> Result<(), RegisterError> {
    for earlier in versions.iter().rev() {
        let Ok(writer) = &earlier.avro else { continue };
        avro.can_read(writer)
            .map_err(|detail| RegisterError::Incompatible { version: earlier.version, detail })?;
    }
    Ok(())
}

/// A schema's JSON without white space and with its members in order. Avro's own canonical form
/// would not do: it leaves out defaults and logical types, and so takes different schemas for one.
fn canonical(schema: &str) -> String {
    fn sorted(value: serde_json::Value) -> serde_json::Value {
        match value {
            serde_json::Value::Object(members) => {
                let mut members: Vec<_> = members.into_iter().collect();
                members.sort_by(|a, b| a.0.cmp(&b.0));
                members.into_iter().map(|(name, value)| (name, sorted(value))).collect()
            }
            serde_json::Value::Array(items) => items.into_iter().map(sorted).collect(),
            other => other,
        }
    }
    serde_json::from_str(schema).map_or_else(|_| schema.to_owned(), |v| sorted(v).to_string())
}

#[cfg(test)]
mod tests;
