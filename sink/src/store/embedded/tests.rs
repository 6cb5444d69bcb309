//! The contract on the embedded store, and what only this store promises.

use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::store::{Store, contract::Harness};

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
