//! What clients tell by callbacks: log lines, errors, statistics; and whether the cluster can be used.
//!
//! Callbacks run on the thread that polls a client: nothing here may block or panic.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use prometheus_client::metrics::gauge::Gauge;
use rdkafka::{
    ClientContext, config::RDKafkaLogLevel, consumer::ConsumerContext, error::KafkaError,
    types::RDKafkaErrorCode as Code,
};
use tokio::sync::Notify;

use super::{
    errors,
    metrics::{ClientLabel, Counted, Statistics},
};
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
    /// What a broker last said to a connection that it did not take.
    turned_away: Mutex<Option<String>>,
    /// Topics that a producer did not know, and that nobody has looked up since.
    doubted: Mutex<HashSet<String>>,
    /// Wakes who looks whether a broker answers.
    pub suspicion: Notify,
}

impl Health {
    pub fn new(brokers: String) -> Self {
        let (down, suspicion) = (AtomicBool::new(false), Notify::new());
        let (fatal, turned_away, doubted) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { brokers, down, fatal, turned_away, doubted, suspicion }
    }

    /// For readiness.
    pub fn status(&self) -> Result<(), LogError> {
        if let Some(why) = &*locked(&self.fatal) {
            return Err(LogError::Fatal(why.clone()));
        }
        if self.down.load(Ordering::Relaxed) {
            return Err(LogError::Retry(self.silence()));
        }
        Ok(())
    }

    /// That no broker answers, and why, if one said so.
    pub fn silence(&self) -> String {
        let why = locked(&self.turned_away);
        let why = why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        format!("no broker of {} answers{why}", self.brokers)
    }

    /// Only opening the log again can help.
    pub fn fail(&self, why: String) {
        tracing::error!(why, "the log has failed");
        locked(&self.fatal).get_or_insert(why);
    }

    /// A producer did not know a topic.
    pub fn doubt(&self, topic: &str) {
        let mut doubted = locked(&self.doubted);
        if !doubted.contains(topic) {
            doubted.insert(topic.to_owned());
        }
    }

    /// Whether a producer did not know a topic since this was last asked.
    pub fn take_doubt(&self, topic: &str) -> bool {
        locked(&self.doubted).remove(topic)
    }

    /// What a look at the brokers has shown; whether that is news.
    pub fn set_down(&self, down: bool) -> bool {
        if !down {
            locked(&self.turned_away).take();
        }
        self.down.swap(down, Ordering::Relaxed) != down
    }
}

/// A context that only observes. Contexts with more to do hold one and pass their calls on.
pub(crate) struct Observer {
    role: Role,
    group: Option<Arc<str>>,
    health: Arc<Health>,
    metrics: Metrics,
    counted: Mutex<Counted>,
}

impl Observer {
    /// `group` is the one whose lag the client's statistics tell.
    pub fn new(role: Role, group: Option<Arc<str>>, health: Arc<Health>, metrics: Metrics) -> Self {
        Self { role, group, health, metrics, counted: Mutex::default() }
    }

    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Where bytes count that are on their way.
    pub fn queued_bytes(&self) -> Gauge {
        self.metrics.queued_bytes.clone()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.metrics.kafka.forget(self.role.name(), &mut locked(&self.counted));
    }
}

impl ClientContext for Observer {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        let client = self.role.name();
        match level {
            // A property of producers is passed to consumers too, which they remark on.
            _ if facility == "CONFWARN" => {
                tracing::debug!(target: "librdkafka", client, facility, "{line}");
            }
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => {
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

    fn stats_raw(&self, json: &[u8]) {
        let Ok(statistics) = serde_json::from_slice::<Statistics<'_>>(json) else {
            return; // another version of librdkafka; metrics stand still
        };
        let group = self.group.as_deref();
        let mut counted = locked(&self.counted);
        self.metrics.kafka.take(self.role.name(), group, &statistics, &mut counted);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let client = self.role.name();
        self.metrics.kafka.errors.get_or_create(&ClientLabel { client }).inc();
        match error.rdkafka_error_code() {
            // Told by who looks whether it is so.
            Some(Code::AllBrokersDown) => self.health.suspicion.notify_one(),
            Some(Code::PartitionEOF) => {}
            code => {
                if matches!(code, Some(Code::Authentication | Code::SSL | Code::Resolve)) {
                    *locked(&self.health.turned_away) = Some(reason.to_owned());
                }
                let error = errors::tell(&error);
                tracing::warn!(target: "librdkafka", client, error, "{reason}");
            }
        }
    }
}

impl ConsumerContext for Observer {}

/// A lock whose data is whole even when a holder panicked.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_broker_said_to_who_it_turned_away_is_told_until_one_answers() {
        let health = Arc::new(Health::new("a:1".into()));
        let observer = Observer::new(Role::Reader, None, health.clone(), Metrics::default());
        health.set_down(true);
        observer.error(KafkaError::Global(Code::Authentication), "Invalid username");
        let told = health.status().unwrap_err().to_string();
        assert!(told.contains("no broker of a:1 answers (Invalid username)"), "{told}");
        health.set_down(false);
        health.set_down(true);
        assert!(health.silence().ends_with("no broker of a:1 answers"));
    }
}
