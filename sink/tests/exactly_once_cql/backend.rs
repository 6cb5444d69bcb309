//! The store of these tests: on CQL, one keyspace for all, in which each has names of its own.
//!
//! Without nodes it is the embedded one, so that the tests need not know.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use sink::store::{
    Definition, EventRow, EventsPage, EventsQuery, Flush, FoldMark, Identity, Origin,
    PartitionState, RollupKey, RollupQuery, RollupRow, Store, StoreDriver, StoreError, TopicEpoch,
    VersionId, contract::Harness,
};

use crate::cluster::Shared;

#[path = "../exactly_once/backend.rs"]
mod embedded;

pub async fn open(dir: &Path) -> Store {
    let Some(shared) = Shared::given() else { return embedded::open(dir).await };
    let own = uuid::Uuid::new_v4().simple().to_string();
    Arc::new(Renamed { inner: shared.open().await, own: own.into() })
}

/// A store in which topics and namespaces have other names.
struct Renamed {
    inner: Store,
    own: Arc<str>,
}

/// The namespace that the tests use.
const NAMESPACE: &str = "default";

impl Renamed {
    fn topic(&self, topic: &str) -> String {
        format!("{}-{topic}", self.own)
    }

    fn there(&self, namespace: &mut Arc<str>) {
        assert_eq!(&**namespace, NAMESPACE);
        *namespace = self.own.clone();
    }

    fn back(&self, namespace: &mut Arc<str>) {
        assert_eq!(*namespace, self.own);
        *namespace = NAMESPACE.into();
    }

    fn identity(&self, identity: &Identity) -> Identity {
        let mut identity = identity.clone();
        self.there(&mut identity.namespace);
        identity
    }

    fn key(&self, key: &RollupKey) -> RollupKey {
        let mut key = key.clone();
        self.there(&mut key.namespace);
        key
    }
}

#[async_trait]
impl StoreDriver for Renamed {
    async fn epoch(&self, topic: &str) -> Result<Option<TopicEpoch>, StoreError> {
        self.inner.epoch(&self.topic(topic)).await
    }
    async fn begin_epoch(
        &self,
        topic: &str,
        from: Option<u32>,
        next: TopicEpoch,
    ) -> Result<TopicEpoch, StoreError> {
        self.inner.begin_epoch(&self.topic(topic), from, next).await
    }
    async fn partition(
        &self,
        topic: &str,
        epoch: u32,
        partition: u32,
    ) -> Result<PartitionState, StoreError> {
        self.inner.partition(&self.topic(topic), epoch, partition).await
    }
    async fn locate(&self, identities: &[Identity]) -> Result<Vec<Option<Origin>>, StoreError> {
        let identities: Vec<_> = identities.iter().map(|i| self.identity(i)).collect();
        self.inner.locate(&identities).await
    }
    async fn rollup_rows(&self, keys: &[RollupKey]) -> Result<Vec<Option<RollupRow>>, StoreError> {
        let keys: Vec<_> = keys.iter().map(|key| self.key(key)).collect();
        let mut rows = self.inner.rollup_rows(&keys).await?;
        rows.iter_mut().flatten().for_each(|row| self.back(&mut row.key.namespace));
        Ok(rows)
    }
    async fn write(&self, flush: Arc<Flush>) -> Result<(), StoreError> {
        let mut flush = Flush::clone(&flush);
        flush.topic = self.topic(&flush.topic).into();
        flush.events.iter_mut().for_each(|row| self.there(&mut row.event.namespace));
        flush.rollups.iter_mut().for_each(|row| self.there(&mut row.key.namespace));
        self.inner.write(Arc::new(flush)).await
    }
    async fn register(&self, definition: &Definition) -> Result<(), StoreError> {
        self.inner.register(definition).await
    }
    async fn definitions(&self) -> Result<Vec<Definition>, StoreError> {
        self.inner.definitions().await
    }
    async fn marks(
        &self,
        topic: &str,
        epoch: u32,
        version: VersionId,
    ) -> Result<Vec<(u32, FoldMark)>, StoreError> {
        self.inner.marks(&self.topic(topic), epoch, version).await
    }
    async fn events(&self, query: &EventsQuery) -> Result<EventsPage, StoreError> {
        let mut query = query.clone();
        self.there(&mut query.namespace);
        let mut page = self.inner.events(&query).await?;
        page.rows.iter_mut().for_each(|row| self.back(&mut row.event.namespace));
        Ok(page)
    }
    async fn event(&self, identity: &Identity) -> Result<Option<EventRow>, StoreError> {
        let mut row = self.inner.event(&self.identity(identity)).await?;
        row.iter_mut().for_each(|row| self.back(&mut row.event.namespace));
        Ok(row)
    }
    async fn rollup_scan(
        &self,
        query: &RollupQuery,
        after: Option<&RollupKey>,
        limit: usize,
    ) -> Result<Vec<RollupRow>, StoreError> {
        let mut query = query.clone();
        self.there(&mut query.namespace);
        let after = after.map(|key| self.key(key));
        let mut rows = self.inner.rollup_scan(&query, after.as_ref(), limit).await?;
        rows.iter_mut().for_each(|row| self.back(&mut row.key.namespace));
        Ok(rows)
    }
    async fn expire(&self, now: i64) -> Result<bool, StoreError> {
        self.inner.expire(now).await
    }
}
