//! The record that the door makes of an event of the load, to be numbered anew: what the bare loops
//! write is what Penstock writes.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use eventlog::Record;
use rdkafka::message::{Header, OwnedHeaders};
use schemas::{Codec, Defaults, Registry, Unknown, event_from_json};

use crate::load::{self, Body, ID_DIGITS};

/// The header that holds the id.
const ID_HEADER: &str = "ce_id";

/// One record, ready to be numbered.
#[derive(Clone)]
pub struct Template {
    headers: Vec<(String, Vec<u8>)>,
    id: [u8; ID_DIGITS],
    value: Vec<u8>,
    group: usize,
}

impl Template {
    /// Sends one event of the load through the real codec, with a schema of its type or without.
    pub async fn new(time: &str, schema: Option<&str>) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let log = format!("file:{}", dir.path().join("log").display());
        let log = eventlog::open(&log, eventlog::Options::default()).await?;
        let registry = Registry::open(log).await?;
        if let Some(schema) = schema {
            registry.register("default", load::TYPE, schema).await?;
        }
        let codec = Codec::new(registry, Unknown::Accept);
        let namespace: Arc<str> = "default".into();
        let mut defaults =
            Defaults { namespace: &namespace, now: 0, fill_id: None, fill_specversion: false };
        let (event, _) = event_from_json(&Body::new(1, time).numbered(0), &mut defaults)
            .map_err(|faults| anyhow!("{faults:?}"))?;
        let Record { headers, value, .. } =
            codec.encode(&event).map_err(|error| anyhow!("{error:?}"))?;
        let value = value.context("the event has no data")?.to_vec();
        let group = value.windows(3).position(|w| w == b"c00");
        Ok(Self {
            headers: headers.iter().map(|(n, v)| (n.to_owned(), v.to_vec())).collect(),
            id: [b'0'; ID_DIGITS],
            group: group.context("no group in the event")? + 1,
            value,
        })
    }

    /// Becomes the record of an event.
    pub fn number(&mut self, number: u64) {
        load::digits(number, &mut self.id);
        load::digits(load::group_of(number), &mut self.value[self.group..self.group + 2]);
    }

    /// Its key.
    pub fn key(&self) -> &[u8] {
        &self.id
    }

    /// Its value.
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// Its headers.
    pub fn headers(&self) -> OwnedHeaders {
        let none = OwnedHeaders::new_with_capacity(self.headers.len());
        self.headers.iter().fold(none, |headers, (key, value)| {
            let value = if key == ID_HEADER { &self.id[..] } else { &value[..] };
            headers.insert(Header { key, value: Some(value) })
        })
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::message::Headers;

    use super::*;

    #[tokio::test]
    async fn a_numbered_record_carries_its_number_as_key_and_as_id() {
        for schema in [None, Some(load::SCHEMA)] {
            let mut template = Template::new("2026-01-01T00:00:00Z", schema).await.unwrap();
            template.number(41);
            assert_eq!(template.key(), b"000000000041");
            let headers = template.headers();
            let id = headers.iter().find(|h| h.key == ID_HEADER).unwrap().value;
            assert_eq!(id, Some(template.key()));
            assert!(template.value().windows(3).any(|w| w == b"c01"));
            let json = serde_json::from_slice::<serde_json::Value>(template.value()).is_ok();
            assert_eq!(json, schema.is_none());
        }
    }
}
