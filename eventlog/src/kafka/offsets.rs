//! Where partitions begin and end, and where groups stand.
//!
//! The end of a partition is the position up to which everything can be read, asked for when it has
//! reached all that was in the partition at the time of asking. Both matter: brokers answer a commit
//! before they have marked its records as readable, and who was answered expects to read them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};

use super::{
    Core, LOOK, blocking, claim,
    client::CALL,
    observe::{Observer, locked},
    readers::{self, Loan},
};
use crate::{Bounds, LogError, Position};

/// How long the end waits for open transactions. One that hangs, after its producer was killed, ends
/// only by its timeout.
const OPEN: Duration = Duration::from_secs(1);
/// So many groups' consumers are kept.
const GROUPS: usize = 4;

impl Core {
    /// See [`crate::LogDriver::bounds`].
    pub async fn bounds(self: &Arc<Self>, topic: &str, partition: u32) -> Result<Bounds, LogError> {
        self.exists(topic, partition).await?;
        let (core, name) = (self.clone(), topic.to_owned());
        let asked = blocking("asking for the end", move || {
            core.ask(|reader| core.bounds_by(reader, &name, partition))
        })
        .await;
        self.confirmed(topic, partition, asked).await
    }

    /// A client may not know for a moment what exists, such as when its brokers have just come
    /// back: that is no reason to give up.
    async fn confirmed<T>(
        self: &Arc<Self>,
        topic: &str,
        partition: u32,
        answer: Result<T, LogError>,
    ) -> Result<T, LogError> {
        let Err(LogError::Unknown(of)) = answer else { return answer };
        match self.topic(topic).await {
            Ok(found) if partition < found.partitions => {
                Err(LogError::Retry(format!("not all clients know {of} again")))
            }
            Ok(_) | Err(LogError::Unknown(_)) => Err(LogError::Unknown(of)),
            Err(other) => Err(other),
        }
    }

    /// Asks through a reader; blocks. One that got no answer does not go back: what a broker that had
    /// just come up did not know stays in a client's cache for minutes.
    fn ask<T>(&self, call: impl FnOnce(&Loan) -> Result<T, LogError>) -> Result<T, LogError> {
        let reader = self.readers.take()?;
        let answer = call(&reader);
        if answer.is_err() {
            reader.spoil();
        }
        answer
    }

    /// The same through a consumer at hand; blocks.
    pub fn bounds_by(
        &self,
        reader: &BaseConsumer<Observer>,
        topic: &str,
        partition: u32,
    ) -> Result<Bounds, LogError> {
        let place = format!("{topic}/{partition}");
        let index = i32::try_from(partition).map_err(|_| LogError::Unknown(place.clone()))?;
        let wrong = |error| match self.unanswered("asking for the end", &place, &error) {
            LogError::Unknown(_) => {
                self.known.forget(topic);
                LogError::Unknown(place.clone())
            }
            other => other,
        };
        // One asks for everything, the other for what is committed.
        let all = self.lookup.client().fetch_watermarks(topic, index, CALL);
        if all.is_err() {
            // What it knows is renewed; see `ask`.
            let _ = self.lookup.client().fetch_metadata(Some(topic), LOOK);
        }
        let (_, all) = all.map_err(wrong)?;
        let (until, mut pause) = (Instant::now() + OPEN, Duration::from_millis(1));
        loop {
            let (start, end) = reader.fetch_watermarks(topic, index, CALL).map_err(wrong)?;
            if end >= all || Instant::now() >= until {
                let unsigned = |offset| u64::try_from(offset).unwrap_or_default();
                return Ok(Bounds { start: unsigned(start), end: unsigned(end) });
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// See [`crate::LogDriver::position_at`].
    pub async fn position_at(
        self: &Arc<Self>,
        topic: &str,
        partition: u32,
        appended_at: i64,
    ) -> Result<Position, LogError> {
        self.exists(topic, partition).await?;
        // Kafka keeps milliseconds: a record's time is a whole one, so the first at or after a time
        // is the first at or after the next whole one.
        let millis =
            appended_at.max(0).div_euclid(1000) + i64::from(appended_at.max(0) % 1000 != 0);
        let (core, name) = (self.clone(), topic.to_owned());
        let asked = blocking("looking up a time", move || {
            let place = format!("{name}/{partition}");
            let wrong = |error| core.unanswered("looking up a time", &place, &error);
            let index = i32::try_from(partition).map_err(|_| LogError::Unknown(place.clone()))?;
            core.ask(|reader| {
                let mut times = TopicPartitionList::with_capacity(1);
                times.add_partition_offset(&name, index, Offset::Offset(millis)).map_err(wrong)?;
                let found = reader.offsets_for_times(times, CALL).map_err(wrong)?;
                let element = found.find_partition(&name, index);
                let element = element.ok_or_else(|| LogError::Unknown(place.clone()))?;
                element.error().map_err(wrong)?;
                match element.offset() {
                    Offset::Offset(offset) => Ok(u64::try_from(offset).unwrap_or_default()),
                    _ => Ok(core.bounds_by(reader, &name, partition)?.end),
                }
            })
        })
        .await;
        self.confirmed(topic, partition, asked).await
    }

    /// See [`crate::LogDriver::committed`].
    pub async fn committed(
        self: &Arc<Self>,
        group: &str,
        topic: &str,
    ) -> Result<Vec<Option<Position>>, LogError> {
        let partitions = self.topic(topic).await?.partitions;
        let (core, group, topic) = (self.clone(), group.to_owned(), topic.to_owned());
        blocking("asking for committed positions", move || {
            let place = format!("{topic} for {group}");
            let wrong = |error| core.unanswered("asking for committed positions", &place, &error);
            let consumer = core.groups.take(&core, &group)?;
            let mut asked = TopicPartitionList::with_capacity(partitions as usize);
            for partition in 0..partitions {
                asked.add_partition(&topic, i32::try_from(partition).unwrap_or(i32::MAX));
            }
            let found = consumer.committed_offsets(asked, CALL).map_err(wrong)?;
            let mut positions = vec![None; partitions as usize];
            for element in found.elements() {
                element.error().map_err(wrong)?;
                let slot = usize::try_from(element.partition()).ok();
                if let Some(slot) = slot.and_then(|index| positions.get_mut(index)) {
                    *slot = claim::standing(&element).committed;
                }
            }
            core.groups.give_back(&group, consumer);
            Ok(positions)
        })
        .await
    }

    /// Who leads a partition; blocks.
    pub fn leader(&self, topic: &str, partition: u32) -> Result<i32, LogError> {
        let metadata = self
            .lookup
            .client()
            .fetch_metadata(Some(topic), CALL)
            .map_err(|error| self.unanswered("the look-up", topic, &error))?;
        let partitions = metadata.topics().first().map(|topic| topic.partitions());
        let found = partitions
            .and_then(|all| all.iter().find(|p| u32::try_from(p.id()) == Ok(partition)))
            .ok_or_else(|| LogError::Unknown(format!("{topic}/{partition}")))?;
        if found.leader() < 0 {
            return Err(LogError::Retry(format!("{topic}/{partition} has no leader now")));
        }
        Ok(found.leader())
    }

    pub fn out_of_range(
        &self,
        topic: &str,
        partition: u32,
        wanted: Position,
        bounds: Bounds,
    ) -> LogError {
        let Bounds { start, end } = bounds;
        LogError::OutOfRange { topic: topic.into(), partition, wanted, start, end }
    }

    /// Tells a partition that does not exist without waiting for librdkafka to give it up.
    pub async fn exists(self: &Arc<Self>, topic: &str, partition: u32) -> Result<(), LogError> {
        if partition < self.partitions(topic).await?
            || partition < self.topic(topic).await?.partitions
        {
            return Ok(());
        }
        Err(LogError::Unknown(format!("{topic}/{partition}")))
    }
}

/// Consumers that ask for groups' positions, one for each of a few groups.
#[derive(Default)]
pub(super) struct Groups(std::sync::Mutex<Vec<(String, BaseConsumer<Observer>)>>);

impl Groups {
    fn take(&self, core: &Core, group: &str) -> Result<BaseConsumer<Observer>, LogError> {
        let mut kept = locked(&self.0);
        let Some(at) = kept.iter().position(|(of, _)| of == group) else {
            drop(kept);
            return readers::make(&core.clients, Some(group));
        };
        let (_, consumer) = kept.remove(at);
        drop(kept);
        readers::listen(&consumer);
        Ok(consumer)
    }

    fn give_back(&self, group: &str, consumer: BaseConsumer<Observer>) {
        let mut kept = locked(&self.0);
        kept.push((group.to_owned(), consumer));
        if kept.len() > GROUPS {
            let oldest = kept.remove(0);
            drop(kept);
            super::bury(oldest);
        }
    }

    /// Lets the idle ones say what they have to.
    pub fn poll(&self) {
        for (_, consumer) in &*locked(&self.0) {
            readers::listen(consumer);
        }
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        super::bury(std::mem::take(&mut *locked(&self.0)));
    }
}
