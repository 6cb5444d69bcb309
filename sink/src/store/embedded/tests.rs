//! The contract on the embedded store, and what only this store promises.

mod bounds;
mod opening;
mod retention;

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use schemas::{Data, Event, Timestamp};
use tempfile::TempDir;

use super::*;
use crate::store::{Order, Selector, Store, contract::Harness};

/// A store in a folder of its own.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("store")
    }

    async fn embedded(&self) -> Result<Embedded, StoreError> {
        Embedded::open(&self.path(), EmbeddedOptions::default()).await
    }

    /// Why it does not open.
    async fn refusal(&self) -> StoreError {
        let refused = self.embedded().await.err().expect("it opens");
        let names_the_folder = refused.to_string().contains(&*self.path().to_string_lossy());
        assert!(names_the_folder, "{refused}");
        refused
    }
}

#[async_trait]
impl Harness for Folder {
    async fn open(&self) -> Store {
        Arc::new(self.embedded().await.unwrap())
    }

    async fn reopen(&self, store: Store) -> Store {
        drop(store);
        self.open().await
    }
}

mod contract {
    use super::Folder;

    crate::store_contract!(Folder::new());
}

fn event(offset: u64, data: Data) -> EventRow {
    EventRow {
        event: Event {
            namespace: "n".into(),
            id: format!("{offset:06}"),
            source: "s".into(),
            kind: "t".into(),
            subject: Some("sub".into()),
            time: Timestamp { micros: 0, text: "1970-01-01T00:00:00Z".into() },
            time_filled: false,
            data_content_type: None,
            data_schema: None,
            extensions: Default::default(),
            data,
        },
        appended_at: offset as i64,
        origin: Origin { epoch: 1, partition: 0, offset },
    }
}

/// Events of the offsets; each was appended at its offset in microseconds.
fn flush(offsets: std::ops::Range<u64>, data: Data) -> Arc<Flush> {
    Arc::new(Flush {
        topic: "topic".into(),
        epoch: 1,
        partition: 0,
        stored_to: offsets.end,
        events: offsets.map(|offset| event(offset, data.clone())).collect(),
        rollups: Vec::new(),
        marks: Vec::new(),
    })
}

fn all(selector: Selector) -> EventsQuery {
    EventsQuery {
        namespace: "n".into(),
        selector,
        source: None,
        from: i64::MIN,
        to: i64::MAX,
        order: Order::Asc,
        after: None,
        limit: 1000,
    }
}

async fn ids(store: &Embedded, selector: Selector) -> Vec<u64> {
    let page = store.events(&all(selector)).await.unwrap();
    page.rows.iter().map(|row| row.origin.offset).collect()
}
