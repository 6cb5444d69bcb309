//! The cluster of the tests, and the keyspaces they make on it.

use std::{
    sync::OnceLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use scylla::client::{session::Session, session_builder::SessionBuilder};
use service::config::{RetentionConfig, StoreConfig};
use sink::store::{self, Metrics, Store, StoreError, contract::Harness};
use tokio::sync::OnceCell;

/// Every keyspace of a test begins so; then follow the time it was made and a number.
const PREFIX: &str = "penstock_test_";

/// Keyspaces of earlier runs are dropped after so long.
const OLD: Duration = Duration::from_secs(1_800);

/// The nodes, if tests may use some. On CI they must be there.
pub fn nodes() -> Option<String> {
    let nodes = std::env::var("PENSTOCK_TEST_CQL").ok().filter(|nodes| !nodes.is_empty());
    if nodes.is_none() {
        assert!(std::env::var_os("CI").is_none(), "CI needs PENSTOCK_TEST_CQL");
        eprintln!("skipped: PENSTOCK_TEST_CQL names no CQL nodes");
    }
    nodes
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A name that no other test uses.
pub fn fresh_keyspace() -> String {
    let own = uuid::Uuid::new_v4().simple().to_string();
    format!("{PREFIX}{}_{}", now(), &own[..8])
}

pub fn config(nodes: &str, keyspace: &str) -> StoreConfig {
    StoreConfig { url: format!("scylla://{nodes}/{keyspace}"), ..StoreConfig::default() }
}

/// How long the tests' stores keep rows: some use times that are months ago.
pub fn retention() -> RetentionConfig {
    let years = Duration::from_secs(9 * 365 * 86_400);
    RetentionConfig { events: years, rollups: years }
}

pub async fn open(config: &StoreConfig) -> Result<Store, StoreError> {
    store::open(config, &retention(), Metrics::default()).await
}

/// A session of the driver's own, to look behind the store.
pub async fn session(nodes: &str) -> Session {
    SessionBuilder::new().known_nodes(nodes.split(',')).build().await.unwrap()
}

/// One keyspace for all tests of a run, as making one takes seconds.
pub struct Shared {
    pub nodes: String,
    pub keyspace: &'static str,
}

impl Shared {
    pub fn given() -> Option<Self> {
        static KEYSPACE: OnceLock<String> = OnceLock::new();
        let nodes = nodes()?;
        Some(Self { nodes, keyspace: KEYSPACE.get_or_init(fresh_keyspace) })
    }
}

#[async_trait]
impl Harness for Shared {
    async fn open(&self) -> Store {
        static MADE: OnceCell<()> = OnceCell::const_new();
        MADE.get_or_init(|| drop_old(&self.nodes)).await;
        open(&config(&self.nodes, self.keyspace)).await.unwrap()
    }

    async fn reopen(&self, store: Store) -> Store {
        drop(store);
        self.open().await
    }
}

/// Drops what earlier runs left: a test binary has no end at which it could.
async fn drop_old(nodes: &str) {
    let session = session(nodes).await;
    let text = "SELECT keyspace_name FROM system_schema.keyspaces";
    let found = session.query_unpaged(text, ()).await.unwrap().into_rows_result().unwrap();
    for row in found.rows::<(String,)>().unwrap() {
        let (name,) = row.unwrap();
        let made = name.strip_prefix(PREFIX).and_then(|rest| rest.split('_').next());
        let made: Option<u64> = made.and_then(|made| made.parse().ok());
        if made.is_some_and(|made| made + OLD.as_secs() < now()) {
            let text = format!("DROP KEYSPACE IF EXISTS {name}");
            session.query_unpaged(text, ()).await.ok();
        }
    }
}
