//! The settings of topics: what new ones get, and what is to be said of those that exist.

use std::collections::HashMap;

use crate::{Retention, TopicSpec};

/// A topic as the cluster shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub partitions: u32,
    /// The smallest number of replicas of its partitions.
    pub replicas: usize,
    /// Partitions that nobody leads just now.
    pub leaderless: usize,
}

/// How many of its replicas must have a record before it is acknowledged.
fn min_in_sync(replication: u16) -> u16 {
    if replication >= 3 { 2 } else { 1 }
}

/// The settings of a new topic.
pub(super) fn of(
    spec: &TopicSpec,
    replication: u16,
    max_bytes: usize,
) -> Vec<(&'static str, String)> {
    let mut settings = vec![
        ("message.timestamp.type", "LogAppendTime".to_owned()),
        ("min.insync.replicas", min_in_sync(replication).to_string()),
        ("max.message.bytes", max_bytes.to_string()),
    ];
    settings.push(("cleanup.policy", policy(&spec.retention).into()));
    if let Retention::Delete { age, bytes } = &spec.retention {
        settings.push(("retention.ms", age.map_or("-1".into(), |a| a.as_millis().to_string())));
        settings.push(("retention.bytes", bytes.map_or("-1".into(), |b| b.to_string())));
    }
    settings
}

/// What is to be said of a topic that exists.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Judged {
    /// Nothing can go on like this.
    pub fault: Option<String>,
    /// It can, and an operator should know.
    pub remarks: Vec<String>,
}

pub(super) fn judge(
    spec: &TopicSpec,
    found: &Found,
    settings: &HashMap<String, String>,
    max_bytes: usize,
) -> Judged {
    let mut judged = Judged { fault: fault(spec, found, settings), remarks: Vec::new() };
    let alter = |name: &str, value: &str| alter(spec, name, value);
    let number = |name: &str| settings.get(name).and_then(|value| value.parse::<i64>().ok());
    let replicas = found.replicas as u16;
    let wanted: HashMap<_, _> = of(spec, replicas, max_bytes).into_iter().collect();

    let min = number("min.insync.replicas");
    if min.is_some_and(|min| min > i64::from(replicas)) {
        judged.remarks.push(format!(
            "wants {} replicas in sync (min.insync.replicas) and has {replicas} copies: before Kafka 4 \
             nothing can be appended like that; run {}",
            min.unwrap_or_default(),
            alter("min.insync.replicas", &min_in_sync(replicas).to_string())
        ));
    }
    if min.is_some_and(|min| min < i64::from(min_in_sync(replicas))) {
        judged.remarks.push(format!(
            "one broker alone may acknowledge an append (min.insync.replicas=1), and what it \
             acknowledged is lost with it; run {}",
            alter("min.insync.replicas", "2")
        ));
    }
    if number("max.message.bytes").is_some_and(|bytes| bytes < max_bytes as i64) {
        judged.remarks.push(format!(
            "refuses records that the configuration allows (max.message.bytes={}); run {}",
            number("max.message.bytes").unwrap_or_default(),
            alter("max.message.bytes", &max_bytes.to_string())
        ));
    }
    for name in ["retention.ms", "retention.bytes"] {
        if let (Some(is), Some(wanted)) = (settings.get(name), wanted.get(name))
            && is != wanted
        {
            judged.remarks.push(format!(
                "has {name}={is}, the configuration says {wanted}; the topic's setting holds, to change \
                 it run {}",
                alter(name, wanted)
            ));
        }
    }
    judged
}

/// What would lose or reorder events.
fn fault(spec: &TopicSpec, found: &Found, settings: &HashMap<String, String>) -> Option<String> {
    if found.partitions != spec.partitions {
        return Some(format!(
            "has {} partitions, the configuration says {}; set it back, or name a new topic",
            found.partitions, spec.partitions
        ));
    }
    let replicas = found.replicas;
    if let Some(copies) = spec.replication.filter(|copies| usize::from(*copies) > replicas) {
        return Some(format!(
            "has {replicas} copies, the configuration says {copies}; add replicas with \
             kafka-reassign-partitions.sh, or set topics.replication to {replicas}"
        ));
    }
    if settings.get("message.timestamp.type").is_some_and(|kind| kind != "LogAppendTime") {
        return Some(format!(
            "takes its times from producers (message.timestamp.type=CreateTime), so an event with an \
             old date would be deleted at once; run {}",
            alter(spec, "message.timestamp.type", "LogAppendTime")
        ));
    }
    let policy = policy(&spec.retention);
    let other = settings.get("cleanup.policy").filter(|other| *other != policy)?;
    Some(format!(
        "has cleanup.policy={other}, which would take records that must stay; run {}",
        alter(spec, "cleanup.policy", policy)
    ))
}

fn policy(retention: &Retention) -> &'static str {
    match retention {
        Retention::Compact => "compact",
        Retention::Delete { .. } => "delete",
    }
}

/// The command that changes a setting.
fn alter(spec: &TopicSpec, name: &str, value: &str) -> String {
    format!(
        "kafka-configs.sh --alter --entity-type topics --entity-name {} --add-config {name}={value}",
        spec.name
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn spec(replication: Option<u16>, retention: Retention) -> TopicSpec {
        TopicSpec { name: "t".into(), partitions: 4, replication, retention }
    }

    fn week() -> Retention {
        Retention::Delete { age: Some(Duration::from_secs(7 * 86_400)), bytes: None }
    }

    /// A topic as `make` makes it, with some settings changed.
    fn judged(spec: &TopicSpec, replicas: usize, changed: &[(&str, &str)]) -> Judged {
        let found = Found { partitions: 4, replicas, leaderless: 0 };
        let mut settings: HashMap<_, _> = of(spec, replicas as u16, 9_000_000)
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        settings.extend(changed.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
        judge(spec, &found, &settings, 9_000_000)
    }

    #[test]
    fn a_topic_as_it_is_made_draws_no_remark() {
        for (replicas, retention) in [(1, week()), (3, Retention::Compact), (2, week())] {
            assert_eq!(judged(&spec(None, retention), replicas, &[]), Judged::default());
        }
    }

    #[test]
    fn three_copies_acknowledge_with_two() {
        let min = |copies| of(&spec(None, week()), copies, 1)[1].1.clone();
        assert_eq!([min(1), min(2), min(3), min(5)], ["1", "1", "2", "2"]);
    }

    #[test]
    fn what_would_lose_or_reorder_events_is_a_fault_with_what_to_do() {
        let week = spec(Some(3), week());
        for (replicas, changed, told) in [
            (1, ("", ""), "has 1 copies, the configuration says 3"),
            (3, ("message.timestamp.type", "CreateTime"), "--add-config message.timestamp.type"),
            (3, ("cleanup.policy", "compact"), "--add-config cleanup.policy=delete"),
            (3, ("cleanup.policy", "compact,delete"), "--add-config cleanup.policy=delete"),
        ] {
            let fault = judged(&week, replicas, &[changed]).fault.unwrap();
            assert!(fault.contains(told), "{fault}");
        }
        let compacted = spec(None, Retention::Compact);
        let fault = judged(&compacted, 3, &[("cleanup.policy", "delete")]).fault.unwrap();
        assert!(fault.contains("--add-config cleanup.policy=compact"), "{fault}");
    }

    #[test]
    fn what_an_operator_may_have_chosen_is_a_remark() {
        for changed in [
            ("min.insync.replicas", "1"),
            ("min.insync.replicas", "4"),
            ("max.message.bytes", "1000"),
            ("retention.ms", "1000"),
            ("retention.bytes", "1000"),
        ] {
            let judged = judged(&spec(None, week()), 3, &[changed]);
            assert_eq!(judged.fault, None);
            assert!(judged.remarks[0].contains(changed.0), "{judged:?}");
        }
    }
}
