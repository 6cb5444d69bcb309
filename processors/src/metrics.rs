//! What processors count. One struct, passed down; nothing global.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::Decision;

/// Reasons of one step that get a label of their own.
const MOST_REASONS: usize = 64;
/// A longer reason is a sentence, which may have an event's values in it.
const LONGEST_REASON: usize = 64;
const OTHER: &str = "other";

/// The processor a count belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Processor {
    processor: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcomes {
    processor: Arc<str>,
    outcome: Outcome,
}

/// What became of a record that was read: each has exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Outcome {
    /// It went on, as one event or several.
    #[expect(non_camel_case_types, reason = "these are label values")]
    emitted,
    /// A step dropped it.
    #[expect(non_camel_case_types, reason = "these are label values")]
    dropped,
    /// It is in the dead letters.
    #[expect(non_camel_case_types, reason = "these are label values")]
    dead_lettered,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Verdicts {
    processor: Arc<str>,
    step: String,
    verdict: &'static str,
    reason: String,
}

/// Reasons that have labels, by processor and step.
type Reasons = HashMap<(Arc<str>, String), HashSet<String>>;

/// Counts of all processors of a process; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Records read and committed, by what became of them.
    records: Family<Outcomes, Counter>,
    /// Events written to the processor's topic.
    events: Family<Processor, Counter>,
    /// Verdicts of steps, by reason; `decode` and `encode` stand for the runner's own.
    verdicts: Family<Verdicts, Counter>,
    /// Transactions committed.
    transactions: Family<Processor, Counter>,
    /// Transactions aborted; their records are read again.
    aborts: Family<Processor, Counter>,
    /// Times the log could not answer and was asked again.
    retries: Family<Processor, Counter>,
    /// Gaps: positions that retention took before they were read.
    gaps: Family<Processor, Counter>,
    /// Seconds that the records of a transaction took from being read to being committed.
    batch_seconds: Family<Processor, Histogram, fn() -> Histogram>,
    /// Seconds that the last committed record had been in the log when it was committed.
    age_seconds: Family<Processor, Gauge<f64, AtomicU64>>,
    reasons: Arc<Mutex<Reasons>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            records: Family::default(),
            events: Family::default(),
            verdicts: Family::default(),
            transactions: Family::default(),
            aborts: Family::default(),
            retries: Family::default(),
            gaps: Family::default(),
            batch_seconds: Family::new_with_constructor(|| {
                Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0])
            }),
            age_seconds: Family::default(),
            reasons: Arc::default(),
        }
    }
}

impl Metrics {
    /// Makes the counts and registers them under `penstock_processor_...`.
    pub fn register(registry: &mut Registry) -> Self {
        let m = Self::default();
        let r = registry.sub_registry_with_prefix("penstock_processor");
        r.register("records", "Records read and committed, by outcome", m.records.clone());
        r.register("events", "Events written to the processor's topic", m.events.clone());
        r.register("verdicts", "Verdicts of steps, by reason", m.verdicts.clone());
        r.register("transactions", "Transactions committed", m.transactions.clone());
        r.register("aborts", "Transactions aborted, to be read again", m.aborts.clone());
        r.register("retries", "Times the log was asked again", m.retries.clone());
        r.register("gaps", "Gaps met: positions gone before they were read", m.gaps.clone());
        r.register_with_unit(
            "batch",
            "Time from reading a transaction's records to its commit",
            Unit::Seconds,
            m.batch_seconds.clone(),
        );
        r.register_with_unit(
            "age",
            "Time that the last committed record was in the log before its commit",
            Unit::Seconds,
            m.age_seconds.clone(),
        );
        m
    }

    /// The counts of one processor.
    pub(crate) fn of(&self, processor: &str) -> ProcessorMetrics {
        ProcessorMetrics { all: self.clone(), processor: processor.into() }
    }

    /// The label of a reason: itself while the step has few, or `other`.
    fn reason(&self, processor: &Arc<str>, step: &str, reason: &str) -> String {
        if reason.len() > LONGEST_REASON {
            return OTHER.to_owned();
        }
        let mut all = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.entry((processor.clone(), step.to_owned())).or_default();
        if !known.contains(reason) {
            if known.len() >= MOST_REASONS {
                return OTHER.to_owned();
            }
            known.insert(reason.to_owned());
        }
        reason.to_owned()
    }
}

/// The counts of one processor.
#[derive(Clone, Debug)]
pub(crate) struct ProcessorMetrics {
    all: Metrics,
    processor: Arc<str>,
}

impl ProcessorMetrics {
    fn label(&self) -> Processor {
        Processor { processor: self.processor.clone() }
    }

    pub(crate) fn records(&self, outcome: Outcome, count: u64) {
        let labels = Outcomes { processor: self.processor.clone(), outcome };
        self.all.records.get_or_create(&labels).inc_by(count);
    }

    pub(crate) fn events(&self, count: u64) {
        self.all.events.get_or_create(&self.label()).inc_by(count);
    }

    pub(crate) fn verdicts(&self, step: &str, decision: Decision, reason: &str, count: u64) {
        let (verdict, reason) = match decision {
            Decision::Emit => ("emit", String::new()),
            Decision::Drop => ("drop", self.all.reason(&self.processor, step, reason)),
            Decision::Reject => ("reject", self.all.reason(&self.processor, step, reason)),
        };
        let processor = self.processor.clone();
        let labels = Verdicts { processor, step: step.to_owned(), verdict, reason };
        self.all.verdicts.get_or_create(&labels).inc_by(count);
    }

    pub(crate) fn committed(&self, batch_seconds: f64, age_seconds: Option<f64>) {
        self.all.transactions.get_or_create(&self.label()).inc();
        self.all.batch_seconds.get_or_create(&self.label()).observe(batch_seconds);
        if let Some(age) = age_seconds {
            self.all.age_seconds.get_or_create(&self.label()).set(age);
        }
    }

    pub(crate) fn aborted(&self) {
        self.all.aborts.get_or_create(&self.label()).inc();
    }

    pub(crate) fn retried(&self) {
        self.all.retries.get_or_create(&self.label()).inc();
    }

    pub(crate) fn gap(&self) {
        self.all.gaps.get_or_create(&self.label()).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(metrics: &Metrics) -> Vec<String> {
        let mut registry = Registry::default();
        registry.register("verdicts", "", metrics.verdicts.clone());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text.lines().filter(|line| line.contains("reason=")).map(str::to_owned).collect()
    }

    #[test]
    fn given_more_reasons_than_a_step_may_have_then_the_rest_is_other() {
        let metrics = Metrics::default();
        let processor = metrics.of("clean");
        for number in 0..100 {
            processor.verdicts("remap", Decision::Drop, &format!("r{number}"), 1);
        }
        let lines = reasons(&metrics);
        assert_eq!(lines.len(), MOST_REASONS + 1);
        assert!(lines.iter().any(|l| l.contains("reason=\"other\"") && l.ends_with(" 36")));
    }

    #[test]
    fn given_a_known_reason_when_the_step_has_too_many_then_it_keeps_its_label() {
        let metrics = Metrics::default();
        let processor = metrics.of("clean");
        for number in (0..100).chain([0]) {
            processor.verdicts("remap", Decision::Drop, &format!("r{number}"), 1);
        }
        assert!(reasons(&metrics).iter().any(|l| l.contains("\"r0\"") && l.ends_with(" 2")));
    }

    #[test]
    fn given_a_reason_that_is_a_sentence_then_it_is_no_label() {
        let metrics = Metrics::default();
        metrics.of("clean").verdicts("remap", Decision::Drop, &"x".repeat(65), 1);
        assert!(reasons(&metrics)[0].contains("reason=\"other\""));
    }

    #[test]
    fn one_step_with_many_reasons_leaves_room_for_another() {
        let metrics = Metrics::default();
        let processor = metrics.of("clean");
        for number in 0..100 {
            processor.verdicts("first", Decision::Drop, &format!("r{number}"), 1);
        }
        processor.verdicts("second", Decision::Drop, "mine", 1);
        assert!(reasons(&metrics).iter().any(|l| l.contains("\"mine\"")));
    }
}
