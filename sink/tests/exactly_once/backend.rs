//! The store of these tests: the embedded one, in a folder.

use std::path::Path;

use service::config::{RetentionConfig, StoreConfig};
use sink::store::{self, Metrics, Store};

pub async fn open(dir: &Path) -> Store {
    let url = format!("file:{}", dir.join("store").display());
    let config = StoreConfig { url, ..StoreConfig::default() };
    store::open(&config, &RetentionConfig::default(), Metrics::default()).await.unwrap()
}
