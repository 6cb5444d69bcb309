//! A log in memory: the schemas' topic for good, of the others the last append.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use eventlog::{
    AppendAtError, AppendError, Appended, Bounds, Log, LogDriver, LogError, Position, ReadDriver,
    Record, Stored, SubscriptionDriver, TopicInfo, TopicSpec,
};

/// A log in memory; clones share it.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    schemas: Vec<Record>,
    appended: Vec<Record>,
}

impl Memory {
    /// The log as the services know it.
    pub fn handle(&self) -> Log {
        Log::new(self.clone())
    }

    /// What was appended since it was last asked.
    pub fn take(&self) -> Vec<Record> {
        std::mem::take(&mut self.held().appended)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_here<T>() -> Result<T, LogError> {
    Err(LogError::Fatal("this log only takes events and schemas".into()))
}

#[async_trait]
impl LogDriver for Memory {
    async fn append(&self, _: &str, records: Vec<Record>) -> Vec<Result<Appended, AppendError>> {
        let results = vec![Ok(Appended { partition: 0, offset: 0 }); records.len()];
        self.held().appended.extend(records);
        results
    }
    async fn append_at(
        &self,
        _: &str,
        _: Position,
        records: Vec<Record>,
    ) -> Result<Position, AppendAtError> {
        let mut held = self.held();
        held.schemas.extend(records);
        Ok(held.schemas.len() as Position)
    }
    async fn ensure_topics(&self, _: &[TopicSpec]) -> Result<(), LogError> {
        Ok(())
    }
    async fn bounds(&self, _: &str, _: u32) -> Result<Bounds, LogError> {
        Ok(Bounds { start: 0, end: self.held().schemas.len() as Position })
    }
    async fn read(
        &self,
        _: &str,
        _: u32,
        from: Position,
        to: Position,
    ) -> Result<Box<dyn ReadDriver>, LogError> {
        let stored = |offset| {
            let record = self.held().schemas[offset as usize].clone();
            Stored { offset, appended_at: 0, record }
        };
        Ok(Box::new(Once(Some(((from..to).map(stored).collect(), to)))))
    }
    async fn topic(&self, _: &str) -> Result<TopicInfo, LogError> {
        not_here()
    }
    async fn topics(&self) -> Result<Vec<TopicInfo>, LogError> {
        not_here()
    }
    async fn position_at(&self, _: &str, _: u32, _: i64) -> Result<Position, LogError> {
        not_here()
    }
    async fn subscribe(
        &self,
        _: &str,
        _: &[&str],
    ) -> Result<Box<dyn SubscriptionDriver>, LogError> {
        not_here()
    }
    async fn committed(&self, _: &str, _: &str) -> Result<Vec<Option<Position>>, LogError> {
        not_here()
    }
    fn status(&self) -> Result<(), LogError> {
        Ok(())
    }
}

/// All that was asked for, at once.
struct Once(Option<(Vec<Stored>, Position)>);

#[async_trait]
impl ReadDriver for Once {
    async fn next(&mut self) -> Result<Option<(Vec<Stored>, Position)>, LogError> {
        Ok(self.0.take())
    }
}
