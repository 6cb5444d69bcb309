//! What is counted of authentication. No label holds anything that a caller sent.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// Counts of one listener's gate; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Requests that were answered 401, by the problem's code.
    pub(super) refused: Family<Code, Counter>,
    /// Readings of a changed configuration: `taken` or `refused`.
    pub(super) reloads: Family<Outcome, Counter>,
    /// 1 while the configuration's file is not what is in force, because it has mistakes.
    pub(super) stale: Gauge,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Code {
    pub code: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Outcome {
    pub outcome: &'static str,
}

impl Metrics {
    /// Adds them to a registry.
    pub fn register(registry: &mut Registry) -> Self {
        let this = Self::default();
        let registry = registry.sub_registry_with_prefix("penstock_auth");
        registry.register(
            "refused",
            "Requests without a key or token that is known, by the code of their problem",
            this.refused.clone(),
        );
        registry.register(
            "reloads",
            "Changes of the configured keys, taken or refused",
            this.reloads.clone(),
        );
        registry.register(
            "keys_stale",
            "1 while the keys in force are not those of the file, because that has mistakes",
            this.stale.clone(),
        );
        this
    }
}
