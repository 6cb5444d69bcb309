//! The log as every service finds it: opened, its topics made and checked, the registry read.
//!
//! It is what the services have in common, and nothing of what they do. The invariant: a service
//! starts in any order with its log. While that cannot be reached, opening waits and says so in
//! `/readyz`; what waiting cannot mend (a topic with other partitions, a schema that does not
//! fit) is an error at once.

use std::time::Duration;

use anyhow::{Context, Result};
use eventlog::{Log, LogError, Retention, TopicSpec};
use service::{
    app::{App, StageId, never_fails},
    config::{
        self, Config, Instance, LogConfig, Mistake, SchemasConfig, TopicsConfig, UnknownType,
    },
    health::Part,
    patience::until_open,
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    Codec, DEFAULT_NAMESPACE, External, ExternalSettings, Lookup, RegisterError, Registry,
    RegistryError, Unknown, UnknownFields,
};

/// How often the log is asked how it is.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A schema to register at start: event type and Avro text.
pub type Contract = (String, String);

/// What a service brings to the log, checked before anything is opened.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What tells this process from its replicas.
    pub instance: Instance,
    /// Schemas to register.
    pub contracts: Vec<Contract>,
}

impl Setup {
    /// Of a configuration.
    ///
    /// # Errors
    /// Every mistake, each at its place.
    pub fn of(config: &Config) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let contracts = contracts(config).map_err(|found| mistakes.extend(found));
        let instance = match config.log.instance() {
            Ok(instance) => Some(instance),
            Err(message) => {
                mistakes.push(format!("log.instance: {message}"));
                None
            }
        };
        // What is wrong with the URL itself was told before.
        if let Some(instance) = &instance
            && config::check_log_url(&config.log.url).is_ok()
        {
            let options = options(&config.log, instance, eventlog::Metrics::default());
            let checked = eventlog::check(&config.log.url, &options);
            mistakes.extend(checked.err().map(|error| error.to_string()));
        }
        match (contracts, instance) {
            (Ok(contracts), Some(instance)) if mistakes.is_empty() => {
                Ok(Self { instance, contracts })
            }
            _ => Err(mistakes.iter().map(|text| config.origins.mistake_of(text)).collect()),
        }
    }
}

/// The log and what its records mean; clones share both.
#[derive(Clone)]
pub struct Backbone {
    /// The log.
    pub log: Log,
    /// Between events and records.
    pub codec: Codec,
}

impl Backbone {
    /// Opens the log that the configuration names, with these topics, and registers the setup's schemas.
    /// Waits for as long as the log cannot be reached; cancel it to stop.
    pub async fn open(
        config: &Config,
        setup: &Setup,
        topics: &[&str],
        metrics: eventlog::Metrics,
        part: &Part,
    ) -> Result<Self> {
        let options = options(&config.log, &setup.instance, metrics);
        let again = |error: &LogError| matches!(error, LogError::Retry(_));
        // The log says itself what cannot be opened, where, and what to do.
        let log =
            until_open(part, again, || eventlog::open(&config.log.url, options.clone())).await?;
        let specs = specs(&config.topics, topics);
        until_open(part, again, || log.ensure_topics(&specs))
            .await
            .context("cannot make the topics")?;
        let lookup: Lookup = match external(&config.schemas) {
            Some(settings) => External::new(&settings).into(),
            None => own(&log, &setup.contracts, part).await?.into(),
        };
        let unknown = match config.schemas.unknown {
            UnknownType::Accept => Unknown::Accept,
            UnknownType::Reject => Unknown::Reject,
        };
        let unknown_fields = match config.schemas.unknown_fields {
            config::UnknownFields::Reject => UnknownFields::Reject,
            config::UnknownFields::Drop => UnknownFields::Drop,
        };
        let codec = Codec::new(lookup, unknown).with_unknown_fields(unknown_fields);
        Ok(Self { log, codec })
    }

    /// Keeps the registry up to date and readiness informed of the log, in a stage that stops after
    /// those who use them.
    pub fn attend(&self, app: &mut App, stage: StageId, part: Part) {
        app.hold(self.log.clone());
        const REGISTRY: &str = "schema registry";
        match self.codec.lookup().clone() {
            Lookup::Own(registry) => app.spawn(stage, REGISTRY, |token| {
                never_fails(async move { registry.follow(token).await })
            }),
            Lookup::External(external) => {
                let part = app.part(REGISTRY);
                app.spawn(stage, REGISTRY, |token| {
                    never_fails(async move { external.follow(part, token).await })
                });
            }
        }
        let log = self.log.clone();
        app.spawn(stage, "log", |token| watch(log, part, token));
    }
}

/// Penstock's own registry, with these schemas registered.
async fn own(log: &Log, contracts: &[Contract], part: &Part) -> Result<Registry> {
    let again = |error: &RegistryError| matches!(error, RegistryError::Retry(_));
    let registry = until_open(part, again, || Registry::open(log.clone()))
        .await
        .context("cannot open the schema registry")?;
    for (kind, text) in contracts {
        let again = |error: &RegisterError| matches!(error, RegisterError::Registry(e) if again(e));
        until_open(part, again, || registry.register(DEFAULT_NAMESPACE, kind, text))
            .await
            .with_context(|| format!("cannot register the schema of `{kind}`"))?;
    }
    Ok(registry)
}

/// The registry of another system that the configuration names.
fn external(config: &SchemasConfig) -> Option<ExternalSettings> {
    let SchemasConfig { registry, registry_user, registry_password, registry_refresh, .. } = config;
    Some(ExternalSettings {
        url: registry.clone()?,
        credentials: registry_user.clone().zip(registry_password.clone()),
        refresh: *registry_refresh,
    })
}

/// The schemas that the configuration wants registered, or every mistake in them.
fn contracts(config: &Config) -> Result<Vec<Contract>, Vec<String>> {
    let mut contracts = Vec::new();
    let mut mistakes = Vec::new();
    for (kind, path) in &config.schemas.register {
        match std::fs::read_to_string(path) {
            Err(error) => mistakes.push(format!(
                "schemas.register: cannot read the schema of `{kind}`, {}: {error}",
                path.display()
            )),
            Ok(text) => match crate::avro::Avro::parse(&text) {
                Ok(_) => contracts.push((kind.clone(), text)),
                Err(detail) => mistakes.push(format!(
                    "schemas.register: {} is not a usable Avro schema for `{kind}`: {detail}",
                    path.display()
                )),
            },
        }
    }
    if mistakes.is_empty() { Ok(contracts) } else { Err(mistakes) }
}

fn options(
    config: &LogConfig,
    instance: &Instance,
    metrics: eventlog::Metrics,
) -> eventlog::Options {
    eventlog::Options {
        min_free_bytes: config.min_free_bytes,
        // A name made up for this run is no place in a group that anybody would come back to.
        instance: instance.lasting.then(|| instance.name.clone()),
        properties: config.properties.clone(),
        metrics,
        ..eventlog::Options::default()
    }
}

/// Topics that events travel through, each once.
fn specs(config: &TopicsConfig, names: &[&str]) -> Vec<TopicSpec> {
    let mut names = names.to_vec();
    names.sort_unstable();
    names.dedup();
    let spec = |name: &str| TopicSpec {
        name: name.into(),
        partitions: config.partitions,
        replication: config.replication,
        retention: Retention::Delete { age: Some(config.retention), bytes: config.retention_bytes },
    };
    names.into_iter().map(spec).collect()
}

/// Tells readiness how the log is. A log that must be opened again ends the process, so that
/// whoever runs it starts it again.
async fn watch(log: Log, part: Part, shutdown: CancellationToken) -> Result<()> {
    let work = async {
        loop {
            match log.status() {
                Ok(()) => part.ready(),
                Err(LogError::Retry(why)) => part.failing(why),
                Err(error) => return Err(error),
            }
            sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        failed = work => Ok(failed?),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use service::health::Health;

    use super::*;

    fn config(dir: &Path) -> Config {
        let log = LogConfig {
            url: format!("file:{}", dir.display()),
            min_free_bytes: 0,
            ..LogConfig::default()
        };
        Config { log, ..Config::default() }
    }

    fn registering(text: &str, dir: &Path) -> Config {
        let path = dir.join("greeting.avsc");
        std::fs::write(&path, text).unwrap();
        let register = [("greeting".to_owned(), path)].into();
        Config { schemas: SchemasConfig { register, ..Default::default() }, ..Config::default() }
    }

    async fn open(config: &Config, setup: &Setup, topics: &[&str]) -> Result<Backbone> {
        let part = Health::default().part("log");
        Backbone::open(config, setup, topics, eventlog::Metrics::default(), &part).await
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_service_finds_its_topics_and_its_schemas() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let contract = (crate::bundled::FLIGHT_DEPARTED_TYPE, crate::bundled::FLIGHT_DEPARTED);
        let contracts = vec![(contract.0.to_owned(), contract.1.to_owned())];
        let setup = Setup { contracts, ..Setup::of(&config).unwrap() };
        let backbone = open(&config, &setup, &["a", "b", "a"]).await.unwrap();
        let registered =
            backbone.codec.registry().unwrap().latest(DEFAULT_NAMESPACE, contract.0).unwrap();
        assert_eq!((registered.version, &*registered.text), (1, contract.1));
        for topic in ["a", "b"] {
            assert_eq!(backbone.log.topic(topic).await.unwrap().partitions, 4);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn topics_that_are_not_as_configured_are_an_error_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        let setup = Setup::of(&config).unwrap();
        for (partitions, good) in [(4, true), (5, false)] {
            config.topics.partitions = partitions;
            match open(&config, &setup, &["a"]).await {
                Ok(_) => assert!(good),
                Err(error) => assert!(!good && format!("{error:#}").contains("topic a"), "{error}"),
            }
        }
    }

    #[test]
    fn properties_are_checked_before_a_broker_is_asked() {
        let mut config = Config::default();
        config.log.url = "kafka://127.0.0.1:1".into();
        Setup::of(&config).unwrap();
        for (name, value) in [("acks", "1"), ("linger.mss", "5"), ("linger.ms", "soon")] {
            config.log.properties = [(name.to_owned(), value.to_owned())].into();
            let found = Setup::of(&config).unwrap_err();
            assert!(found.len() == 1 && found[0].to_string().contains(name), "{found:?}");
        }
    }

    #[test]
    fn a_name_that_lasts_is_a_place_in_the_groups_and_one_made_up_is_not() {
        let config = LogConfig::default();
        for lasting in [true, false] {
            let instance = Instance { name: "me".into(), lasting };
            let options = options(&config, &instance, eventlog::Metrics::default());
            assert_eq!(options.instance.is_some(), lasting);
        }
    }

    #[test]
    fn a_schema_that_is_none_is_found_before_anything_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let found = contracts(&registering("{\"type\":\"recrod\"}", dir.path())).unwrap_err();
        assert!(found[0].contains("greeting.avsc is not a usable Avro schema"), "{found:?}");
        let good = registering(crate::bundled::FLIGHT_DEPARTED, dir.path());
        assert_eq!(contracts(&good).unwrap().len(), 1);
    }
}
