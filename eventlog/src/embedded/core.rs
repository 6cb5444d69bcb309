//! What all parts of an open log share: opening it, finding topics and groups, writing and waiting.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock, Weak, atomic::AtomicU64},
    thread::JoinHandle,
};

use tokio::runtime::Handle;
use uuid::Uuid;

use super::{
    directory::{self, Directory, FreeSpace},
    engine::Engine,
    group::Group,
    prepare::Prepared,
    queue::{Failure, Queue, Write},
    retention,
    topic::{Cursor, Partition, RetentionRecord, Topic, TopicRecord, locked},
    writer::Writer,
};
use crate::{AppendError, LogError, Options, Position, Record, TopicSpec};

const TOPIC_PREFIX: &[u8] = b"topic/";

/// A member that holds a transactional id.
struct Holder {
    group: Weak<Group>,
    member: u64,
}

/// What all parts of an open log share.
pub(crate) struct Core {
    pub engine: Arc<Engine>,
    pub queue: Arc<Queue>,
    pub options: Options,
    pub runtime: Handle,
    topics: RwLock<BTreeMap<Arc<str>, Arc<Topic>>>,
    groups: Mutex<HashMap<Arc<str>, Arc<Group>>>,
    /// Who holds a transactional id.
    transactors: Mutex<HashMap<Arc<str>, Holder>>,
    leases: Arc<AtomicU64>,
    /// Topics are made one at a time.
    pub making: tokio::sync::Mutex<()>,
    pub free: FreeSpace,
}

impl Core {
    /// Opens everything and starts the writer; blocks.
    pub fn open(
        path: PathBuf,
        options: Options,
        runtime: Handle,
    ) -> Result<(Self, JoinHandle<()>), LogError> {
        let directory = Arc::new(Directory::open(path)?);
        let (engine, commit) = Engine::open(directory.clone(), options.memory_bytes)?;
        let engine = Arc::new(engine);
        let topics = load_topics(&engine)?;
        let queue = Arc::new(Queue::new(&options));
        let free = FreeSpace::new(directory.path(), options.min_free_bytes);
        let path = directory.path().to_owned();
        let writer = Writer::new(engine.clone(), directory, queue.clone(), options.clone(), commit);
        let writer = std::thread::Builder::new()
            .name("eventlog-writer".into())
            .spawn(move || Writer::run_guarded(writer))
            .map_err(|e| directory::fatal(&path, "cannot start the writer of the log in", &e))?;
        let core = Self {
            engine,
            queue,
            options,
            runtime,
            topics: RwLock::new(topics),
            groups: Mutex::default(),
            transactors: Mutex::default(),
            leases: Arc::default(),
            making: tokio::sync::Mutex::default(),
            free,
        };
        Ok((core, writer))
    }

    pub fn find(&self, name: &str) -> Result<Arc<Topic>, LogError> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        topics.get(name).cloned().ok_or_else(|| LogError::Unknown(name.to_owned()))
    }

    pub fn all_topics(&self) -> Vec<Arc<Topic>> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        topics.values().cloned().collect()
    }

    pub fn partition(&self, topic: &str, partition: u32) -> Result<Arc<Partition>, LogError> {
        let found = self.find(topic)?.partitions.get(partition as usize).cloned();
        found.ok_or_else(|| LogError::Unknown(format!("{topic}/{partition}")))
    }

    /// Writes and waits, up to the deadline.
    pub async fn written(&self, write: Write) -> Result<Vec<Position>, Failure> {
        let answer = self.queue.submit(write);
        match tokio::time::timeout(self.options.commit_deadline, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Failure::Unknown("the log's writer ended".into())),
            Err(_) => Err(Failure::Unknown(format!(
                "the disk did not answer within {:?}",
                self.options.commit_deadline
            ))),
        }
    }

    /// [`Core::written`] with the errors of everything but appends.
    pub async fn write(&self, write: Write) -> Result<Vec<Position>, LogError> {
        Ok(self.written(write).await?)
    }

    /// Adds a record to a write.
    pub fn prepare(
        &self,
        prepared: &mut Prepared,
        topic: &str,
        record: &Record,
    ) -> Result<(), LogError> {
        let topic = self.find(topic)?;
        self.fits(record).map_err(|e| LogError::Fatal(e.to_string()))?;
        prepared.push(&topic, record);
        Ok(())
    }

    pub fn fits(&self, record: &Record) -> Result<(), AppendError> {
        let (size, most) = (record.size(), self.options.max_record_bytes);
        if size > most {
            return Err(AppendError::Refused(format!(
                "the record has {size} bytes, more than the {most} the log takes"
            )));
        }
        Ok(())
    }

    /// A group, with its positions in a topic loaded.
    pub fn group(&self, name: &str, topics: &[Arc<Topic>]) -> Result<Arc<Group>, LogError> {
        if name.is_empty() || name.contains('\0') {
            return Err(LogError::Fatal(format!("`{}` cannot name a group", name.escape_debug())));
        }
        let mut groups = locked(&self.groups);
        let group = groups.entry(name.into()).or_insert_with_key(|name| {
            let deadline = self.options.revoke_deadline;
            let metrics = self.options.metrics.clone();
            let runtime = self.runtime.clone();
            Arc::new(Group::new(name.clone(), self.leases.clone(), deadline, metrics, runtime))
        });
        for topic in topics.iter().filter(|topic| !group.knows(topic)) {
            let mut positions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let stored = self.engine.meta(&Group::key_of(name, topic.id, partition.index))?;
                let stored = stored.as_deref().and_then(|position| position.first_chunk::<8>());
                positions.push(stored.map(|position| u64::from_be_bytes(*position)));
            }
            group.know(topic, |partition| positions.get(partition as usize).copied().flatten());
        }
        Ok(group.clone())
    }

    /// Gives a transactional id to a member; who had it before is fenced.
    pub fn claim(&self, id: Arc<str>, group: &Arc<Group>, member: u64) {
        let before =
            locked(&self.transactors).insert(id, Holder { group: Arc::downgrade(group), member });
        if let Some(before) = before
            && let Some(group) = before.group.upgrade()
        {
            group.fence(before.member);
        }
    }

    pub async fn ensure_topic(&self, spec: &TopicSpec) -> Result<(), LogError> {
        check_name(&spec.name)?;
        let retention = RetentionRecord::from(&spec.retention);
        let existing = self.find(&spec.name).ok();
        let record = match &existing {
            Some(topic) => {
                let partitions = topic.partitions.len() as u32;
                if partitions != spec.partitions {
                    return Err(LogError::Mismatch {
                        topic: spec.name.clone(),
                        detail: format!(
                            "has {partitions} partitions, the configuration says {}; set it back, or \
                             name a new topic",
                            spec.partitions
                        ),
                    });
                }
                if topic.retention() == spec.retention {
                    return Ok(());
                }
                TopicRecord { id: topic.id, partitions, incarnation: topic.incarnation, retention }
            }
            None if spec.partitions == 0 => {
                return Err(LogError::Mismatch {
                    topic: spec.name.clone(),
                    detail: "needs at least one partition".into(),
                });
            }
            None => TopicRecord {
                id: self.all_topics().iter().map(|topic| topic.id + 1).max().unwrap_or(0),
                partitions: spec.partitions,
                incarnation: Uuid::new_v4().as_u64_pair().0,
                retention,
            },
        };
        let key = [TOPIC_PREFIX, spec.name.as_bytes()].concat();
        let value = serde_json::to_vec(&record).map_err(|e| LogError::Fatal(e.to_string()))?;
        let meta = vec![(key, value)];
        self.write(Write { meta, sync: true, size: 256, ..Write::default() }).await?;
        match existing {
            Some(topic) => topic.set_retention(spec.retention.clone()),
            None => {
                let partition = |index| {
                    let name = spec.name.clone();
                    Arc::new(Partition::new(name, record.id, index, 0, Cursor::default()))
                };
                let partitions = (0..record.partitions).map(partition).collect();
                let topic = Arc::new(Topic::new(spec.name.clone(), &record, partitions));
                let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
                topics.insert(spec.name.clone(), topic);
            }
        }
        Ok(())
    }
}

/// Kafka's rule for names, so that every topic could live there too.
fn check_name(name: &str) -> Result<(), LogError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty()
        || name.len() > 249
        || !name.chars().all(allowed)
        || matches!(name, "." | "..")
    {
        return Err(LogError::Mismatch {
            topic: name.into(),
            detail: "its name may have up to 249 of the characters a-z A-Z 0-9 . _ -".into(),
        });
    }
    Ok(())
}

/// Every topic as the engine has it, checked.
fn load_topics(engine: &Engine) -> Result<BTreeMap<Arc<str>, Arc<Topic>>, LogError> {
    let mut topics = BTreeMap::new();
    for (name, value) in engine.meta_under(TOPIC_PREFIX)? {
        let name =
            std::str::from_utf8(&name).map_err(|_| engine.wrong("a topic's name is not text"))?;
        let name: Arc<str> = name.into();
        let record: TopicRecord = serde_json::from_slice(&value).map_err(|e| {
            engine.wrong(&format!("what is kept of topic {name} cannot be read: {e}"))
        })?;
        let mut partitions = Vec::with_capacity(record.partitions as usize);
        for index in 0..record.partitions {
            let start = retention::load_start(engine, record.id, index)?;
            let cursor = match engine.meta(&Cursor::key_of(record.id, index))? {
                None => Cursor::default(),
                Some(stored) => Cursor::from_bytes(&stored)
                    .ok_or_else(|| engine.wrong("where a partition ends cannot be read"))?,
            };
            engine
                .check_chain(record.id, index, start, cursor.next)
                .map_err(|what| engine.wrong(&format!("{what} in {name}/{index}")))?;
            partitions.push(Arc::new(Partition::new(
                name.clone(),
                record.id,
                index,
                start,
                cursor,
            )));
        }
        topics.insert(name.clone(), Arc::new(Topic::new(name, &record, partitions)));
    }
    Ok(topics)
}
