//! A log of one compacted topic in memory, enough for the registry's tests.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use eventlog::{
    AppendAtError, AppendError, Appended, Bounds, Log, LogDriver, LogError, Position, ReadDriver,
    Record, Stored, SubscriptionDriver, TopicInfo, TopicSpec,
};

/// A log that forgets everything when it is dropped.
pub(crate) fn memory_log() -> Log {
    Log::new(Memory::default())
}

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<Stored>>>);

impl Memory {
    /// Leaves a hole after each append, as the logs do after a transaction.
    fn end(records: &[Stored]) -> Position {
        records.last().map_or(0, |r| r.offset + 2)
    }

    fn push(&self, records: Vec<Record>) -> Position {
        let mut all = self.0.lock().unwrap();
        let mut offset = Self::end(&all);
        for record in records {
            all.push(Stored { offset, appended_at: 0, record });
            offset += 1;
        }
        Self::end(&all)
    }
}

#[async_trait]
impl LogDriver for Memory {
    async fn ensure_topics(&self, _: &[TopicSpec]) -> Result<(), LogError> {
        Ok(())
    }
    async fn topic(&self, topic: &str) -> Result<TopicInfo, LogError> {
        Err(LogError::Unknown(topic.into()))
    }
    async fn topics(&self) -> Result<Vec<TopicInfo>, LogError> {
        Ok(Vec::new())
    }
    async fn bounds(&self, _: &str, _: u32) -> Result<Bounds, LogError> {
        Ok(Bounds { start: 0, end: Self::end(&self.0.lock().unwrap()) })
    }
    async fn position_at(&self, _: &str, _: u32, _: i64) -> Result<Position, LogError> {
        Ok(0)
    }
    async fn append(&self, _: &str, records: Vec<Record>) -> Vec<Result<Appended, AppendError>> {
        let results = records.iter().map(|_| Ok(Appended { partition: 0, offset: 0 })).collect();
        self.push(records);
        results
    }
    async fn append_at(
        &self,
        _: &str,
        expected_end: Position,
        records: Vec<Record>,
    ) -> Result<Position, AppendAtError> {
        let end = Self::end(&self.0.lock().unwrap());
        if end != expected_end {
            return Err(AppendAtError::Conflict { end });
        }
        Ok(self.push(records))
    }
    async fn read(
        &self,
        _: &str,
        _: u32,
        from: Position,
        to: Position,
    ) -> Result<Box<dyn ReadDriver>, LogError> {
        let all = self.0.lock().unwrap();
        let wanted = all.iter().filter(|r| (from..to).contains(&r.offset)).cloned().collect();
        Ok(Box::new(Rest((from < to).then_some((wanted, to)))))
    }
    async fn subscribe(
        &self,
        _: &str,
        _: &[&str],
    ) -> Result<Box<dyn SubscriptionDriver>, LogError> {
        Err(LogError::Fatal("no groups here".into()))
    }
    async fn committed(&self, _: &str, _: &str) -> Result<Vec<Option<Position>>, LogError> {
        Ok(Vec::new())
    }
}

struct Rest(Option<(Vec<Stored>, Position)>);

#[async_trait]
impl ReadDriver for Rest {
    async fn next(&mut self) -> Result<Option<(Vec<Stored>, Position)>, LogError> {
        Ok(self.0.take())
    }
}
