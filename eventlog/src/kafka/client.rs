//! The one place that makes clients: settings of ours, a user's properties over them, and the few
//! that we insist on because the promises of the log stand on them.
//!
//! Values of properties may be secrets: they go to librdkafka and nowhere else, not even into the
//! error that refuses one.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rdkafka::{ClientConfig, config::RDKafkaLogLevel};

use super::observe::{Health, Observer, Role};
use crate::{LogError, Options};

/// How long a call to the cluster (metadata, offsets, admin) may take.
pub(super) const CALL: Duration = Duration::from_secs(10);
/// A transaction that its producer does not end is aborted by the broker after this.
const TRANSACTION_MS: u64 = 6_000;

/// Properties that nobody may set, and why.
const OURS: [(&str, &str); 18] = [
    ("acks", "an answer means that all replicas in sync have the record"),
    ("enable.idempotence", "a retry inside the client must not double a record"),
    ("isolation.level", "readers must not see what was not committed"),
    ("enable.auto.commit", "positions are committed when the work on them is done"),
    ("enable.auto.offset.store", "positions are committed when the work on them is done"),
    ("auto.offset.reset", "a position that is gone is reported, not skipped"),
    ("partitioner", "a key has the same partition for every producer"),
    ("enable.partition.eof", "readers must pass holes at the end"),
    ("bootstrap.servers", "the log's url names the brokers"),
    ("group.id", "groups are named by the services"),
    ("group.instance.id", "it is set as log.instance"),
    ("transactional.id", "it fences former producers and is chosen by the services"),
    ("partition.assignment.strategy", "partitions move by cooperative-sticky"),
    ("group.protocol", "partitions move by cooperative-sticky"),
    ("allow.auto.create.topics", "topics are made with stated partitions and replication"),
    ("delivery.report.only.error", "an append is answered when its records are reported"),
    ("message.max.bytes", "it follows from the largest record"),
    ("queue.buffering.max.kbytes", "it follows from the bytes that may wait"),
];

/// Other names that librdkafka knows a property by.
const ALIASES: [(&str, &str); 10] = [
    ("request.required.acks", "acks"),
    ("metadata.broker.list", "bootstrap.servers"),
    ("auto.commit.enable", "enable.auto.commit"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("message.send.max.retries", "retries"),
    ("sasl.mechanisms", "sasl.mechanism"),
    ("compression.codec", "compression.type"),
    ("message.timeout.ms", "delivery.timeout.ms"),
    ("fetch.message.max.bytes", "max.partition.fetch.bytes"),
];

/// Makes the settings of every client.
pub(crate) struct Clients {
    brokers: String,
    properties: BTreeMap<String, String>,
    /// The log's options; `properties` in it are as the user wrote them.
    pub options: Options,
    /// What clients have told of the cluster.
    pub health: Arc<Health>,
}

impl Clients {
    /// Checks the properties.
    pub fn new(brokers: String, options: Options) -> Result<Self, LogError> {
        let mut properties = BTreeMap::new();
        for (name, value) in &options.properties {
            let known = ALIASES.iter().find(|(alias, _)| alias == name);
            let name = known.map_or(name.as_str(), |(_, name)| name);
            if let Some((_, why)) = OURS.iter().find(|(ours, _)| *ours == name) {
                return Err(LogError::Fatal(format!(
                    "log.properties: {name} cannot be set: {why}. Remove it"
                )));
            }
            properties.insert(name.to_owned(), value.clone());
        }
        check_tls(&properties)?;
        let health = Arc::new(Health::new(brokers.clone()));
        let clients = Self { brokers, properties, options, health };
        clients.check()?;
        Ok(clients)
    }

    /// The brokers, as `host:port,host:port`.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// What a client of a kind tells its callbacks.
    pub fn observer(&self, role: Role) -> Observer {
        Observer::new(role, None, self.health.clone(), self.options.metrics.clone())
    }

    /// The same for a member of a group, whose lag it shows.
    pub fn member_observer(&self, group: &str) -> Observer {
        let (health, metrics) = (self.health.clone(), self.options.metrics.clone());
        Observer::new(Role::Member, Some(group.into()), health, metrics)
    }

    /// The producer that serves `append`.
    pub fn producer(&self) -> ClientConfig {
        self.config(|set| {
            self.produces(set);
            // Bursts gather by themselves while one is out (see `lanes`); this is for the first of a
            // request's records to wait for the others. Without any, batches are sent in pieces.
            set("linger.ms", "0.2".into());
            set("delivery.timeout.ms", self.delivery_timeout().as_millis().to_string());
        })
    }

    /// A producer of transactions. What is sent in one fails with it, so deliveries have the time a
    /// transaction has, and a user who gives more to all clients does not give it to these.
    pub fn transactional_producer(&self, id: &str) -> ClientConfig {
        let mut config = self.config(|set| {
            self.produces(set);
            set("transactional.id", id.into());
            set("transaction.timeout.ms", TRANSACTION_MS.to_string());
            set("delivery.timeout.ms", TRANSACTION_MS.to_string());
            set("socket.timeout.ms", (TRANSACTION_MS - 100).to_string());
            set("linger.ms", "0".into());
        });
        let transaction = milliseconds(&config, "transaction.timeout.ms").unwrap_or(TRANSACTION_MS);
        cap(&mut config, "delivery.timeout.ms", transaction);
        cap(&mut config, "socket.timeout.ms", transaction.saturating_sub(100).max(900));
        config
    }

    /// A consumer that is a member of a group, under an instance id, if only one of its own: with it,
    /// one that lost its membership while brokers were away gets its place back at once, instead of
    /// after the session of its former self; and brokers check who commits in every case.
    pub fn member(&self, group: &str, instance: &str) -> ClientConfig {
        self.config(|set| {
            self.consumes(set);
            set("group.id", group.into());
            set("partition.assignment.strategy", "cooperative-sticky".into());
            set("session.timeout.ms", "6000".into());
            set("heartbeat.interval.ms", "500".into());
            // A member that waits for its owner polls nothing.
            let poll = (self.options.revoke_deadline * 3).max(Duration::from_secs(60));
            set("max.poll.interval.ms", poll.as_millis().to_string());
            // What is fetched ahead takes three times its size in memory; a transaction takes as much.
            set("fetch.max.bytes", (1024 * 1024).to_string());
            set("max.partition.fetch.bytes", (256 * 1024).to_string());
            set("queued.max.messages.kbytes", "3072".into());
            set("queued.min.messages", "10000".into());
            set("group.instance.id", instance.into());
        })
    }

    /// A consumer outside any group: reads partitions it assigns itself, and asks for offsets.
    /// `group` is whose committed positions it can ask for; librdkafka wants one in any case.
    pub fn reader(&self, group: Option<&str>) -> ClientConfig {
        self.config(|set| {
            self.consumes(set);
            set("group.id", group.unwrap_or("penstock.reader").into());
            // Readers end, and learn that they have from an answer without records.
            set("fetch.wait.max.ms", "10".into());
        })
    }

    /// A client that only asks: for metadata, and for how much was ever appended, committed or not. It has
    /// connections of its own, because a broker answers the requests of a connection one after the
    /// other, and an append may wait for replicas that have just died.
    pub fn lookup(&self) -> ClientConfig {
        self.config(|set| {
            set("isolation.level", "read_uncommitted".into());
            set("statistics.interval.ms", "0".into());
        })
    }

    /// A client for topics and their configuration.
    pub fn admin(&self) -> ClientConfig {
        self.config(|_| {})
    }

    /// How long librdkafka tries to deliver: less than a caller waits, so that it hears the truth.
    pub fn delivery_timeout(&self) -> Duration {
        let deadline = self.options.commit_deadline;
        deadline.saturating_sub((deadline / 6).min(Duration::from_secs(5)))
    }

    fn produces(&self, set: &mut dyn FnMut(&str, String)) {
        set("enable.idempotence", "true".into());
        set("acks", "all".into());
        set("partitioner", "murmur2_random".into());
        set("compression.type", "lz4".into());
        // A request may hold a whole record, and the batch around it.
        set("message.max.bytes", self.max_message_bytes().to_string());
        // Our own bound comes first; this one has room for what librdkafka adds.
        set("queue.buffering.max.kbytes", (self.options.max_queued_bytes / 512).max(1).to_string());
        set("queue.buffering.max.messages", "1000000".into());
        // Otherwise the records of a topic that was deleted wait half a minute for it.
        set("topic.metadata.propagation.max.ms", "3000".into());
    }

    fn consumes(&self, set: &mut dyn FnMut(&str, String)) {
        set("isolation.level", "read_committed".into());
        set("enable.auto.commit", "false".into());
        set("enable.auto.offset.store", "false".into());
        set("auto.offset.reset", "error".into());
        set("enable.partition.eof", "true".into());
        set("fetch.queue.backoff.ms", "10".into());
        set("fetch.wait.max.ms", "100".into());
        set("max.partition.fetch.bytes", (self.options.batch_bytes.max(64 * 1024)).to_string());
        set("queued.max.messages.kbytes", "16384".into());
    }

    /// The largest message, for topics and producers alike: keys, values and headers, and what Kafka
    /// adds to them.
    pub fn max_message_bytes(&self) -> usize {
        self.options.max_record_bytes.saturating_add(64 * 1024).clamp(64 * 1024, 1_000_000_000)
    }

    /// Common settings, those of a kind, and then what the user says.
    fn config(&self, kind: impl FnOnce(&mut dyn FnMut(&str, String))) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", self.options.instance.as_deref().unwrap_or("penstock"))
            .set("statistics.interval.ms", "2000")
            .set("allow.auto.create.topics", "false")
            .set("socket.timeout.ms", "10000")
            .set("socket.nagle.disable", "true")
            // The cluster is met again within a second of its return.
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000");
        kind(&mut |name, value| {
            config.set(name, value);
        });
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config.set_log_level(log_level());
        config
    }

    /// Lets librdkafka look at names and values, before any client needs them.
    fn check(&self) -> Result<(), LogError> {
        for (name, value) in &self.properties {
            let mut one = ClientConfig::new();
            one.set(name, value);
            if one.create_native_config().is_err() {
                return Err(LogError::Fatal(format!(
                    "log.properties: librdkafka does not know {name}, or not this value of it; see \
                     its CONFIGURATION.md"
                )));
            }
        }
        Ok(())
    }
}

fn milliseconds(config: &ClientConfig, name: &str) -> Option<u64> {
    config.get(name)?.trim().parse().ok()
}

/// Lowers a time that is longer, or endless, which is zero.
fn cap(config: &mut ClientConfig, name: &str, most: u64) {
    if milliseconds(config, name).is_none_or(|time| time == 0 || time > most) {
        config.set(name, most.to_string());
    }
}

/// librdkafka asks before it formats a line: give it what tracing would show.
fn log_level() -> RDKafkaLogLevel {
    if tracing::enabled!(target: "librdkafka", tracing::Level::DEBUG) {
        RDKafkaLogLevel::Debug
    } else {
        RDKafkaLogLevel::Info
    }
}

/// Refuses what needs TLS in a build without it. SASL/PLAIN over plain text is in every build.
fn check_tls(properties: &BTreeMap<String, String>) -> Result<(), LogError> {
    if cfg!(feature = "kafka-tls") {
        return Ok(());
    }
    let needs = |name: &str, value: &str| match name {
        "security.protocol" => value.to_ascii_lowercase().ends_with("ssl"),
        "sasl.mechanism" => !value.eq_ignore_ascii_case("PLAIN"),
        _ => name.starts_with("ssl.") || name.starts_with("sasl.oauthbearer."),
    };
    match properties.iter().find(|(name, value)| needs(name, value)) {
        None => Ok(()),
        Some((name, _)) => Err(LogError::Fatal(format!(
            "log.properties: {name} asks for TLS or SASL, which this build lacks: build with the \
             feature `kafka-tls` (it needs OpenSSL's headers)"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::producer::BaseProducer;

    use super::*;

    fn clients(properties: &[(&str, &str)]) -> Result<Clients, LogError> {
        let properties = properties.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        let options = Options { properties: properties.collect(), ..Options::default() };
        Clients::new("a:9092".into(), options)
    }

    fn refused(name: &str, value: &str) -> String {
        let Err(LogError::Fatal(told)) = clients(&[(name, value)]) else {
            unreachable!("{name} was accepted")
        };
        assert!(told.contains(name), "{told}");
        assert!(!told.contains(value), "the value is shown: {told}");
        told
    }

    #[test]
    fn what_the_promises_stand_on_cannot_be_set() {
        for (name, _) in OURS {
            refused(name, "hunter2");
        }
    }

    #[test]
    fn another_name_of_a_property_is_the_same_property() {
        let Err(LogError::Fatal(told)) = clients(&[("request.required.acks", "1")]) else {
            unreachable!("it was accepted")
        };
        assert!(told.contains("acks"), "{told}");
        let clients = clients(&[("queue.buffering.max.ms", "77")]).unwrap();
        assert_eq!(clients.producer().get("linger.ms"), Some("77"));
        assert_eq!(clients.producer().get("queue.buffering.max.ms"), None);
    }

    #[test]
    fn a_property_of_the_user_goes_over_ours() {
        let clients = clients(&[("compression.type", "zstd"), ("session.timeout.ms", "9000")]);
        let clients = clients.unwrap();
        assert_eq!(clients.producer().get("compression.type"), Some("zstd"));
        assert_eq!(clients.member("g", "n").get("session.timeout.ms"), Some("9000"));
    }

    #[test]
    fn times_of_the_user_that_are_too_long_for_a_transaction_are_for_other_clients_only() {
        for (name, value, most) in [
            ("socket.timeout.ms", "60000", "5900"),
            ("delivery.timeout.ms", "30000", "6000"),
            ("message.timeout.ms", "0", "6000"),
        ] {
            let clients = clients(&[(name, value)]).unwrap();
            let name = name.replace("message", "delivery");
            let transactional = clients.transactional_producer("id");
            assert_eq!(transactional.get(&name), Some(most));
            assert!(transactional.create::<BaseProducer>().is_ok(), "{name}={value}");
            assert_eq!(clients.producer().get(&name), Some(value));
        }
    }

    #[test]
    fn the_times_of_a_transaction_follow_its_timeout_and_shorter_ones_stay() {
        let config = |properties| clients(properties).unwrap().transactional_producer("id");
        let short = config(&[("transaction.timeout.ms", "3000")]);
        assert_eq!(short.get("delivery.timeout.ms"), Some("3000"));
        assert!(short.create::<BaseProducer>().is_ok());
        let shorter = config(&[("socket.timeout.ms", "2000")]);
        assert_eq!(shorter.get("socket.timeout.ms"), Some("2000"));
    }

    #[test]
    fn an_unknown_property_or_value_is_named_and_the_value_is_not_shown() {
        refused("no.such.property", "hunter2");
        refused("linger.ms", "hunter2");
        refused("security.protocol", "hunter2");
    }

    #[test]
    #[cfg(not(feature = "kafka-tls"))]
    fn asking_for_tls_in_a_build_without_it_names_the_feature() {
        for (name, value) in [
            ("security.protocol", "SASL_SSL"),
            ("security.protocol", "ssl"),
            ("ssl.ca.location", "/etc/ca.pem"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.mechanisms", "OAUTHBEARER"),
            ("sasl.oauthbearer.config", "hunter2"),
        ] {
            let Err(LogError::Fatal(told)) = clients(&[(name, value)]) else {
                unreachable!("{name} was accepted")
            };
            assert!(
                told.contains("kafka-tls") && told.contains(name.trim_end_matches('s')),
                "{told}"
            );
        }
    }

    #[test]
    fn a_password_over_plain_text_needs_no_tls() {
        let plain = [
            ("security.protocol", "sasl_plaintext"),
            ("sasl.mechanism", "PLAIN"),
            ("sasl.username", "me"),
            ("sasl.password", "hunter2"),
        ];
        assert!(clients(&plain).is_ok());
    }

    #[test]
    fn a_caller_hears_of_a_delivery_before_its_deadline() {
        for seconds in [1, 10, 30, 600] {
            let commit_deadline = Duration::from_secs(seconds);
            let options = Options { commit_deadline, ..Options::default() };
            let clients = Clients::new("a:1".into(), options).unwrap();
            assert!(clients.delivery_timeout() < commit_deadline);
        }
    }
}
