//! The schema registry: a fold over one compacted topic, `penstock.schemas`.
//!
//! Every replica reads the same records and applies them without judging ([`fold`]), so replicas
//! cannot differ. Judgement is the writer's: it parses ([`judge`]), checks what the subject's [`Level`] asks
//! for, picks an id, and appends only if the topic still ends where it had read to ([`change`]). Of two
//! writers at once the later is told, reads on and judges again.
//!
//! - Within a namespace one schema has one id, whatever its subjects; a [`View`] shows one namespace.
//! - Ids and version numbers are never used for another schema: each new id is also written as the
//!   highest, and no deletion takes that back.
//! - A deletion hides a version from lists, from judgement and from new data, and nothing else. Its
//!   record stays, even when it is deleted for good: records that bear its id may lie in topics
//!   for ever, and must decode.

mod change;
mod error;
mod fold;
mod judge;
mod level;
mod registered;
mod snapshot;

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use eventlog::{Log, Position, Retention, Stored, TopicSpec};
use fold::Fold;
use snapshot::Snapshot;
use tokio::{sync::Mutex, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

pub(crate) use self::judge::{MAX_REFERENCED, texts};
pub use self::{
    error::{Denied, RegisterError, RegistryError},
    judge::{Against, Clash},
    level::{Level, Mode},
    registered::{Draft, Reference, Registered, State},
    snapshot::{Show, VersionName, View},
};
use crate::{framed::Framed, topics};

/// How often [`Registry::follow`] looks for news.
const POLL: Duration = Duration::from_millis(500);

/// What has been read; held while reading or writing, so that a process does one at a time.
#[derive(Default)]
struct Reading {
    fold: Fold,
    position: Position,
    /// When the last read that came to the topic's end began.
    begun: Option<Instant>,
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

    /// Reads up to where the topic ends now. Those who ask at once share one read.
    pub async fn refresh(&self) -> Result<(), RegistryError> {
        let asked = Instant::now();
        let mut reading = self.0.reading.lock().await;
        if reading.begun.is_some_and(|begun| begun >= asked) {
            return Ok(());
        }
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
        self.peek(|known| known.subject(namespace, subject)?.latest.clone())
    }

    /// The same as records use it.
    pub(crate) fn latest_framed(&self, namespace: &str, subject: &str) -> Option<Framed> {
        self.peek(|known| Some(known.subject(namespace, subject)?.latest.as_ref()?.framed()))
    }

    /// The schema with an id.
    pub fn by_id(&self, id: u32) -> Option<Arc<Registered>> {
        self.peek(|known| known.ids.get(&id).cloned())
    }

    /// The same as records use it.
    pub(crate) fn framed(&self, id: u32) -> Option<Framed> {
        self.peek(|known| Some(known.ids.get(&id)?.framed()))
    }

    /// What a namespace sees now.
    pub fn view(&self, namespace: &str) -> View {
        View { snapshot: self.snapshot(), namespace: namespace.into() }
    }

    /// Looks at what is known. Writers hold the lock only to put the next snapshot in place.
    fn peek<T>(&self, look: impl FnOnce(&Snapshot) -> T) -> T {
        look(&self.0.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.0.snapshot.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn read(&self, reading: &mut Reading) -> Result<(), RegistryError> {
        let begun = Instant::now();
        self.read_to_end(reading).await?;
        reading.begun = Some(begun);
        Ok(())
    }

    async fn read_to_end(&self, reading: &mut Reading) -> Result<(), RegistryError> {
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

#[cfg(test)]
mod tests;
