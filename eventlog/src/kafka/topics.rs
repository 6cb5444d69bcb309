//! Topics: made as stated, checked against what exists, looked up.
//!
//! Any number of processes may do this at once: one makes a topic, the others find it. What exists is
//! never changed; a difference that would lose or reorder events is an error, any other is logged
//! with the command that mends it.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    admin::{
        AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication,
    },
    consumer::Consumer as _,
    error::KafkaError,
    metadata::MetadataTopic,
    topic_partition_list::{Offset, TopicPartitionList},
    types::RDKafkaErrorCode as Code,
};

use super::{
    Core, blocking,
    client::CALL,
    errors::{is_final, log_error, tell},
    observe::{Observer, Role},
    settings::{self, Found},
};
use crate::{LogError, Position, TopicInfo, TopicSpec};

/// All brokers have been told of a topic by then.
const TOLD: Duration = Duration::from_secs(3);

impl Found {
    fn of(topic: &MetadataTopic) -> Self {
        let partitions = topic.partitions();
        Self {
            partitions: partitions.len() as u32,
            replicas: partitions.iter().map(|p| p.replicas().len()).min().unwrap_or_default(),
            leaderless: partitions.iter().filter(|p| p.leader() < 0).count(),
        }
    }
}

impl Core {
    /// Looks a topic up; blocks.
    fn find(&self, topic: &str) -> Result<Found, LogError> {
        let metadata = self
            .lookup
            .client()
            .fetch_metadata(Some(topic), CALL)
            .map_err(|error| self.unanswered("the look-up", topic, &error))?;
        let unknown = || LogError::Unknown(topic.to_owned());
        let found =
            metadata.topics().iter().find(|found| found.name() == topic).ok_or_else(unknown)?;
        match found.error().map(Code::from) {
            None => Ok(Found::of(found)),
            // Just made, and the controller has not told all brokers.
            Some(Code::LeaderNotAvailable) => Ok(Found { leaderless: 1, ..Found::of(found) }),
            Some(code) => Err(log_error("the look-up", topic, &KafkaError::MetadataFetch(code))),
        }
    }

    /// How many partitions a topic has; asks the cluster only the first time.
    pub async fn partitions(self: &Arc<Self>, topic: &str) -> Result<u32, LogError> {
        if let Some(known) = self.known.partitions(topic) {
            return Ok(known);
        }
        let found = self.look(topic).await?;
        Ok(self.known.learn(topic, found.partitions))
    }

    /// See [`crate::LogDriver::topic`].
    pub async fn topic(self: &Arc<Self>, topic: &str) -> Result<TopicInfo, LogError> {
        let found = self.look(topic).await?;
        self.known.learn(topic, found.partitions);
        // The topic's id, which would tell, is not shown by librdkafka's interface.
        Ok(TopicInfo { name: topic.into(), partitions: found.partitions, incarnation: None })
    }

    /// See [`crate::LogDriver::topics`]; without the cluster's own.
    pub async fn topics(self: &Arc<Self>) -> Result<Vec<TopicInfo>, LogError> {
        let core = self.clone();
        let list = move || {
            let metadata = core
                .lookup
                .client()
                .fetch_metadata(None, CALL)
                .map_err(|error| core.unanswered("the list", "topics", &error))?;
            let ours = metadata.topics().iter().filter(|topic| !topic.name().starts_with("__"));
            let mut infos: Vec<_> = ours
                .map(|topic| TopicInfo {
                    name: topic.name().into(),
                    partitions: topic.partitions().len() as u32,
                    incarnation: None,
                })
                .collect();
            infos.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(infos)
        };
        blocking("the list of topics", list).await
    }

    /// See [`crate::LogDriver::ensure_topics`].
    pub async fn ensure_topics(self: &Arc<Self>, specs: &[TopicSpec]) -> Result<(), LogError> {
        // Its thread polls only for answers, never for log lines and errors, so it must not stay.
        let admin = self.admin()?;
        let done = self.ensure(&admin, specs).await;
        super::bury(admin);
        done
    }

    /// Deletes what is before a position of a partition.
    pub async fn take_before(
        &self,
        topic: &str,
        partition: u32,
        before: Position,
    ) -> Result<(), LogError> {
        let wrong = |error| self.unanswered("deleting records", topic, &error);
        let (index, offset) = (i32::try_from(partition), i64::try_from(before));
        let mut list = TopicPartitionList::new();
        let offset = Offset::Offset(offset.unwrap_or(i64::MAX));
        list.add_partition_offset(topic, index.unwrap_or(i32::MAX), offset).map_err(wrong)?;
        let admin = self.admin()?;
        let done = admin.delete_records(&list, &asking()).await.map_err(wrong);
        super::bury(admin);
        for element in done?.elements() {
            element.error().map_err(wrong)?;
        }
        Ok(())
    }

    async fn ensure(
        self: &Arc<Self>,
        admin: &AdminClient<Observer>,
        specs: &[TopicSpec],
    ) -> Result<(), LogError> {
        for spec in specs {
            if spec.partitions == 0 {
                return Err(mismatch(spec, "needs at least one partition".into()));
            }
            match self.look(&spec.name).await {
                Ok(found) => self.check(admin, spec, &found).await?,
                Err(LogError::Unknown(_)) => {
                    let made = self.make(admin, spec).await?;
                    let found = self.settled(spec).await?;
                    if !made {
                        self.check(admin, spec, &found).await?;
                    }
                }
                Err(error) => return Err(error),
            }
            self.settled(spec).await?;
        }
        Ok(())
    }

    /// Looks a topic up. One that was there may be unknown to some broker for a moment, after it was
    /// made or when that broker has just come up, so it is gone only when that stays so.
    async fn look(self: &Arc<Self>, topic: &str) -> Result<Found, LogError> {
        let until = Instant::now() + TOLD;
        loop {
            let (core, name) = (self.clone(), topic.to_owned());
            match blocking("the look-up", move || core.find(&name)).await {
                Err(LogError::Unknown(_))
                    if self.known.has_seen(topic) && Instant::now() < until => {}
                answer => return answer,
            }
            tokio::time::sleep(TOLD / 10).await;
        }
    }

    /// Makes a topic; `false` when another process was quicker.
    async fn make(
        self: &Arc<Self>,
        admin: &AdminClient<Observer>,
        spec: &TopicSpec,
    ) -> Result<bool, LogError> {
        let name = &*spec.name;
        let replication = match spec.replication {
            Some(replication) => replication,
            None => self.brokers().await?.clamp(1, 3) as u16,
        };
        let settings = settings::of(spec, replication, self.clients.max_message_bytes());
        let wanted = settings.iter().fold(
            NewTopic::new(
                name,
                i32::try_from(spec.partitions).unwrap_or(i32::MAX),
                TopicReplication::Fixed(i32::from(replication)),
            ),
            |topic, (key, value)| topic.set(key, value),
        );
        let answers = admin
            .create_topics([&wanted], &asking())
            .await
            .map_err(|error| self.unanswered("making the topic", name, &error))?;
        match answers.into_iter().next() {
            Some(Err((_, Code::TopicAlreadyExists))) => Ok(false),
            Some(Err((_, code @ (Code::InvalidReplicationFactor | Code::PolicyViolation)))) => {
                // Brokers that are still starting up may make it possible.
                Err(LogError::Retry(format!(
                    "topic {name} cannot be made with {} partitions and replication {replication}: \
                     {code}; are enough brokers up?",
                    spec.partitions
                )))
            }
            Some(Err((_, code))) if is_final(code) => {
                Err(LogError::Fatal(format!("topic {name} cannot be made: {code}")))
            }
            Some(Err((_, code))) => {
                Err(LogError::Retry(format!("topic {name} is not made yet: {code}")))
            }
            Some(Ok(_)) | None => {
                let (partitions, chosen) = (spec.partitions, spec.replication.is_none());
                tracing::info!(
                    topic = name,
                    partitions,
                    replication,
                    chosen_by_brokers = chosen,
                    "made topic"
                );
                if chosen && replication < 3 {
                    tracing::warn!(
                        topic = name,
                        replication,
                        "fewer than three brokers are up, so the topic has fewer than three copies for \
                         good; set topics.replication to wait for brokers instead"
                    );
                }
                Ok(true)
            }
        }
    }

    /// Waits until every partition of a topic has a leader.
    async fn settled(self: &Arc<Self>, spec: &TopicSpec) -> Result<Found, LogError> {
        let (until, mut pause) = (Instant::now() + CALL, Duration::from_millis(5));
        loop {
            let found = match self.look(&spec.name).await {
                Err(LogError::Unknown(_)) => None, // not all brokers know it yet
                other => Some(other?),
            };
            if let Some(found) = &found
                && found.leaderless == 0
                && found.partitions > 0
            {
                self.known.learn(&spec.name, found.partitions);
                return Ok(found.clone());
            }
            if Instant::now() >= until {
                let without = found.map_or(spec.partitions as usize, |found| found.leaderless);
                return Err(LogError::Retry(format!(
                    "{without} partitions of topic {} have no leader",
                    spec.name
                )));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    /// Compares a topic with what is stated.
    async fn check(
        self: &Arc<Self>,
        admin: &AdminClient<Observer>,
        spec: &TopicSpec,
        found: &Found,
    ) -> Result<(), LogError> {
        let resource = [ResourceSpecifier::Topic(&spec.name)];
        let answers = admin
            .describe_configs(&resource, &asking())
            .await
            .map_err(|error| self.unanswered("reading the settings", &spec.name, &error))?;
        let settings = match answers.into_iter().next() {
            Some(Ok(resource)) => known(&resource),
            Some(Err(code)) => {
                tracing::warn!(topic = &*spec.name, %code, "the topic's settings cannot be checked");
                HashMap::new()
            }
            None => HashMap::new(),
        };
        let judged = settings::judge(spec, found, &settings, self.clients.max_message_bytes());
        for remark in &judged.remarks {
            tracing::warn!(topic = &*spec.name, "{remark}");
        }
        match judged.fault {
            Some(fault) => Err(mismatch(spec, fault)),
            None => Ok(()),
        }
    }

    async fn brokers(self: &Arc<Self>) -> Result<usize, LogError> {
        let core = self.clone();
        let count = move || {
            let metadata = core.lookup.client().fetch_metadata(None, CALL);
            metadata
                .map(|metadata| metadata.brokers().len())
                .map_err(|error| core.unanswered("the look-up", "brokers", &error))
        };
        blocking("the look-up of brokers", count).await
    }

    fn admin(&self) -> Result<AdminClient<Observer>, LogError> {
        let mut config = self.clients.admin();
        config.set("statistics.interval.ms", "0");
        config
            .create_with_context::<_, AdminClient<Observer>>(self.clients.observer(Role::Admin))
            .map_err(|error| {
                LogError::Fatal(format!("no admin client can be made: {}", tell(&error)))
            })
    }

    /// The error of a call to the cluster; one that nobody answered names the brokers.
    pub fn unanswered(&self, what: &str, of: &str, error: &KafkaError) -> LogError {
        match error.rdkafka_error_code() {
            Some(
                Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::OperationTimedOut
                | Code::Resolve
                | Code::TimedOutQueue,
            ) => LogError::Retry(format!(
                "{what} of {of}: {}: {}",
                self.clients.health.silence(),
                tell(error)
            )),
            _ => log_error(what, of, error),
        }
    }
}

fn asking() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(CALL)).request_timeout(Some(CALL))
}

fn mismatch(spec: &TopicSpec, detail: String) -> LogError {
    LogError::Mismatch { topic: spec.name.clone(), detail }
}

fn known(resource: &ConfigResource) -> HashMap<String, String> {
    let entries = resource.entries.iter();
    entries.filter_map(|e| Some((e.name.clone(), e.value.clone()?))).collect()
}
