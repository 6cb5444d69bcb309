//! What librdkafka's statistics become.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, Mutex, atomic::AtomicU64},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use serde::Deserialize;

use super::observe::locked;

/// What a client is for: `producer`, `transactions`, `member`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ClientLabel {
    /// Its kind.
    pub client: &'static str,
}

/// A broker as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BrokerLabel {
    /// The kind of client.
    pub client: &'static str,
    /// The broker's id.
    pub broker: i32,
}

/// A partition that a member of a group reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LagLabel {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
}

/// Counts that only Kafka has; clones share them. Labels are bounded by the brokers and by the
/// partitions that this process reads.
#[derive(Clone, Debug, Default)]
pub struct KafkaMetrics {
    /// Brokers that a client is connected to; of several of a kind, the one that last told.
    pub brokers_up: Family<ClientLabel, Gauge>,
    /// Seconds from a request to its answer, mean of the last two seconds.
    pub round_trip: Family<BrokerLabel, Gauge<f64, AtomicU64>>,
    /// Requests sent again.
    pub retries: Family<ClientLabel, Counter>,
    /// Requests that were not answered in time.
    pub timeouts: Family<ClientLabel, Counter>,
    /// Errors that a client told of.
    pub errors: Family<ClientLabel, Counter>,
    /// Positions between the end of a partition and what its member has taken.
    pub lag: Family<LagLabel, Gauge>,
    /// How many clients of each kind have told of their brokers and are still there.
    telling: Arc<Mutex<HashMap<&'static str, usize>>>,
}

impl KafkaMetrics {
    /// Registers them under `penstock_log_kafka_...`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let r = registry.sub_registry_with_prefix("kafka");
        r.register("brokers_up", "Brokers a client is connected to", self.brokers_up.clone());
        r.register_with_unit(
            "round_trip",
            "Mean time from a request to a broker to its answer",
            Unit::Seconds,
            self.round_trip.clone(),
        );
        r.register("retries", "Requests to brokers sent again", self.retries.clone());
        r.register("timeouts", "Requests to brokers not answered in time", self.timeouts.clone());
        r.register("errors", "Errors that clients told of", self.errors.clone());
        r.register("lag", "Positions not yet taken by this member of a group", self.lag.clone());
    }
}

/// The few of librdkafka's statistics (STATISTICS.md) that are used.
#[derive(Deserialize)]
pub(super) struct Statistics<'a> {
    #[serde(default, borrow)]
    pub brokers: HashMap<Cow<'a, str>, Broker<'a>>,
    #[serde(default, borrow)]
    pub topics: HashMap<Cow<'a, str>, Topic>,
}

#[derive(Deserialize)]
pub(super) struct Broker<'a> {
    /// Below zero for bootstrap and coordinator connections.
    pub nodeid: i32,
    #[serde(borrow)]
    pub state: Cow<'a, str>,
    #[serde(default)]
    pub txretries: u64,
    #[serde(default)]
    pub req_timeouts: u64,
    pub rtt: Option<Window>,
}

/// Microseconds.
#[derive(Deserialize)]
pub(super) struct Window {
    pub avg: i64,
    pub cnt: i64,
}

#[derive(Deserialize)]
pub(super) struct Topic {
    #[serde(default)]
    pub partitions: HashMap<i32, Partition>,
}

#[derive(Deserialize)]
pub(super) struct Partition {
    /// The end of what was committed; negative where nothing is read.
    #[serde(default)]
    pub ls_offset: i64,
    /// Behind the last record that was taken; negative before the first.
    #[serde(default)]
    pub app_offset: i64,
    /// What is fetched next; 0 before it is known.
    #[serde(default)]
    pub next_offset: i64,
    /// `active` where the partition is read; the offsets of others are old.
    #[serde(default)]
    pub fetch_state: String,
}

impl Partition {
    /// How far its reader is behind. librdkafka's own `consumer_lag` counts from what this client committed,
    /// and does not know of what a transaction commits.
    fn lag(&self) -> Option<i64> {
        let taken = if self.app_offset >= 0 { self.app_offset } else { self.next_offset };
        let known = self.ls_offset >= 0 && (self.app_offset >= 0 || taken > 0);
        (known && self.fetch_state == "active").then(|| (self.ls_offset - taken).max(0))
    }
}

/// How far the sums of one client had been counted.
#[derive(Default)]
pub(super) struct Counted {
    /// Whether it is among those that tell of their brokers.
    telling: bool,
    retries: u64,
    timeouts: u64,
    /// Partitions whose lag is shown.
    shown: Vec<LagLabel>,
}

impl KafkaMetrics {
    /// Takes over one report of one client.
    pub(super) fn take(
        &self,
        client: &'static str,
        group: Option<&str>,
        statistics: &Statistics<'_>,
        counted: &mut Counted,
    ) {
        let label = ClientLabel { client };
        let nodes = || statistics.brokers.values().filter(|broker| broker.nodeid >= 0);
        let up = nodes().filter(|broker| broker.state == "UP").count();
        if !std::mem::replace(&mut counted.telling, true) {
            *locked(&self.telling).entry(client).or_default() += 1;
        }
        self.brokers_up.get_or_create(&label).set(up as i64);
        for broker in nodes() {
            if let Some(rtt) = broker.rtt.as_ref().filter(|rtt| rtt.cnt > 0) {
                let label = BrokerLabel { client, broker: broker.nodeid };
                self.round_trip.get_or_create(&label).set(rtt.avg as f64 / 1e6);
            }
        }
        let count = |family: &Family<ClientLabel, Counter>, before: &mut u64, now: u64| {
            family.get_or_create(&label).inc_by(now.saturating_sub(*before));
            *before = now;
        };
        let all = || statistics.brokers.values();
        count(&self.retries, &mut counted.retries, all().map(|b| b.txretries).sum());
        count(&self.timeouts, &mut counted.timeouts, all().map(|b| b.req_timeouts).sum());
        if let Some(group) = group {
            self.take_lag(group, statistics, &mut counted.shown);
        }
    }

    /// Shows the lag of what is read, and no longer that of what moved away.
    fn take_lag(&self, group: &str, statistics: &Statistics<'_>, shown: &mut Vec<LagLabel>) {
        let mut now = Vec::new();
        for (topic, of) in &statistics.topics {
            for (&partition, of) in &of.partitions {
                if partition >= 0
                    && let Some(lag) = of.lag()
                {
                    let (group, topic) = (group.to_owned(), topic.to_string());
                    let label = LagLabel { group, topic, partition };
                    self.lag.get_or_create(&label).set(lag);
                    now.push(label);
                }
            }
        }
        for gone in shown.iter().filter(|label| !now.contains(label)) {
            self.lag.remove(gone);
        }
        *shown = now;
    }

    /// A client went away: what only it could tell goes with it.
    pub(super) fn forget(&self, client: &'static str, counted: &mut Counted) {
        if std::mem::take(&mut counted.telling) {
            let mut telling = locked(&self.telling);
            let left = telling.entry(client).or_default();
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.brokers_up.remove(&ClientLabel { client });
            }
        }
        for label in counted.shown.drain(..) {
            self.lag.remove(&label);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics(lag: &str, retries: u64) -> String {
        format!(
            r#"{{"name":"x","brokers":{{
                "a:1/1":{{"nodeid":1,"state":"UP","txretries":{retries},"req_timeouts":1,"rtt":{{"avg":2500,"cnt":3}}}},
                "b:1/2":{{"nodeid":2,"state":"DOWN"}},
                "a:1/bootstrap":{{"nodeid":-1,"state":"UP"}}}},
              "topics":{{"t":{{"topic":"t","partitions":{{{lag},"-1":{{"partition":-1}}}}}}}}}}"#
        )
    }

    #[test]
    fn statistics_become_counts_of_what_changed() {
        let (metrics, mut counted) = (KafkaMetrics::default(), Counted::default());
        for retries in [2, 5] {
            let text = statistics("", retries).replace("{,", "{");
            let parsed: Statistics<'_> = serde_json::from_str(&text).unwrap();
            metrics.take("producer", None, &parsed, &mut counted);
        }
        let label = ClientLabel { client: "producer" };
        assert_eq!(metrics.retries.get_or_create(&label).get(), 5);
        assert_eq!(metrics.timeouts.get_or_create(&label).get(), 1);
        assert_eq!(metrics.brokers_up.get_or_create(&label).get(), 1);
        let broker = BrokerLabel { client: "producer", broker: 1 };
        assert!((metrics.round_trip.get_or_create(&broker).get() - 0.0025).abs() < 1e-9);
    }

    #[test]
    fn brokers_are_shown_while_any_client_of_a_kind_tells_of_them() {
        let (metrics, label) = (KafkaMetrics::default(), ClientLabel { client: "reader" });
        let text = statistics("", 0).replace("{,", "{");
        let tell = |counted: &mut Counted| {
            metrics.take("reader", None, &serde_json::from_str(&text).unwrap(), counted);
        };
        let [mut one, mut other, mut silent] = [(); 3].map(|()| Counted::default());
        metrics.forget("reader", &mut silent);
        assert!(metrics.brokers_up.get(&label).is_none(), "it never told of any");
        tell(&mut one);
        tell(&mut other);
        metrics.forget("reader", &mut silent);
        metrics.forget("reader", &mut one);
        assert_eq!(metrics.brokers_up.get(&label).unwrap().get(), 1, "one still tells");
        metrics.forget("reader", &mut other);
        assert!(metrics.brokers_up.get(&label).is_none(), "none is left");
    }

    #[test]
    fn the_lag_of_a_partition_that_moved_away_is_no_longer_shown() {
        let (metrics, mut counted) = (KafkaMetrics::default(), Counted::default());
        let mut take = |lag: &str| {
            let text = statistics(lag, 0);
            metrics.take("member", Some("g"), &serde_json::from_str(&text).unwrap(), &mut counted);
        };
        let read = r#"{"fetch_state":"active","ls_offset":9,"app_offset":5,"next_offset":7}"#;
        let unread = r#"{"fetch_state":"active","ls_offset":9,"app_offset":-1001,"next_offset":7}"#;
        let away = r#"{"fetch_state":"stopped","ls_offset":9,"app_offset":-1001,"next_offset":7}"#;
        take(&format!(r#""0":{read},"1":{read}"#));
        take(&format!(r#""0":{read},"1":{away},"2":{unread}"#));
        let label = |partition| LagLabel { group: "g".into(), topic: "t".into(), partition };
        assert_eq!(metrics.lag.get(&label(0)).unwrap().get(), 4);
        assert_eq!(metrics.lag.get(&label(2)).unwrap().get(), 2);
        assert!(metrics.lag.get(&label(1)).is_none());
    }
}
