//! Look-ups: which record stored an identity, and where its event is.
//!
//! Neighbours are asked for together: a request costs a store and its client several times what
//! one more row in it does.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    Cql,
    client::{call, each, unread},
    decode::{self, Place},
    spread::Spread,
};
use crate::store::{EventKey, EventRow, Identity, Origin, StoreError};

/// Identities asked for in one request.
const IDENTITIES: usize = 16;

/// Events of one partition asked for in one request.
const EVENTS: usize = 32;

/// Where an event is.
#[derive(Clone, Debug)]
pub(super) struct Pointer {
    pub(super) key: EventKey,
    pub(super) kind: String,
}

/// Indexes of what is asked for, sorted so that those of one request follow each other, and cut.
fn grouped<K: Ord>(count: usize, most: usize, of: impl Fn(usize) -> K) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by_cached_key(|&index| of(index));
    let runs = order.chunk_by(|&a, &b| of(a) == of(b));
    runs.flat_map(|run| run.chunks(most)).map(<[usize]>::to_vec).collect()
}

impl Cql {
    pub(super) async fn locate_all(
        &self,
        identities: &[Identity],
    ) -> Result<Vec<Option<Origin>>, StoreError> {
        // One that asks for several partitions cannot be sent to the nodes of each.
        let most = if Spread::of(&self.client).is_none() { IDENTITIES } else { 1 };
        let origin = |index: usize| (&identities[index].source, &identities[index].namespace);
        let requests = grouped(identities.len(), most, origin);
        let origins = Mutex::new(vec![None; identities.len()]);
        let (requests, found) = (&requests, &origins);
        each(requests.len(), |number| {
            let indexes = &requests[number];
            Box::pin(async move {
                let some = self.locate_some(identities, indexes).await?;
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                for &index in indexes {
                    found[index] = some.get(identities[index].id.as_str()).copied();
                }
                Ok(())
            })
        })
        .await?;
        Ok(origins.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Origins by id, of identities of one namespace and source.
    async fn locate_some(
        &self,
        identities: &[Identity],
        indexes: &[usize],
    ) -> Result<HashMap<String, Origin>, StoreError> {
        let Some(Identity { namespace, source, id }) = indexes.first().map(|&i| &identities[i])
        else {
            return Ok(HashMap::new());
        };
        let (client, to) = (&self.client, &self.statements);
        let found = match indexes {
            [_] => {
                let values = (&**namespace, source, id);
                client.rows(call::READ_LOCATORS, &to.locate, values).await?
            }
            _ => {
                let mut ids: Vec<&str> = indexes.iter().map(|&i| &*identities[i].id).collect();
                ids.sort_unstable();
                ids.dedup();
                let values = (&**namespace, source, ids);
                client.rows(call::READ_LOCATORS, &to.locate_some, values).await?
            }
        };
        let mut origins = HashMap::with_capacity(found.rows_num());
        for row in found.rows::<(&str, Option<Place>)>().map_err(unread)? {
            let (id, place) = row.map_err(unread)?;
            if let Some(place) = place {
                origins.insert(id.to_owned(), decode::origin(place));
            }
        }
        Ok(origins)
    }

    pub(super) async fn one_event(
        &self,
        identity: &Identity,
    ) -> Result<Option<EventRow>, StoreError> {
        let Identity { namespace, source, id } = identity;
        let values = (&**namespace, source, id);
        let found = self.client.rows(call::READ_LOCATORS, &self.statements.place, values).await?;
        let found = found.maybe_first_row::<(Option<String>, Option<i64>)>().map_err(unread)?;
        let Some((Some(kind), Some(time))) = found else { return Ok(None) };
        let key = EventKey { time, source: source.clone(), id: id.clone() };
        let found = self.events_at(namespace, &[Pointer { key, kind }]).await?;
        Ok(found.into_iter().next().flatten())
    }

    /// The events that pointers name, in their order. One that is not there is still on its way,
    /// or retention took it a moment before what points at it.
    pub(super) async fn events_at(
        &self,
        namespace: &Arc<str>,
        pointers: &[Pointer],
    ) -> Result<Vec<Option<EventRow>>, StoreError> {
        let partition = |index: usize| {
            let Pointer { key, kind } = &pointers[index];
            (self.layout.bucket(key.time), self.layout.sub(&key.source, &key.id), kind)
        };
        let requests = grouped(pointers.len(), EVENTS, partition);
        let rows = Mutex::new(vec![None; pointers.len()]);
        let (requests, found, partition) = (&requests, &rows, &partition);
        each(requests.len(), |number| {
            let indexes = &requests[number];
            Box::pin(async move {
                let Some(&first) = indexes.first() else { return Ok(()) };
                let (bucket, sub, kind) = partition(first);
                let at = |&index: &usize| {
                    let EventKey { time, source, id } = &pointers[index].key;
                    ((*time, source.as_str(), id.as_str()), index)
                };
                let wanted: HashMap<(i64, &str, &str), usize> = indexes.iter().map(at).collect();
                let keys: Vec<_> = wanted.keys().copied().collect();
                let values = (&**namespace, kind, bucket, sub, keys);
                let statement = &self.statements.some_events;
                let some = self.client.rows(call::READ_EVENTS, statement, values).await?;
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                for row in decode::events(&some, namespace, kind)? {
                    let event = &row.event;
                    let key = (event.time.micros, event.source.as_str(), event.id.as_str());
                    if let Some(&index) = wanted.get(&key) {
                        found[index] = Some(row);
                    }
                }
                Ok(())
            })
        })
        .await?;
        Ok(rows.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_together_is_asked_for_together_up_to_a_limit() {
        let of = ["b", "a", "b", "b", "a"];
        let groups = grouped(of.len(), 2, |index| of[index]);
        assert_eq!(groups, [vec![1, 4], vec![0, 2], vec![3]]);
    }
}
