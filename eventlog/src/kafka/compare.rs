//! Appending at an expected end.
//!
//! A topic of one partition has one transactional id, `penstock.end.TOPIC`, for all processes. Who
//! initialises it fences who did before; so between looking at the end and committing, nobody else has
//! committed through it, or this commit fails. Producers that do not go through here are not kept out.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use rdkafka::{error::KafkaError, producer::Producer as _};

use super::{
    Core, blocking,
    client::CALL,
    errors::tell,
    observe::{Role, locked},
    produce::Producer,
};
use crate::{AppendAtError, AppendError, LogError, Position, Record};

/// So often a producer that was fenced is made anew for one request.
const TRIES: usize = 4;

/// One producer for each topic, and one request at a time.
#[derive(Default)]
pub(super) struct Ends(Mutex<HashMap<String, Arc<End>>>);

type End = tokio::sync::Mutex<Option<Arc<Producer>>>;

/// So often the end is asked for after a commit, each time for a second, until it shows the records.
const PATIENCE: usize = 5;

/// How a try ended.
enum Tried {
    Done(Position),
    /// Another process took the id; nothing was stored.
    Fenced(String),
}

impl Core {
    /// See [`crate::LogDriver::append_at`].
    pub async fn append_at(
        self: &Arc<Self>,
        topic: &str,
        expected_end: Position,
        records: Vec<Record>,
    ) -> Result<Position, AppendAtError> {
        let refused = |why| AppendAtError::Append(AppendError::Refused(why));
        match self.partitions(topic).await {
            Ok(1) => {}
            Ok(partitions) => {
                return Err(refused(format!(
                    "{topic} has {partitions} partitions; only a topic of one can be appended to at an \
                     expected end"
                )));
            }
            Err(error @ LogError::Unknown(_)) => return Err(self.no_place(topic, &error).into()),
            Err(error) => return Err(not_at(error)),
        }
        let slot = locked(&self.ends.0).entry(topic.to_owned()).or_default().clone();
        let mut slot = slot.lock().await;
        let mut last = String::new();
        for _ in 0..TRIES {
            // Taken out: a request that is dropped half-way leaves no producer in an unknown state.
            let producer = match slot.take() {
                Some(producer) => producer,
                None => self.initialised(topic).await?,
            };
            match self.try_at(topic, &producer, expected_end, records.clone()).await {
                Ok(Tried::Done(end)) => {
                    *slot = Some(producer);
                    return Ok(end);
                }
                Err(error @ AppendAtError::Conflict { .. }) => {
                    *slot = Some(producer);
                    return Err(error);
                }
                Ok(Tried::Fenced(why)) => last = why,
                Err(error) => return Err(error),
            }
        }
        Err(AppendError::Retry(format!("other processes append to {topic}: {last}")).into())
    }

    /// A producer that has fenced all others of the topic, and ended what they left open.
    async fn initialised(self: &Arc<Self>, topic: &str) -> Result<Arc<Producer>, AppendAtError> {
        let (core, topic) = (self.clone(), topic.to_owned());
        blocking("taking the topic's end", move || {
            let config = core.clients.transactional_producer(&format!("penstock.end.{topic}"));
            let producer = Producer::new(&core.clients, &config, Role::Transactions)?;
            producer
                .native()
                .init_transactions(CALL)
                .map_err(|error| core.unanswered("taking the end", &topic, &error))?;
            Ok(producer)
        })
        .await
        .map_err(not_at)
    }

    async fn try_at(
        self: &Arc<Self>,
        topic: &str,
        producer: &Arc<Producer>,
        expected_end: Position,
        records: Vec<Record>,
    ) -> Result<Tried, AppendAtError> {
        let end = self.bounds(topic, 0).await.map_err(not_at)?.end;
        if end != expected_end {
            return Err(AppendAtError::Conflict { end });
        }
        if records.is_empty() {
            return Ok(Tried::Done(end));
        }
        if let Err(error) = producer.native().begin_transaction() {
            return fenced_or(error, |told| AppendError::Retry(told).into());
        }
        let options = &self.clients.options;
        let results = producer.send(&topic.into(), 1, records, options).await;
        let mut last = 0;
        for result in results {
            match result {
                Ok(appended) => last = last.max(appended.offset),
                Err(error) => return self.abort(producer, error).await,
            }
        }
        let (ended, core) = (producer.clone(), self.clone());
        let committed = blocking("committing", move || {
            ended.settle();
            let committed = ended.native().commit_transaction(CALL);
            if let Err(KafkaError::Transaction(error)) = &committed
                && error.txn_requires_abort()
            {
                let told = error.string();
                let aborted = ended.native().abort_transaction(CALL);
                return Ok(aborted.is_ok().then_some(Err(told)));
            }
            Ok(committed.is_ok().then_some(Ok(())))
        })
        .await
        .map_err(|error| AppendError::Unknown(error.to_string()))?;
        match committed {
            Some(Ok(())) => {}
            Some(Err(why)) => return Err(AppendError::Retry(why).into()),
            // Fenced or unanswered: the commit may have happened. Who takes the end knows.
            None => core.resolve(topic, last).await?,
        }
        // The marker of the transaction stands behind the last record. It is written after the answer,
        // and who reads up to the end that is returned here must find it.
        let end = last + 2;
        for _ in 0..PATIENCE {
            if core.bounds(topic, 0).await.is_ok_and(|bounds| bounds.end >= end) {
                break;
            }
        }
        Ok(Tried::Done(end))
    }

    /// Ends a transaction that must not be; whoever had the id instead has done so already.
    async fn abort(
        self: &Arc<Self>,
        producer: &Arc<Producer>,
        why: AppendError,
    ) -> Result<Tried, AppendAtError> {
        let ended = producer.clone();
        let aborted =
            blocking("aborting", move || Ok(ended.native().abort_transaction(CALL))).await;
        match (aborted, why) {
            (_, refused @ AppendError::Refused(_)) => Err(refused.into()),
            (Ok(Ok(())), why) => Err(AppendError::Retry(why.to_string()).into()),
            (Ok(Err(error)), _) => fenced_or(error, |told| AppendError::Retry(told).into()),
            (Err(error), _) => Err(AppendError::Retry(error.to_string()).into()),
        }
    }

    /// Finds out whether a transaction whose last record was at an offset was committed.
    async fn resolve(self: &Arc<Self>, topic: &str, last: u64) -> Result<(), AppendAtError> {
        let unknown = |why: String| AppendAtError::Append(AppendError::Unknown(why));
        // It is ended, one way or the other, when another producer has taken the id.
        let taken = self.initialised(topic).await.map_err(|error| unknown(error.to_string()))?;
        drop(taken);
        let (core, topic) = (self.clone(), topic.to_owned());
        let reader = blocking("reading", move || core.reader(&topic, 0, last, last + 1)).await;
        let mut reader = reader.map_err(|error| unknown(error.to_string()))?;
        let found = crate::ReadDriver::next(&mut reader).await;
        match found.map_err(|error| unknown(error.to_string()))? {
            Some((records, _)) if !records.is_empty() => Ok(()),
            _ => Err(AppendError::Retry("another process ended the transaction".into()).into()),
        }
    }
}

/// Whether the producer was fenced, else the error that is made of its text.
fn fenced_or(
    error: KafkaError,
    other: impl FnOnce(String) -> AppendAtError,
) -> Result<Tried, AppendAtError> {
    let told = tell(&error);
    match &error {
        KafkaError::Transaction(inner) if inner.is_fatal() => Ok(Tried::Fenced(told)),
        _ => Err(other(told)),
    }
}

/// What an error before the commit means to the caller: nothing is stored.
fn not_at(error: LogError) -> AppendAtError {
    AppendAtError::Append(match error {
        LogError::Retry(why) => AppendError::Retry(why),
        LogError::Fatal(why) => AppendError::Refused(why),
        other => AppendError::Retry(other.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_retry_can_mend_is_refused() {
        let refused = not_at(LogError::Fatal("the id is not permitted".into()));
        assert_eq!(refused, AppendError::Refused("the id is not permitted".into()).into());
        let later = not_at(LogError::Retry("no broker answers".into()));
        assert_eq!(later, AppendError::Retry("no broker answers".into()).into());
    }
}
