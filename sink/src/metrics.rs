//! What the sink counts. Labels are bounded: outcomes by name, partitions by number.

use std::{fmt, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// The sink's metrics; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Records by what became of them; each is counted once it is durable.
    pub outcomes: Family<OutcomeLabels, Counter>,
    /// Identities that the locator was asked for.
    pub look_ups: Counter,
    /// Records in the deduplication window of a partition.
    pub window_records: Family<PartitionLabels, Gauge>,
    /// Seconds from the start of a flush until it is durable, retries included.
    pub flush_seconds: Histogram,
    /// Event rows in a flush.
    pub flush_rows: Histogram,
    /// Bytes of records that were read and are not in the store yet.
    pub pending_bytes: Family<PartitionLabels, Gauge>,
    /// Partitions that are not read until their tasks have room for what was read.
    pub paused: Gauge,
    /// Rollup rows written.
    pub rollup_rows: Counter,
    /// Calls of the store or the log that were made again.
    pub retries: Counter,
    /// Seconds since the append of the last record of a flush: of one under way by now, else at its end.
    pub visible_seconds: Family<PartitionLabels, Gauge<f64, std::sync::atomic::AtomicU64>>,
    /// Stretches of the log that retention took before they were read.
    pub gaps: Counter,
    /// The epoch of the topic.
    pub epoch: Gauge,
    /// Records folded again for a rollup that had a hole.
    pub folded_again: Counter,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A new event.
    Stored,
    /// Another record of an event that is there.
    Duplicate,
    /// The very record that is there already, written again.
    Replayed,
    /// Poison: in the dead letters.
    DeadLettered,
}

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> fmt::Result {
        let name = match self {
            Self::Stored => "stored",
            Self::Duplicate => "duplicate",
            Self::Replayed => "replayed",
            Self::DeadLettered => "dead_lettered",
        };
        name.encode(encoder)
    }
}

/// Label of [`Metrics::outcomes`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabels {
    /// The outcome.
    pub outcome: Outcome,
}

/// Label of what is kept for each partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PartitionLabels {
    /// The partition's number.
    pub partition: u32,
}

impl Metrics {
    /// Makes the metrics and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let seconds = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
        let rows = [1.0, 10.0, 50.0, 100.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0];
        let metrics = Self {
            outcomes: Family::default(),
            look_ups: Counter::default(),
            window_records: Family::default(),
            flush_seconds: Histogram::new(seconds),
            flush_rows: Histogram::new(rows),
            pending_bytes: Family::default(),
            paused: Gauge::default(),
            rollup_rows: Counter::default(),
            retries: Counter::default(),
            visible_seconds: Family::default(),
            gaps: Counter::default(),
            epoch: Gauge::default(),
            folded_again: Counter::default(),
        };
        let m = &metrics;
        let r = registry;
        r.register("penstock_sink_records", "Records by outcome", m.outcomes.clone());
        r.register("penstock_sink_look_ups", "Locators read", m.look_ups.clone());
        r.register(
            "penstock_sink_window_records",
            "Records in the deduplication window",
            m.window_records.clone(),
        );
        r.register_with_unit(
            "penstock_sink_flush",
            "Time until a flush is durable",
            Unit::Seconds,
            m.flush_seconds.clone(),
        );
        r.register("penstock_sink_flush_rows", "Event rows in a flush", m.flush_rows.clone());
        r.register_with_unit(
            "penstock_sink_pending",
            "Bytes read and not yet stored",
            Unit::Bytes,
            m.pending_bytes.clone(),
        );
        r.register(
            "penstock_sink_paused_partitions",
            "Partitions whose reading waits until what was read is worked on",
            m.paused.clone(),
        );
        r.register("penstock_sink_rollup_rows", "Rollup rows written", m.rollup_rows.clone());
        r.register("penstock_sink_retries", "Calls made again", m.retries.clone());
        r.register_with_unit(
            "penstock_sink_append_to_visible",
            "Age of the last record stored, or of the last one of a flush that is under way",
            Unit::Seconds,
            m.visible_seconds.clone(),
        );
        r.register("penstock_sink_gaps", "Stretches of the log lost unread", m.gaps.clone());
        r.register("penstock_sink_epoch", "Epoch of the topic", m.epoch.clone());
        r.register(
            "penstock_sink_folded_again",
            "Records folded again for a rollup with a hole",
            m.folded_again.clone(),
        );
        metrics
    }

    /// Counts records of an outcome.
    pub(crate) fn count(&self, outcome: Outcome, records: u64) {
        if records > 0 {
            self.outcomes.get_or_create(&OutcomeLabels { outcome }).inc_by(records);
        }
    }

    /// Notes a flush that became durable.
    pub(crate) fn flushed(&self, took: Duration, rows: usize, rollups: usize) {
        self.flush_seconds.observe(took.as_secs_f64());
        self.flush_rows.observe(rows as f64);
        self.rollup_rows.inc_by(rollups as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_shown_by_name() {
        let mut registry = Registry::default();
        Metrics::register(&mut registry).count(Outcome::DeadLettered, 3);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("encodes");
        let line = r#"penstock_sink_records_total{outcome="dead_lettered"} 3"#;
        assert!(text.contains(line), "{text}");
    }
}
