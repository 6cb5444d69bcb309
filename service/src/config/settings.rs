//! Every setting, as a user writes it: what it means, its unit, its default.
//!
//! Nothing here checks how settings fit together (see [`super::check`]) or where they came from.
//! A key's name is a promise to users: renaming one breaks their files.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, de::Error};

use super::Origins;

/// Everything a user can set. Each table has defaults, so that an empty file is a configuration.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where events travel.
    pub log: LogConfig,
    /// Where results are kept.
    pub store: StoreConfig,
    /// The public listener.
    pub http: HttpConfig,
    /// The operators' listener.
    pub admin: AdminConfig,
    /// API keys. With any, every request must show one.
    pub keys: Vec<KeyConfig>,
    /// Tokens of an identity provider, beside keys or instead of them.
    pub jwt: JwtConfig,
    /// The door.
    pub ingest: IngestConfig,
    /// What types need.
    pub schemas: SchemasConfig,
    /// Topics as they are made and checked.
    pub topics: TopicsConfig,
    /// How long the store keeps what.
    pub retention: RetentionConfig,
    /// Chains of steps between topics; none means a copy from `events.raw` to `events.clean`.
    pub processors: Vec<ProcessorConfig>,
    /// Rollups to keep.
    pub rollups: Vec<RollupConfig>,
    /// The sink's deduplication and flushing.
    pub sink: SinkConfig,
    /// Logs of the process.
    pub telemetry: TelemetryConfig,
    /// How long a service may take to finish after SIGTERM. Default 20 s.
    pub shutdown: ShutdownConfig,
    /// Not a setting: where the settings were given, for those who find a mistake in one.
    #[serde(skip)]
    pub origins: Origins,
}

/// `[log]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// `file:PATH`, or `kafka://HOST:PORT,HOST:PORT`.
    pub url: String,
    /// The embedded log refuses appends while its file system has fewer bytes free. Default 64 MiB.
    pub min_free_bytes: u64,
    /// Names this process among the replicas of its service on Kafka, so that it resumes at once
    /// when it starts again; no two replicas may share a name. `@hostname` is the host's name.
    /// Optional: replicas need none.
    pub instance: Option<String>,
    /// Properties passed to librdkafka, such as `"compression.type" = "lz4"`.
    #[serde(deserialize_with = "properties")]
    pub properties: BTreeMap<String, String>,
}

/// `[store]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// `file:PATH`, or `scylla://HOST:PORT,HOST:PORT/KEYSPACE`.
    pub url: String,
    /// The embedded store pauses the sink while its file system has fewer bytes free. Default 64 MiB.
    pub min_free_bytes: u64,
    /// Copies in the datacenter when the keyspace is made; default 3, or the number of its nodes if
    /// fewer.
    pub replication: Option<u16>,
    /// The datacenter to speak to; default: that of the first node that answers.
    pub datacenter: Option<String>,
    /// Width of a bucket of events by their time, in a CQL store; fixed when its keyspace is made.
    /// Default 6 h.
    #[serde(with = "crate::config::duration")]
    pub bucket: Duration,
    /// Partitions that a bucket of a type is spread over, in a CQL store; fixed when its keyspace is
    /// made. Default 8.
    pub sub_buckets: u16,
    /// User of the CQL store.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<String>,
}

/// `[http]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Address and port; port 0 picks a free one.
    #[serde(deserialize_with = "address")]
    pub listen: SocketAddr,
    /// `none` in so many words allows an address that is not loopback without keys: then everybody
    /// may do everything.
    pub auth: Option<Auth>,
    /// Connections at once, and requests at once on all of them. Default 4096.
    pub max_connections: usize,
    /// Bytes of a request's head. Default 64 KiB.
    pub max_header_bytes: u32,
    /// TLS; without it, clients speak in the clear.
    pub tls: Option<TlsConfig>,
}

/// `[http.tls]`: PEM files, read again when they change.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate, followed by those that lead to its root.
    pub cert: PathBuf,
    /// Its private key, without a passphrase.
    pub key: PathBuf,
    /// Authorities whose certificates clients may show; without it, none is asked for.
    pub client_ca: Option<PathBuf>,
    /// Whether clients must show one. Default `required`.
    pub client_auth: Option<ClientAuth>,
}

/// Whether clients must show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// They may; one that is not of the authorities is refused.
    Optional,
    /// They must.
    Required,
}

/// How requests are authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// Not at all.
    None,
}

/// `[admin]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    /// Address and port of `/livez`, `/readyz` and `/metrics`.
    #[serde(deserialize_with = "address")]
    pub listen: SocketAddr,
    /// `sha256:` and the hash of the key that `/metrics` asks for; without it, anybody may read them.
    pub metrics_hash: Option<String>,
}

/// `[[keys]]`, made by `penstock keys new`; changes are taken in while the process runs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KeyConfig {
    /// Shown in metrics and logs.
    pub name: String,
    /// `sha256:` and the hash of the key.
    pub hash: String,
    /// The tenant.
    pub namespace: String,
    /// What the key may do: some of `write`, `read`, `admin` and `operator`.
    pub scopes: Vec<String>,
    /// How much it may post; without, as much as the server takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateConfig>,
}

/// `rate` of a key: what it may post a second. What is not given is not limited.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RateConfig {
    /// Events a second.
    pub events: Option<u64>,
    /// Bytes of decompressed bodies a second.
    pub bytes: Option<u64>,
    /// How long a key that posted nothing may save up: a burst is what this time allows, and no
    /// request may be larger. Default 2 s.
    #[serde(with = "crate::config::duration")]
    pub burst: Duration,
}

/// `[jwt]`: tokens of an identity provider. Taken when `jwks` is given; then `issuer` and `audience`
/// are needed too.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct JwtConfig {
    /// Where the issuer's public keys are: the path of a file, or an `https` or `http` URL.
    pub jwks: Option<String>,
    /// Who must have made a token (`iss`).
    pub issuer: Option<String>,
    /// For whom it must be (`aud`).
    pub audience: Option<String>,
    /// The claim that names the tenant. Default `namespace`.
    pub namespace_claim: String,
    /// The claim that holds the scopes, as words of a text or as a list. Default `scope`.
    pub scopes_claim: String,
    /// The algorithms that are allowed. Default RS256, ES256 and EdDSA.
    pub algorithms: Vec<String>,
    /// How far clocks may differ. Default 30 s.
    #[serde(with = "crate::config::duration")]
    pub leeway: Duration,
    /// How often the issuer's keys are read again. Default 5 min.
    #[serde(with = "crate::config::duration")]
    pub refresh: Duration,
}

/// `[ingest]`: limits of the door, in bytes.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct IngestConfig {
    /// A body as sent, compressed or not. Default 16 MiB.
    pub max_body_bytes: usize,
    /// A body after decompression. Default 16 MiB.
    pub max_decompressed_bytes: usize,
    /// One event. Default 1 MiB.
    pub max_event_bytes: usize,
    /// Events in one request. Default 10,000.
    pub max_batch_events: usize,
    /// All bodies being read, parsed or appended together. Default 128 MiB.
    pub max_in_flight_bytes: usize,
    /// How long a client may send nothing of a body that is due. Default 10 s.
    #[serde(with = "crate::config::duration")]
    pub body_idle_timeout: Duration,
    /// How long a request may take: a body that is not whole by then is answered `408`, events that
    /// are not stored by then `503`. Default 30 s.
    #[serde(with = "crate::config::duration")]
    pub timeout: Duration,
}

/// `[schemas]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SchemasConfig {
    /// What happens to an event whose type has no schema.
    pub unknown: UnknownType,
    /// What happens to a field that the schema of its type does not know: `reject`, the default, refuses
    /// the event; `drop` leaves the field out.
    pub unknown_fields: UnknownFields,
    /// Schemas to register at start: event type to a path of an `.avsc` file.
    pub register: BTreeMap<String, PathBuf>,
    /// The `https` or `http` URL of a registry that speaks the Confluent API, to be used in place of
    /// Penstock's own.
    pub registry: Option<String>,
    /// User of that registry, by Basic authentication.
    pub registry_user: Option<String>,
    /// Its password.
    pub registry_password: Option<String>,
    /// How old a type's latest version of that registry may be. Default 30 s.
    #[serde(with = "crate::config::duration")]
    pub registry_refresh: Duration,
}

/// What happens to an event whose type has no schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownType {
    /// It is taken, its data as it came.
    #[default]
    Accept,
    /// It is refused.
    Reject,
}

/// What happens to a field that a schema does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownFields {
    /// The event is refused.
    #[default]
    Reject,
    /// The field is left out.
    Drop,
}

/// `[topics]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TopicsConfig {
    /// Partitions of each topic of events. Default 4.
    pub partitions: u32,
    /// Copies on Kafka; default 3, or the number of brokers if fewer.
    pub replication: Option<u16>,
    /// How long a record stays, by append time. Default 7 days.
    #[serde(with = "crate::config::duration")]
    pub retention: Duration,
    /// How many bytes a partition keeps at least; no default, no limit.
    pub retention_bytes: Option<u64>,
}

/// `[retention]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionConfig {
    /// Events, since the append. Default 90 days.
    #[serde(with = "crate::config::duration")]
    pub events: Duration,
    /// Rollups and identities, since the row's last write. Default 730 days.
    #[serde(with = "crate::config::duration")]
    pub rollups: Duration,
}

/// `[[processors]]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessorConfig {
    /// Its name, which its consumer group bears.
    pub name: String,
    /// The topic it reads.
    #[serde(default = "events_raw")]
    pub from: String,
    /// The topic it writes.
    #[serde(default = "events_clean")]
    pub to: String,
    /// Its steps in order: each a table of one key, the step's name, with the step's settings.
    #[serde(default)]
    pub steps: Vec<StepConfig>,
    /// Exactly once unless said otherwise.
    #[serde(default)]
    pub delivery: DeliveryMode,
}

/// How a processor commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryMode {
    /// Outputs and positions in one transaction.
    #[default]
    ExactlyOnce,
    /// Outputs first, then positions.
    AtLeastOnce,
}

/// One step: its name and its settings, which the step itself reads.
pub type StepConfig = BTreeMap<String, toml::Value>;

/// `[[rollups]]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RollupConfig {
    /// Its name in `/v1/rollups/{name}`.
    pub name: String,
    /// The event type it counts.
    #[serde(rename = "type")]
    pub kind: String,
    /// Window lengths, such as `1h` and `1d`.
    pub windows: Vec<String>,
    /// Alias to a path into the event, such as `carrier = "data.carrier"`.
    #[serde(default)]
    pub group_by: BTreeMap<String, String>,
    /// Measures by alias. `count` is always kept.
    #[serde(default)]
    pub measures: BTreeMap<String, MeasureConfig>,
}

/// One measure of a rollup.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MeasureConfig {
    /// A path into the event to a number.
    pub field: String,
    /// What to keep of it: `sum`, `min`, `max`, `avg`.
    pub of: Vec<String>,
}

/// `[sink]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SinkConfig {
    /// Records that the deduplication window of a partition holds at most. Default 4,000,000.
    pub window_records: usize,
    /// How far back in append time a window is warmed after an assignment. Default 60 s.
    #[serde(with = "crate::config::duration")]
    pub warm_time: Duration,
    /// Records that a window is warmed with at most. Default 1,000,000.
    pub warm_records: usize,
    /// The clock skew allowed between producers and the log. Default 10 s.
    #[serde(with = "crate::config::duration")]
    pub clock_skew: Duration,
}

/// `[telemetry]`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// `human` or `json`.
    pub format: LogFormat,
    /// Directives such as `info` or `sink=debug,info`. Default `info`, with warnings
    /// alone from the driver of the CQL store.
    pub filter: Option<String>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// `[shutdown]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ShutdownConfig {
    /// How long a service may take to finish after SIGTERM. Default 20 s.
    #[serde(with = "crate::config::duration")]
    pub deadline: Duration,
}

fn events_raw() -> String {
    "events.raw".into()
}

/// An address, with an error for people who wrote a name or left out the port.
fn address<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(|_| {
        D::Error::custom(format!(
            "`{}` is not an IP address and port: write it like 127.0.0.1:8080 or [::1]:8080",
            super::masked_url(&text)
        ))
    })
}

/// Properties as text; numbers and booleans may be written as such.
fn properties<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    let given = BTreeMap::<String, toml::Value>::deserialize(from)?;
    let text = |(name, value): (String, toml::Value)| match value {
        toml::Value::String(text) => Ok((name, text)),
        toml::Value::Integer(number) => Ok((name, number.to_string())),
        toml::Value::Float(number) => Ok((name, number.to_string())),
        toml::Value::Boolean(yes) => Ok((name, yes.to_string())),
        // The value may be a secret, so it is not repeated.
        other => Err(D::Error::custom(format!(
            "`{name}` is {}: a property is text, a number, true or false; put its name in quotes \
             when it has dots",
            other.type_str()
        ))),
    };
    given.into_iter().map(text).collect()
}

fn events_clean() -> String {
    "events.clean".into()
}

const MIB: usize = 1024 * 1024;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            url: "file:./penstock-data/log".into(),
            min_free_bytes: 64 * MIB as u64,
            instance: None,
            properties: BTreeMap::new(),
        }
    }
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            url: "file:./penstock-data/store".into(),
            min_free_bytes: 64 * MIB as u64,
            replication: None,
            datacenter: None,
            bucket: Duration::from_secs(6 * 3_600),
            sub_buckets: 8,
            user: None,
            password: None,
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            auth: None,
            max_connections: 4096,
            max_header_bytes: 64 * 1024,
            tls: None,
        }
    }
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9090)), metrics_hash: None }
    }
}

impl Default for SchemasConfig {
    fn default() -> Self {
        Self {
            unknown: UnknownType::default(),
            unknown_fields: UnknownFields::default(),
            register: BTreeMap::new(),
            registry: None,
            registry_user: None,
            registry_password: None,
            registry_refresh: Duration::from_secs(30),
        }
    }
}

impl Default for JwtConfig {
    fn default() -> Self {
        Self {
            jwks: None,
            issuer: None,
            audience: None,
            namespace_claim: "namespace".into(),
            scopes_claim: "scope".into(),
            algorithms: ["RS256", "ES256", "EdDSA"].map(str::to_owned).to_vec(),
            leeway: Duration::from_secs(30),
            refresh: Duration::from_secs(300),
        }
    }
}

impl Default for RateConfig {
    fn default() -> Self {
        Self { events: None, bytes: None, burst: Duration::from_secs(2) }
    }
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            max_body_bytes: 16 * MIB,
            max_decompressed_bytes: 16 * MIB,
            max_event_bytes: MIB,
            max_batch_events: 10_000,
            max_in_flight_bytes: 128 * MIB,
            body_idle_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(30),
        }
    }
}

impl Default for TopicsConfig {
    fn default() -> Self {
        Self { partitions: 4, replication: None, retention: 7 * DAY, retention_bytes: None }
    }
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self { events: 90 * DAY, rollups: 730 * DAY }
    }
}

impl Default for SinkConfig {
    fn default() -> Self {
        Self {
            window_records: 4_000_000,
            warm_time: Duration::from_secs(60),
            warm_records: 1_000_000,
            clock_skew: Duration::from_secs(10),
        }
    }
}

impl Default for ShutdownConfig {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(20) }
    }
}
