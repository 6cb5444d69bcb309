//! The log on a real Kafka keeps every rule of the contract.
//!
//! `PENSTOCK_TEST_KAFKA=host:port` names a broker; without it these tests are skipped, except in CI.
#![cfg(feature = "kafka")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{sync::Mutex, time::Duration};

use async_trait::async_trait;
use eventlog::{
    Log, Options, Position,
    contract::Harness,
    kafka::{self, KafkaLog},
};

/// A log on the shared cluster.
struct Kafka {
    brokers: String,
    open: Mutex<Option<KafkaLog>>,
}

fn kafka() -> Option<Kafka> {
    match std::env::var("PENSTOCK_TEST_KAFKA") {
        Ok(brokers) => Some(Kafka { brokers, open: Mutex::default() }),
        Err(_) if std::env::var_os("CI").is_some() => panic!("PENSTOCK_TEST_KAFKA is not set"),
        Err(_) => {
            eprintln!("skipped: PENSTOCK_TEST_KAFKA names no broker");
            None
        }
    }
}

#[async_trait]
impl Harness for Kafka {
    async fn log(&self) -> Log {
        let options = Options { revoke_deadline: self.revoke_deadline(), ..Options::default() };
        let log = kafka::open(&format!("kafka://{}", self.brokers), options).await.unwrap();
        *self.open.lock().unwrap() = Some(log.clone());
        Log::new(log)
    }

    async fn reopen(&self, log: Log) -> Log {
        drop(log);
        drop(self.open.lock().unwrap().take());
        self.log().await
    }

    async fn take_before(&self, _: &Log, topic: &str, partition: u32, before: Position) {
        let log = self.open.lock().unwrap().clone().unwrap();
        log.take_before(topic, partition, before).await.unwrap();
    }

    fn revoke_deadline(&self) -> Duration {
        Duration::from_millis(1500)
    }
}

eventlog::contract_tests!(kafka);
