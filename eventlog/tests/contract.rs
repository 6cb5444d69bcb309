//! The embedded log keeps every rule of the contract.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{sync::Mutex, time::Duration};

use async_trait::async_trait;
use eventlog::{
    Log, Options, Position,
    contract::Harness,
    embedded::{self, EmbeddedLog},
};
use tempfile::TempDir;

/// An embedded log in a directory that goes with the test.
struct Embedded {
    dir: TempDir,
    open: Mutex<Option<EmbeddedLog>>,
}

fn embedded() -> Option<Embedded> {
    Some(Embedded { dir: tempfile::tempdir().unwrap(), open: Mutex::default() })
}

impl Embedded {
    async fn open(&self) -> Log {
        let options = Options { revoke_deadline: self.revoke_deadline(), ..Options::default() };
        let log = embedded::open(self.dir.path().join("log"), options).await.unwrap();
        *self.open.lock().unwrap() = Some(log.clone());
        Log::new(log)
    }
}

#[async_trait]
impl Harness for Embedded {
    async fn log(&self) -> Log {
        self.open().await
    }

    async fn reopen(&self, log: Log) -> Log {
        drop(log);
        drop(self.open.lock().unwrap().take());
        self.open().await
    }

    async fn take_before(&self, _: &Log, topic: &str, partition: u32, before: Position) {
        let log = self.open.lock().unwrap().clone().unwrap();
        log.take_before(topic, partition, before).await.unwrap();
    }

    fn revoke_deadline(&self) -> Duration {
        Duration::from_millis(500)
    }
}

eventlog::contract_tests!(embedded);
