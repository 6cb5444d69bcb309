//! Epochs, progress and definitions: little, and read much more often than written.
//!
//! Epochs and definitions are the two things that several processes may want to begin at once, far
//! off the data path, so a lightweight transaction decides. Their rows are changed by nothing else,
//! as timestamps of the two kinds of writes do not compare.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use scylla::{
    response::query_result::QueryRowsResult,
    serialize::row::SerializeRow,
    statement::{Consistency, unprepared::Statement},
};

use super::{
    Cql,
    client::{call, unread},
    fault::Fault,
    retention::now,
    schema::applied,
};
use crate::store::{Definition, FoldMark, PartitionState, StoreError, TopicEpoch, VersionId};

/// How long it is believed that an epoch is the current one. Whoever was stopped for longer looks
/// again before writing.
const BELIEVED: Duration = Duration::from_secs(5);

/// What is kept of topics, so that a flush need not ask.
#[derive(Debug, Default)]
pub(super) struct Topics(Mutex<HashMap<String, Topic>>);

#[derive(Clone, Debug)]
struct Topic {
    asked: Instant,
    current: TopicEpoch,
    /// When each epoch began.
    starts: HashMap<u32, i64>,
}

/// What a flush of an epoch needs to know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Epochs {
    /// The current one.
    pub(super) current: u32,
    /// When the flush's own one began, microseconds.
    pub(super) started_at: i64,
}

type Mark = (Option<bool>, Option<i64>, Option<i64>);

impl Cql {
    /// The epoch of a flush, and the current one.
    pub(super) async fn epochs(&self, topic: &str, epoch: u32) -> Result<Epochs, StoreError> {
        let lock = || self.topics.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |topics: &HashMap<String, Topic>| {
            let topic = topics.get(topic)?;
            let started_at = *topic.starts.get(&epoch)?;
            let fresh = topic.asked.elapsed() < BELIEVED;
            fresh.then_some(Epochs { current: topic.current.epoch, started_at })
        };
        if let Some(known) = known(&lock()) {
            return Ok(known);
        }
        let asked = Instant::now();
        let found = self.topic(topic, None).await?;
        let Some((current, starts)) = found else { return Err(never_begun(topic, epoch)) };
        let Some(&started_at) = starts.get(&epoch) else { return Err(never_begun(topic, epoch)) };
        lock().insert(topic.to_owned(), Topic { asked, current, starts });
        Ok(Epochs { current: current.epoch, started_at })
    }

    /// A topic's current epoch and when each began.
    async fn topic(
        &self,
        topic: &str,
        consistency: Option<Consistency>,
    ) -> Result<Option<(TopicEpoch, HashMap<u32, i64>)>, StoreError> {
        let mut statement = self.statements.epoch.clone();
        if let Some(consistency) = consistency {
            statement.set_consistency(consistency);
        }
        let found = self.client.rows(call::READ_STATE, &statement, (topic,)).await?;
        type Found = (Option<i32>, Option<i64>, Option<i64>, Option<HashMap<i32, i64>>);
        let Some((Some(epoch), Some(started_at), incarnation, starts)) =
            found.maybe_first_row::<Found>().map_err(unread)?
        else {
            return Ok(None);
        };
        let current = TopicEpoch {
            epoch: epoch.cast_unsigned(),
            started_at,
            incarnation: incarnation.map(i64::cast_unsigned),
        };
        let starts = starts.unwrap_or_default();
        let starts = starts.into_iter().map(|(epoch, at)| (epoch.cast_unsigned(), at)).collect();
        Ok(Some((current, starts)))
    }

    pub(super) async fn current_epoch(
        &self,
        topic: &str,
    ) -> Result<Option<TopicEpoch>, StoreError> {
        Ok(self.topic(topic, None).await?.map(|(current, _)| current))
    }

    pub(super) async fn swap_epoch(
        &self,
        topic: &str,
        from: Option<u32>,
        next: TopicEpoch,
    ) -> Result<TopicEpoch, StoreError> {
        let ks = &self.client.address.keyspace;
        let epoch = next.epoch.cast_signed();
        let incarnation = next.incarnation.map(u64::cast_signed);
        let starts = HashMap::from([(epoch, next.started_at)]);
        let swapped = match from {
            None => {
                let text = format!(
                    "INSERT INTO {ks}.topics (topic, epoch, started_at, incarnation, starts) \
                     VALUES (?, ?, ?, ?, ?) IF NOT EXISTS"
                );
                self.swap(text, (topic, epoch, next.started_at, incarnation, starts)).await
            }
            Some(from) => {
                let text = format!(
                    "UPDATE {ks}.topics SET epoch = ?, started_at = ?, incarnation = ?, \
                     starts = starts + ? WHERE topic = ? IF epoch = ?"
                );
                let from = from.cast_signed();
                self.swap(text, (epoch, next.started_at, incarnation, starts, topic, from)).await
            }
        };
        if matches!(swapped, Ok(true)) {
            return Ok(next);
        }
        // What is current is told by one more round: also when the verdict got lost on its way,
        // since then it may yet be decided, and a serial read decides it.
        match (self.topic(topic, Some(Consistency::LocalSerial)).await?, swapped) {
            (Some((current, _)), Ok(_)) => Ok(current),
            (Some((current, _)), Err(_)) if Some(current.epoch) != from => Ok(current),
            (_, Err(error)) => Err(error),
            (None, Ok(_)) => Err(StoreError::Fatal(format!(
                "topic {topic}: an epoch was to follow {from:?}, but the store knows none"
            ))),
        }
    }

    /// A lightweight transaction: whether it was applied.
    async fn swap(&self, text: String, values: impl SerializeRow) -> Result<bool, StoreError> {
        let answer = self.client.session.query_unpaged(Statement::new(text), values).await;
        let answer: QueryRowsResult = answer
            .map_err(|error| Fault::from(&error).error())?
            .into_rows_result()
            .map_err(unread)?;
        applied(answer)
    }

    pub(super) async fn progress(
        &self,
        topic: &str,
        epoch: u32,
        partition: u32,
    ) -> Result<PartitionState, StoreError> {
        let values = (topic, epoch.cast_signed(), partition.cast_signed());
        let statement = &self.statements.progress;
        let found = self.client.rows(call::READ_STATE, statement, values).await?;
        type Found = (Option<i64>, Option<HashMap<i64, Mark>>);
        let found = found.maybe_first_row::<Found>().map_err(unread)?;
        let Some((stored_to, marks)) = found else { return Ok(PartitionState::default()) };
        let mut marks: Vec<FoldMark> =
            marks.unwrap_or_default().into_iter().map(fold_mark).collect::<Result<_, _>>()?;
        marks.sort_unstable_by_key(|mark| mark.version.0);
        Ok(PartitionState { stored_to: stored_to.unwrap_or(0).cast_unsigned(), marks })
    }

    pub(super) async fn version_marks(
        &self,
        topic: &str,
        epoch: u32,
        version: VersionId,
    ) -> Result<Vec<(u32, FoldMark)>, StoreError> {
        let values = (topic, epoch.cast_signed());
        let statement = &self.statements.all_progress;
        let found = self.client.rows(call::READ_STATE, statement, values).await?;
        let mut marks = Vec::new();
        for row in found.rows::<(i32, Option<HashMap<i64, Mark>>)>().map_err(unread)? {
            let (partition, of) = row.map_err(unread)?;
            let wanted = version.0.cast_signed();
            if let Some(mark) = of.and_then(|mut of| of.remove(&wanted)) {
                marks.push((partition.cast_unsigned(), fold_mark((wanted, mark))?));
            }
        }
        Ok(marks)
    }

    /// Definitions with when they were registered, in that order.
    async fn registered(&self) -> Result<Vec<(i64, Definition)>, StoreError> {
        let statement = &self.statements.definitions;
        let found = self.client.rows(call::READ_STATE, statement, ()).await?;
        let mut definitions = Vec::with_capacity(found.rows_num());
        for row in found.rows::<(Option<i64>, i64, Option<&str>)>().map_err(unread)? {
            let (Some(registered), version, Some(body)) = row.map_err(unread)? else { continue };
            let definition = serde_json::from_str(body).map_err(unread)?;
            definitions.push((registered, version, definition));
        }
        definitions.sort_unstable_by_key(|(registered, version, _)| (*registered, *version));
        Ok(definitions.into_iter().map(|(registered, _, body)| (registered, body)).collect())
    }

    pub(super) async fn all_definitions(&self) -> Result<Vec<Definition>, StoreError> {
        Ok(self.registered().await?.into_iter().map(|(_, definition)| definition).collect())
    }

    pub(super) async fn add_definition(&self, definition: &Definition) -> Result<(), StoreError> {
        let known = self.registered().await?;
        if known.iter().any(|(_, known)| known == definition) {
            return Ok(());
        }
        let body =
            serde_json::to_string(definition).map_err(|e| StoreError::Fatal(e.to_string()))?;
        // Behind all that are there, whatever the clock says.
        let last = known.last().map_or(i64::MIN, |(registered, _)| *registered);
        let registered = now().max(last.saturating_add(1));
        let text = format!(
            "INSERT INTO {}.definitions (version, registered, body) VALUES (?, ?, ?) IF NOT EXISTS",
            self.client.address.keyspace
        );
        self.swap(text, (definition.version().0.cast_signed(), registered, body)).await?;
        Ok(())
    }
}

fn never_begun(topic: &str, epoch: u32) -> StoreError {
    StoreError::Fatal(format!("epoch {epoch} of topic {topic} was never begun in this store"))
}

fn fold_mark((version, mark): (i64, Mark)) -> Result<FoldMark, StoreError> {
    let (Some(incomplete), Some(from), Some(to)) = mark else {
        return Err(StoreError::Fatal("a mark in the CQL store has no value".into()));
    };
    Ok(FoldMark {
        version: VersionId(version.cast_unsigned()),
        from: from.cast_unsigned(),
        to: to.cast_unsigned(),
        complete: !incomplete,
    })
}
