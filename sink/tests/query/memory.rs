//! A store in memory, plain enough to be the model, that fails, waits and answers short pages
//! on demand.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use sink::store::*;

#[derive(Default)]
pub struct Memory {
    pub content: Mutex<Content>,
    /// What every read answers, instead of rows.
    pub failing: Mutex<Option<StoreError>>,
    /// How long every read takes.
    pub slow: Option<Duration>,
    /// Rows of the type or subject that one call looks at, when fewer than asked for.
    pub share: Option<usize>,
}

#[derive(Default)]
pub struct Content {
    events: BTreeMap<(String, EventKey), EventRow>,
    rollups: BTreeMap<(i64, i64, String, u32, u32), RollupRow>,
    definitions: Vec<Definition>,
    epochs: BTreeMap<String, TopicEpoch>,
    states: BTreeMap<(u32, u32), PartitionState>,
}

impl Memory {
    async fn answer<T>(&self, read: impl FnOnce(&Content) -> T) -> Result<T, StoreError> {
        if let Some(slow) = self.slow {
            tokio::time::sleep(slow).await;
        }
        match self.failing.lock().unwrap().clone() {
            Some(error) => Err(error),
            None => Ok(read(&self.content.lock().unwrap())),
        }
    }
}

fn key(row: &EventRow) -> EventKey {
    let event = &row.event;
    EventKey { time: event.time.micros, source: event.source.clone(), id: event.id.clone() }
}

fn selected(query: &EventsQuery, row: &EventRow) -> bool {
    match &query.selector {
        Selector::Type(kind) => row.event.kind == *kind,
        Selector::Subject(subject) => row.event.subject.as_ref() == Some(subject),
    }
}

#[async_trait]
impl StoreDriver for Memory {
    async fn epoch(&self, topic: &str) -> Result<Option<TopicEpoch>, StoreError> {
        self.answer(|content| content.epochs.get(topic).copied()).await
    }

    async fn begin_epoch(
        &self,
        topic: &str,
        _from: Option<u32>,
        next: TopicEpoch,
    ) -> Result<TopicEpoch, StoreError> {
        self.content.lock().unwrap().epochs.insert(topic.to_owned(), next);
        Ok(next)
    }

    async fn partition(
        &self,
        _topic: &str,
        epoch: u32,
        partition: u32,
    ) -> Result<PartitionState, StoreError> {
        self.answer(|c| c.states.get(&(epoch, partition)).cloned().unwrap_or_default()).await
    }

    async fn locate(&self, identities: &[Identity]) -> Result<Vec<Option<Origin>>, StoreError> {
        Ok(vec![None; identities.len()])
    }

    async fn rollup_rows(&self, keys: &[RollupKey]) -> Result<Vec<Option<RollupRow>>, StoreError> {
        Ok(vec![None; keys.len()])
    }

    async fn write(&self, flush: Arc<Flush>) -> Result<(), StoreError> {
        let mut content = self.content.lock().unwrap();
        for row in &flush.events {
            content.events.insert((row.event.namespace.to_string(), key(row)), row.clone());
        }
        for row in &flush.rollups {
            let k = &row.key;
            let at = (k.window, k.start, k.group.clone(), k.epoch, k.partition);
            content.rollups.insert(at, row.clone());
        }
        let state = PartitionState { stored_to: flush.stored_to, marks: flush.marks.clone() };
        content.states.insert((flush.epoch, flush.partition), state);
        Ok(())
    }

    async fn register(&self, definition: &Definition) -> Result<(), StoreError> {
        self.content.lock().unwrap().definitions.push(definition.clone());
        Ok(())
    }

    async fn definitions(&self) -> Result<Vec<Definition>, StoreError> {
        self.answer(|content| content.definitions.clone()).await
    }

    async fn marks(
        &self,
        _topic: &str,
        _epoch: u32,
        _version: VersionId,
    ) -> Result<Vec<(u32, FoldMark)>, StoreError> {
        Ok(Vec::new())
    }

    async fn events(&self, query: &EventsQuery) -> Result<EventsPage, StoreError> {
        let share = self.share.unwrap_or(usize::MAX);
        self.answer(|content| {
            let mut rows: Vec<EventRow> = content
                .events
                .iter()
                .filter(|((namespace, key), row)| {
                    **namespace == *query.namespace
                        && selected(query, row)
                        && (query.from..query.to).contains(&key.time)
                        && query.after.as_ref().is_none_or(|after| match query.order {
                            Order::Asc => key > after,
                            Order::Desc => key < after,
                        })
                })
                .map(|(_, row)| row.clone())
                .collect();
            if query.order == Order::Desc {
                rows.reverse();
            }
            let mut page = EventsPage { rows: Vec::new(), next: None };
            for (looked, row) in rows.into_iter().enumerate() {
                if looked >= share || page.rows.len() == query.limit {
                    return page;
                }
                page.next = Some(key(&row));
                if query.source.as_ref().is_none_or(|source| row.event.source == *source) {
                    page.rows.push(row);
                }
            }
            page.next = None;
            page
        })
        .await
    }

    async fn event(&self, identity: &Identity) -> Result<Option<EventRow>, StoreError> {
        self.answer(|content| {
            let mut rows = content.events.values();
            rows.find(|row| row.event.source == identity.source && row.event.id == identity.id)
                .cloned()
        })
        .await
    }

    async fn rollup_scan(
        &self,
        query: &RollupQuery,
        after: Option<&RollupKey>,
        limit: usize,
    ) -> Result<Vec<RollupRow>, StoreError> {
        let after = after.map(|k| (k.start, k.group.as_str(), k.epoch, k.partition));
        self.answer(|content| {
            let rows = content.rollups.values().filter(|row| {
                let k = &row.key;
                k.namespace == query.namespace
                    && k.rollup == query.rollup
                    && k.version == query.version
                    && k.window == query.window
                    && (query.from..query.to).contains(&k.start)
                    && after.is_none_or(|after| {
                        (k.start, k.group.as_str(), k.epoch, k.partition) > after
                    })
            });
            rows.take(limit).cloned().collect()
        })
        .await
    }

    async fn expire(&self, _now: i64) -> Result<bool, StoreError> {
        Ok(false)
    }
}
