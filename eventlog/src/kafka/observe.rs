//! What clients tell by callbacks: log lines, errors, statistics.
//!
//! Callbacks run on the thread that polls a client: nothing here may block or panic.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use rdkafka::{
    ClientContext, config::RDKafkaLogLevel, consumer::ConsumerContext, error::KafkaError,
    types::RDKafkaErrorCode as Code,
};

use super::errors;
use crate::{LogError, Metrics};

/// What a client is for; a label of its metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// Serves `append`.
    Producer,
    /// Produces transactions.
    Transactions,
    /// Member of a group.
    Member,
    /// Reads outside groups.
    Reader,
    /// Topics.
    Admin,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Self::Producer => "producer",
            Self::Transactions => "transactions",
            Self::Member => "member",
            Self::Reader => "reader",
            Self::Admin => "admin",
        }
    }
}

/// Whether the cluster can be used, as far as is known.
pub(crate) struct Health {
    brokers: String,
    down: AtomicBool,
    fatal: Mutex<Option<String>>,
}

impl Health {
    pub fn new(brokers: String) -> Self {
        Self { brokers, down: AtomicBool::new(false), fatal: Mutex::default() }
    }

    /// For readiness.
    pub fn status(&self) -> Result<(), LogError> {
        let fatal = self.fatal.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(why) = &*fatal {
            return Err(LogError::Fatal(why.clone()));
        }
        if self.down.load(Ordering::Relaxed) {
            return Err(LogError::Retry(format!("no broker of {} answers", self.brokers)));
        }
        Ok(())
    }

    /// Only opening the log again can help.
    pub fn fail(&self, why: String) {
        self.fatal.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(why);
    }

    pub fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::Relaxed);
    }
}

/// A context that only observes. Contexts with more to do hold one and pass their calls on.
pub(crate) struct Observer {
    role: Role,
    health: Arc<Health>,
    #[expect(dead_code, reason = "statistics come with the producer")]
    metrics: Metrics,
}

impl Observer {
    pub fn new(role: Role, health: Arc<Health>, metrics: Metrics) -> Self {
        Self { role, health, metrics }
    }
}

impl ClientContext for Observer {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        let client = self.role.name();
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => {
                tracing::warn!(target: "librdkafka", client, facility, "{line}");
            }
            // A property of producers is passed to consumers too, which they remark on.
            _ if facility == "CONFWARN" => {
                tracing::debug!(target: "librdkafka", client, facility, "{line}");
            }
            RDKafkaLogLevel::Warning => {
                tracing::warn!(target: "librdkafka", client, facility, "{line}");
            }
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::info!(target: "librdkafka", client, facility, "{line}");
            }
            RDKafkaLogLevel::Debug => {
                tracing::debug!(target: "librdkafka", client, facility, "{line}");
            }
        }
    }

    fn stats_raw(&self, _statistics: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        let client = self.role.name();
        tracing::warn!(target: "librdkafka", client, error = errors::tell(&error), "{reason}");
        if error.rdkafka_error_code() == Some(Code::AllBrokersDown) && self.role == Role::Producer {
            self.health.set_down(true);
        }
    }
}

impl ConsumerContext for Observer {}
