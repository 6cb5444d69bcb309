//! How settings must fit together: what types alone cannot say.
//!
//! Every rule answers with the setting's path and a sentence for the person who set it. What only
//! a step or a store knows (a VRL program, a URL's host) is checked by those when they are built.

mod jwt;
mod keys;
mod rollups;
mod schemas;

use std::{
    collections::BTreeSet,
    path::{Path, absolute},
    time::Duration,
};

pub use self::rollups::{MAX_ALIASES, MEASURES, check_rollups};
use super::{Auth, Config, ProcessorConfig, check_log_url, check_store_url};
use crate::{
    auth::key::read_hash,
    http::{Admission, check_listen, tls::Tls},
    telemetry::check_filter,
};

/// The topic that the sink reads, whatever the processors.
const SUNK: &str = "events.clean";
/// The registry's topic: no processor may touch it.
const SCHEMAS: &str = "penstock.schemas";
/// Less than that would refuse requests of everyday clients.
const LEAST_HEADER_BYTES: u32 = 4096;

type Found = Vec<(String, String)>;

/// Makes the paths of log, store and schemas absolute.
pub(super) fn resolve_paths(config: &mut Config, base_dir: &Path) {
    let resolve = |path: &Path| {
        let joined = base_dir.join(path);
        absolute(&joined).unwrap_or(joined)
    };
    for url in [&mut config.log.url, &mut config.store.url] {
        if let Some(path) = url.strip_prefix("file:").filter(|path| !path.is_empty()) {
            *url = format!("file:{}", resolve(Path::new(path)).display());
        }
    }
    if let Some(tls) = &mut config.http.tls {
        [Some(&mut tls.cert), Some(&mut tls.key), tls.client_ca.as_mut()]
            .into_iter()
            .flatten()
            .for_each(|path| *path = resolve(path));
    }
    if let Some(jwks) = config.jwt.jwks.as_mut().filter(|jwks| !jwks.contains("://")) {
        *jwks = resolve(Path::new(jwks.as_str())).display().to_string();
    }
    for path in config.schemas.register.values_mut() {
        *path = resolve(path);
    }
}

/// Every rule that is broken: setting and message.
pub(super) fn check(config: &Config) -> Found {
    let mut found = Found::new();
    listeners(config, &mut found);
    storage(config, &mut found);
    sizes(config, &mut found);
    processors(&config.processors, &mut found);
    found.extend(check_rollups(&config.rollups));
    keys::check(config, &mut found);
    jwt::check(config, &mut found);
    schemas::check(&config.schemas, &mut found);
    if let Some(Err(message)) = config.telemetry.filter.as_deref().map(check_filter) {
        found.push(("telemetry.filter".into(), message));
    }
    found
}

fn listeners(config: &Config, found: &mut Found) {
    let (http, admin) = (config.http.listen, config.admin.listen);
    if let Err(message) = check_listen(http, who_is_let_in(config)) {
        // The setting's name stands before every message.
        let message = message.strip_prefix("http.listen ").unwrap_or(&message);
        found.push(("http.listen".into(), message.into()));
    }
    if http == admin && http.port() != 0 {
        // To be told where a person can change it.
        let (setting, other) = match config.origins.has("admin.listen") {
            true => ("admin.listen", "http.listen"),
            false => ("http.listen", "admin.listen"),
        };
        let message = format!("{http} is taken by {other}: choose another port");
        found.push((setting.into(), message));
    }
    if let Some(Err(message)) = config.admin.metrics_hash.as_deref().map(read_hash) {
        found.push(("admin.metrics_hash".into(), message));
    }
    if config.http.max_header_bytes < LEAST_HEADER_BYTES {
        let message = format!("must be at least {LEAST_HEADER_BYTES}: clients send that much");
        found.push(("http.max_header_bytes".into(), message));
    }
    let Some(tls) = &config.http.tls else { return };
    if tls.client_auth.is_some() && tls.client_ca.is_none() {
        let message = "needs `client_ca`: the authorities whose certificates clients may show";
        found.push(("http.tls.client_auth".into(), message.into()));
    }
    if let Err(error) = Tls::open(tls, Duration::MAX) {
        found.push((format!("http.tls.{}", error.key), error.to_string()));
    }
}

/// Whom the public listener answers.
fn who_is_let_in(config: &Config) -> Admission {
    match config.http.auth {
        Some(Auth::None) => Admission::Everybody,
        None if config.keys.is_empty() && config.jwt.jwks.is_none() => Admission::ThisMachine,
        None => Admission::Known,
    }
}

fn storage(config: &Config, found: &mut Found) {
    let (log, store) = (&config.log, &config.store);
    for (setting, checked) in
        [("log.url", check_log_url(&log.url)), ("store.url", check_store_url(&store.url))]
    {
        if let Err(message) = checked {
            found.push((setting.into(), message));
        }
    }
    if log.url == store.url {
        let message = "is the same directory as log.url: each needs its own";
        found.push(("store.url".into(), message.into()));
    }
    if let Err(message) = log.instance() {
        found.push(("log.instance".into(), message));
    }
    match (&store.user, &store.password) {
        (Some(_), None) => found.push(("store.user".into(), "needs a `password` too".into())),
        (None, Some(_)) => found.push(("store.password".into(), "needs a `user` too".into())),
        _ => {}
    }
    if store.replication == Some(0) {
        found.push(("store.replication".into(), "must be more than 0".into()));
    }
    if store.datacenter.as_deref() == Some("") {
        let message = "is empty: name a datacenter, or leave it out";
        found.push(("store.datacenter".into(), message.into()));
    }
}

fn sizes(config: &Config, found: &mut Found) {
    let (ingest, topics, sink) = (&config.ingest, &config.topics, &config.sink);
    let mut positive = |setting: &str, positive: bool| {
        if !positive {
            found.push((setting.into(), "must be more than 0".into()));
        }
    };
    positive("ingest.max_body_bytes", ingest.max_body_bytes > 0);
    positive("ingest.max_decompressed_bytes", ingest.max_decompressed_bytes > 0);
    positive("ingest.max_event_bytes", ingest.max_event_bytes > 0);
    positive("ingest.max_batch_events", ingest.max_batch_events > 0);
    positive("ingest.max_in_flight_bytes", ingest.max_in_flight_bytes > 0);
    positive("http.max_connections", config.http.max_connections > 0);
    positive("ingest.body_idle_timeout", ingest.body_idle_timeout > Duration::ZERO);
    positive("ingest.timeout", ingest.timeout > Duration::ZERO);
    positive("topics.partitions", topics.partitions > 0);
    positive("topics.replication", topics.replication != Some(0));
    positive("topics.retention", topics.retention > Duration::ZERO);
    positive("topics.retention_bytes", topics.retention_bytes != Some(0));
    positive("retention.events", config.retention.events > Duration::ZERO);
    positive("retention.rollups", config.retention.rollups > Duration::ZERO);
    positive("sink.window_records", sink.window_records > 0);
    positive("shutdown.deadline", config.shutdown.deadline > Duration::ZERO);

    let largest = ingest.max_body_bytes.max(ingest.max_decompressed_bytes);
    // One key holds three quarters at most.
    if ingest.max_in_flight_bytes / 4 * 3 < largest {
        let message = format!(
            "is {}, of which a key may use three quarters, less than one body of {largest} bytes may \
             need: raise it, or lower max_body_bytes and max_decompressed_bytes",
            ingest.max_in_flight_bytes
        );
        found.push(("ingest.max_in_flight_bytes".into(), message));
    }
    if topics.partitions > 1024 {
        let message = format!("is {}: at most 1024 are possible", topics.partitions);
        found.push(("topics.partitions".into(), message));
    }
}

fn processors(processors: &[ProcessorConfig], found: &mut Found) {
    let mut names = BTreeSet::new();
    for (n, processor) in processors.iter().enumerate() {
        let at = |key: &str| format!("processors[{n}].{key}");
        if let Err(message) = check_name(&processor.name) {
            found.push((at("name"), message));
        }
        if !names.insert(&processor.name) {
            found.push((at("name"), format!("`{}` is taken by another processor", processor.name)));
        }
        for (key, topic) in [("from", &processor.from), ("to", &processor.to)] {
            if let Err(message) = check_topic(topic) {
                found.push((at(key), message));
            }
        }
        if processor.from == processor.to {
            let message = format!("`{}` is also what it reads: that never ends", processor.to);
            found.push((at("to"), message));
        } else if leads_back(processors, &processor.to, &processor.from) {
            let message = format!(
                "`{}` leads back to `{}`, through this or other processors: that never ends",
                processor.to, processor.from
            );
            found.push((at("to"), message));
        }
        for (m, step) in processor.steps.iter().enumerate() {
            if step.len() != 1 {
                let message = "must be a table of one key, the step's name, such as \
                               { remap = \"program.vrl\" }";
                found.push((format!("processors[{n}].steps[{m}]"), message.into()));
            }
        }
    }
    if !processors.is_empty() && processors.iter().all(|p| p.to != SUNK) {
        let message = format!("none of them writes to {SUNK}, so nothing would be stored");
        found.push(("processors".into(), message));
    }
}

/// Whether records of one topic reach another one.
fn leads_back(processors: &[ProcessorConfig], from: &str, to: &str) -> bool {
    let mut reached = BTreeSet::from([from]);
    loop {
        let next: Vec<&str> = processors
            .iter()
            .filter(|p| reached.contains(p.from.as_str()) && !reached.contains(p.to.as_str()))
            .map(|p| p.to.as_str())
            .collect();
        if next.is_empty() {
            return reached.contains(to);
        }
        reached.extend(next);
    }
}

/// Refuses a name that consumer groups, metric labels and URLs would not all take.
pub fn check_name(name: &str) -> Result<(), String> {
    let good = (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    match good {
        true => Ok(()),
        false => {
            Err(format!("`{name}` is not a name: use 1 to 64 letters, digits, `-`, `_` and `.`"))
        }
    }
}

/// Refuses a topic that cannot be, or that no processor may touch.
pub fn check_topic(topic: &str) -> Result<(), String> {
    // Kafka's rule; `.` and `..` would be directories.
    let good = (1..=249).contains(&topic.len())
        && topic.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && topic != "."
        && topic != "..";
    if !good {
        return Err(format!(
            "`{topic}` is not a topic's name: use letters, digits, `.`, `_` and `-`"
        ));
    }
    match topic {
        SCHEMAS => Err(format!("`{SCHEMAS}` belongs to the schema registry")),
        _ => Ok(()),
    }
}
