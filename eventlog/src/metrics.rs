//! What the log counts. One struct, passed in; nothing global.

use std::sync::Arc;

#[cfg(feature = "kafka")]
use crate::kafka::KafkaMetrics;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// The topic a count belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TopicLabel {
    /// Its name.
    pub topic: String,
}

/// Counts of a log; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Records appended and durable, by topic.
    pub appended_records: Family<TopicLabel, Counter>,
    /// Bytes of keys, values and headers appended and durable, by topic.
    pub appended_bytes: Family<TopicLabel, Counter>,
    /// Seconds from taking a group of writes to their being durable.
    pub commit_seconds: Histogram,
    /// Groups of writes that were synced to disk.
    pub syncs: Counter,
    /// Transactions committed.
    pub transactions: Counter,
    /// Writes put off because too many waited or the disk was almost full.
    pub deferred: Counter,
    /// Bytes of writes that wait for the disk.
    pub queued_bytes: Gauge,
    /// Gaps that readers of groups met, by topic.
    pub gaps: Family<TopicLabel, Counter>,
    /// Bytes taken by retention, by topic.
    pub retention_bytes: Family<TopicLabel, Counter>,
    /// Partitions handed to a member of a group.
    pub assignments: Counter,
    /// Leases that ended without an acknowledgement.
    pub lost_leases: Counter,
    /// What only Kafka has.
    #[cfg(feature = "kafka")]
    pub kafka: KafkaMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        const BUCKETS: [f64; 12] =
            [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
        Self {
            appended_records: Family::default(),
            appended_bytes: Family::default(),
            commit_seconds: Histogram::new(BUCKETS),
            syncs: Counter::default(),
            transactions: Counter::default(),
            deferred: Counter::default(),
            queued_bytes: Gauge::default(),
            gaps: Family::default(),
            retention_bytes: Family::default(),
            assignments: Counter::default(),
            lost_leases: Counter::default(),
            #[cfg(feature = "kafka")]
            kafka: KafkaMetrics::default(),
        }
    }
}

impl Metrics {
    /// Makes the counts and registers them under `penstock_log_...`.
    pub fn register(registry: &mut Registry) -> Self {
        let m = Self::default();
        let r = registry.sub_registry_with_prefix("penstock_log");
        r.register("appended_records", "Records appended and durable", m.appended_records.clone());
        r.register("appended_bytes", "Bytes appended and durable", m.appended_bytes.clone());
        r.register_with_unit(
            "commit",
            "Time from taking a group of writes to their being durable",
            Unit::Seconds,
            m.commit_seconds.clone(),
        );
        r.register("syncs", "Groups of writes synced to disk", m.syncs.clone());
        r.register("transactions", "Transactions committed", m.transactions.clone());
        r.register("deferred", "Writes put off: queue or disk full", m.deferred.clone());
        r.register(
            "queued_bytes",
            "Bytes of writes that wait for the disk",
            m.queued_bytes.clone(),
        );
        r.register("gaps", "Gaps met by readers of groups", m.gaps.clone());
        r.register("retention_bytes", "Bytes taken by retention", m.retention_bytes.clone());
        r.register("assignments", "Partitions handed to members", m.assignments.clone());
        r.register("lost_leases", "Leases ended without acknowledgement", m.lost_leases.clone());
        #[cfg(feature = "kafka")]
        m.kafka.register(r);
        m
    }

    /// Counts what a topic took.
    pub(crate) fn appended(&self, topic: &Arc<str>, records: u64, bytes: u64) {
        Self::of(&self.appended_records, topic).inc_by(records);
        Self::of(&self.appended_bytes, topic).inc_by(bytes);
    }

    /// The counter of a topic in one of the families.
    pub(crate) fn of(family: &Family<TopicLabel, Counter>, topic: &Arc<str>) -> Counter {
        family.get_or_create_owned(&TopicLabel { topic: topic.to_string() })
    }
}
