//! The embedded log: everything in one directory, for one process at a time.
//!
//! ```text
//! append ──> queue ──> writer (one thread): batch ─> sync ─> show to readers ─> answer
//!                                                              │
//! read, subscribe <── memory (the last few MiB) <──────────────┘
//!                 <── engine (everything else)
//! ```
//!
//! * [`chunk`]: how records lie on disk; [`engine`]: the keyspaces they lie in; [`directory`]: lock,
//!   high-water file, free space.
//! * [`writer`]: group commit; [`topic`]: what readers can see; [`reader`]: how they read it.
//! * [`group`] and [`assign`]: members, leases, positions; [`subscription`]: a member's side.
//! * [`retention`]: what goes, and when. A compacted topic keeps everything for now.
//!
//! What is promised: an append is answered when it is synced; a transaction is one batch, so all of
//! it is there or nothing; positions committed without outputs are in order but not synced, and may
//! fall back after a power loss, never after a crash of the process. What is found damaged is an
//! error, at opening or at the latest when it is read.

mod assign;
mod chunk;
mod directory;
mod engine;
mod group;
mod reader;
mod retention;
mod subscription;
mod topic;
mod writer;

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex, RwLock, Weak, atomic::AtomicU64},
    thread::JoinHandle,
};

use async_trait::async_trait;
use tokio::{runtime::Handle, sync::Notify};
use uuid::Uuid;

use self::{
    chunk::{CHUNK_BYTES, Segment},
    directory::{Directory, FreeSpace},
    engine::Engine,
    group::Group,
    reader::{EmbeddedReader, Limits},
    subscription::Member,
    topic::{Cursor, Partition, RetentionRecord, Topic, TopicRecord, locked},
    writer::{Failure, Part, Queue, Write, Writer},
};
use crate::{
    AppendAtError, AppendError, Appended, Bounds, LogDriver, LogError, Options, Position,
    ReadDriver, Record, SubscriptionDriver, TopicInfo, TopicSpec,
};

const TOPIC_PREFIX: &[u8] = b"topic/";
const START_PREFIX: &[u8] = b"start/";

/// Opens the embedded log in a directory, which is made if need be.
pub async fn open(path: PathBuf, options: Options) -> Result<EmbeddedLog, LogError> {
    let runtime = Handle::current();
    let shown = path.display().to_string();
    // The engine may panic on files that are damaged in ways it does not expect.
    let opened = tokio::task::spawn_blocking(move || Core::open(path, options, runtime)).await;
    let running = opened.unwrap_or_else(|panic| {
        Err(LogError::Fatal(format!(
            "the log in {shown} is damaged: opening it failed ({panic}). Restore the directory from a copy"
        )))
    })?;
    retention::spawn(&running.core);
    Ok(EmbeddedLog(Arc::new(running)))
}

/// A handle on an embedded log; clones share it, and the last one closes it.
#[derive(Clone)]
pub struct EmbeddedLog(Arc<Running>);

/// The log with its writer's thread, which ends with it.
struct Running {
    core: Arc<Core>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.core.queue.close();
        if let Some(writer) = locked(&self.writer).take() {
            let _ = writer.join(); // it has told of its failure already
        }
    }
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
    transactors: Mutex<HashMap<Arc<str>, (Weak<Group>, u64)>>,
    leases: Arc<AtomicU64>,
    /// Topics are made one at a time.
    making: tokio::sync::Mutex<()>,
    free: Mutex<FreeSpace>,
}

/// Records on their way into a [`Write`].
#[derive(Default)]
pub(crate) struct Prepared {
    pub size: usize,
    topics: Vec<(Arc<Topic>, u64, u64)>,
    /// The partition for records without a key, by place in `topics`.
    keyless: Vec<u32>,
    parts: Vec<(usize, Part)>,
}

impl Prepared {
    pub fn finish(self) -> (Vec<(Arc<Topic>, u64, u64)>, Vec<Part>) {
        (self.topics, self.parts.into_iter().map(|(_, part)| part).collect())
    }

    /// Adds a record; answers which part it went to and its place there.
    fn push(&mut self, topic: &Arc<Topic>, record: &Record) -> (usize, u64) {
        let at = self.topics.iter().position(|(t, ..)| t.id == topic.id).unwrap_or_else(|| {
            self.topics.push((topic.clone(), 0, 0));
            self.keyless.push(topic.keyless());
            self.topics.len() - 1
        });
        let index = topic.place(record.key.as_deref(), self.keyless[at]);
        let size = record.size();
        self.size += size + 32;
        self.topics[at].1 += 1;
        self.topics[at].2 += size as u64;
        let known = self.parts.iter().position(|(t, p)| *t == at && p.partition.index == index);
        let which = known.unwrap_or_else(|| {
            let partition = topic.partitions[index as usize].clone();
            self.parts.push((at, Part { partition, segments: Vec::new() }));
            self.parts.len() - 1
        });
        let segments = &mut self.parts[which].1.segments;
        let place = segments.iter().map(|s| u64::from(s.count)).sum();
        match segments.last_mut().filter(|s| s.payload.len() + size <= CHUNK_BYTES) {
            Some(segment) => segment.push(record),
            None => {
                let mut segment = Segment::default();
                segment.push(record);
                segments.push(segment);
            }
        }
        (which, place)
    }
}

impl Core {
    fn open(path: PathBuf, options: Options, runtime: Handle) -> Result<Running, LogError> {
        let directory = Arc::new(Directory::open(path)?);
        let (engine, commit) = Engine::open(directory.clone(), options.memory_bytes)?;
        let engine = Arc::new(engine);
        let topics = load_topics(&engine)?;
        let queue = Arc::new(Queue::new(&options));
        let free = Mutex::new(FreeSpace::new(directory.path(), options.min_free_bytes));
        let path = directory.path().to_owned();
        let writer = Writer::new(engine.clone(), directory, queue.clone(), options.clone(), commit);
        let writer = std::thread::Builder::new()
            .name("eventlog-writer".into())
            .spawn(move || Writer::run_guarded(writer))
            .map_err(|e| directory::fatal(&path, "cannot start the writer of the log in", &e))?;
        let core = Arc::new(Self {
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
        });
        Ok(Running { core, writer: Mutex::new(Some(writer)) })
    }

    pub fn find(&self, name: &str) -> Result<Arc<Topic>, LogError> {
        let topics = self.topics.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        topics.get(name).cloned().ok_or_else(|| LogError::Unknown(name.to_owned()))
    }

    pub fn all_topics(&self) -> Vec<Arc<Topic>> {
        let topics = self.topics.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        topics.values().cloned().collect()
    }

    fn partition(&self, topic: &str, partition: u32) -> Result<Arc<Partition>, LogError> {
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

    fn fits(&self, record: &Record) -> Result<(), AppendError> {
        let (size, most) = (record.size(), self.options.max_record_bytes);
        if size > most {
            return Err(AppendError::Refused(format!(
                "the record has {size} bytes, more than the {most} the log takes"
            )));
        }
        Ok(())
    }

    /// A group, with its positions in a topic loaded.
    fn group(&self, name: &str, topics: &[Arc<Topic>]) -> Result<Arc<Group>, LogError> {
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
        let before = locked(&self.transactors).insert(id, (Arc::downgrade(group), member));
        if let Some((group, member)) = before
            && let Some(group) = group.upgrade()
        {
            group.fence(member);
        }
    }

    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<(), LogError> {
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
                let mut topics =
                    self.topics.write().unwrap_or_else(std::sync::PoisonError::into_inner);
                topics.insert(spec.name.clone(), topic);
            }
        }
        Ok(())
    }
}

impl EmbeddedLog {
    pub(crate) fn core(&self) -> &Core {
        &self.0.core
    }

    /// Takes now what retention may take, instead of waiting for the next period.
    pub async fn retain(&self) -> Result<(), LogError> {
        retention::retain(&self.0.core).await
    }

    /// Takes what is before a position of a partition, whatever its topic's retention says; whole
    /// chunks, so up to a chunk's records before it may stay.
    pub async fn take_before(
        &self,
        topic: &str,
        partition: u32,
        before: Position,
    ) -> Result<(), LogError> {
        let core = &self.0.core;
        let topic = core.find(topic)?;
        let partition = core.partition(&topic.name, partition)?;
        retention::take(core, &topic, &partition, retention::Rule::Before(before)).await?;
        Ok(())
    }
}

#[async_trait]
impl LogDriver for EmbeddedLog {
    async fn ensure_topics(&self, specs: &[TopicSpec]) -> Result<(), LogError> {
        let _one = self.core().making.lock().await;
        for spec in specs {
            self.core().ensure_topic(spec).await?;
        }
        Ok(())
    }

    async fn topic(&self, topic: &str) -> Result<TopicInfo, LogError> {
        Ok(self.core().find(topic)?.info())
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>, LogError> {
        Ok(self.core().all_topics().iter().map(|topic| topic.info()).collect())
    }

    async fn bounds(&self, topic: &str, partition: u32) -> Result<Bounds, LogError> {
        Ok(self.core().partition(topic, partition)?.bounds())
    }

    async fn position_at(
        &self,
        topic: &str,
        partition: u32,
        appended_at: i64,
    ) -> Result<Position, LogError> {
        let partition = self.core().partition(topic, partition)?;
        let engine = self.core().engine.clone();
        tokio::task::spawn_blocking(move || reader::position_at(&engine, &partition, appended_at))
            .await
            .unwrap_or_else(|e| Err(LogError::Fatal(format!("looking up a time failed: {e}"))))
    }

    async fn append(
        &self,
        topic: &str,
        records: Vec<Record>,
    ) -> Vec<Result<Appended, AppendError>> {
        let core = self.core();
        let topic = match core.find(topic) {
            Ok(topic) => topic,
            Err(e) => {
                let refused = AppendError::Refused(e.to_string());
                return records.iter().map(|_| Err(refused.clone())).collect();
            }
        };
        let mut prepared = Prepared::default();
        let places: Vec<_> = records
            .iter()
            .map(|record| core.fits(record).map(|()| prepared.push(&topic, record)))
            .collect();
        drop(records); // they are copied into the segments, and may be large
        if prepared.parts.is_empty() {
            return places.into_iter().map(|place| place.map(|_| nowhere())).collect();
        }
        let partitions: Vec<u32> = prepared.parts.iter().map(|(_, p)| p.partition.index).collect();
        let size = prepared.size;
        let (topics, parts) = prepared.finish();
        let bases =
            core.written(Write { topics, parts, sync: true, size, ..Write::default() }).await;
        let result = |place: Result<(usize, u64), AppendError>| {
            let (part, at) = place?;
            let bases = bases.as_ref().map_err(|failure| AppendError::from(failure.clone()))?;
            Ok(Appended { partition: partitions[part], offset: bases[part] + at })
        };
        places.into_iter().map(result).collect()
    }

    async fn append_at(
        &self,
        topic: &str,
        expected_end: Position,
        records: Vec<Record>,
    ) -> Result<Position, AppendAtError> {
        let core = self.core();
        let refused = |why: String| AppendAtError::Append(AppendError::Refused(why));
        let topic = core.find(topic).map_err(|e| refused(e.to_string()))?;
        let [partition] = &topic.partitions[..] else {
            return Err(refused(format!(
                "{} has {} partitions; only a topic of one can be appended to at an expected end",
                topic.name,
                topic.partitions.len()
            )));
        };
        let mut prepared = Prepared::default();
        for record in &records {
            core.fits(record)?;
            prepared.push(&topic, record);
        }
        let count = records.len() as u64;
        let size = prepared.size;
        let (topics, mut parts) = prepared.finish();
        if parts.is_empty() {
            let end = partition.bounds().end;
            return if end == expected_end {
                Ok(end)
            } else {
                Err(AppendAtError::Conflict { end })
            };
        }
        parts.truncate(1);
        // It counts as a transaction, as it is one on Kafka, and leaves a hole like one.
        let write = Write {
            topics,
            parts,
            expected_end: Some(expected_end),
            burn: true,
            sync: true,
            size,
            ..Write::default()
        };
        match core.written(write).await {
            Ok(bases) => Ok(bases.first().map_or(expected_end, |base| base + count + 1)),
            Err(Failure::Conflict(end)) => Err(AppendAtError::Conflict { end }),
            Err(failure) => Err(AppendAtError::Append(failure.into())),
        }
    }

    async fn read(
        &self,
        topic: &str,
        partition: u32,
        from: Position,
        to: Position,
    ) -> Result<Box<dyn ReadDriver>, LogError> {
        let core = self.core();
        let partition = core.partition(topic, partition)?;
        let bounds = partition.bounds();
        if from < bounds.start || from > bounds.end {
            return Err(reader::out_of_range(&partition, from, bounds));
        }
        Ok(Box::new(EmbeddedReader {
            _log: self.clone(),
            engine: core.engine.clone(),
            partition,
            at: from,
            to: to.min(bounds.end),
            limits: Limits::from(&core.options),
        }))
    }

    async fn subscribe(
        &self,
        group: &str,
        topics: &[&str],
    ) -> Result<Box<dyn SubscriptionDriver>, LogError> {
        let core = self.core();
        let topics: Vec<_> = topics.iter().map(|name| core.find(name)).collect::<Result<_, _>>()?;
        let group = core.group(group, &topics)?;
        let notify = Arc::new(Notify::new());
        topics.iter().for_each(|topic| topic.listen(&notify));
        let names = topics.iter().map(|topic| topic.name.clone()).collect();
        let id = group.join(names, notify.clone());
        Ok(Box::new(Member::new(self.clone(), group, id, notify)))
    }

    async fn committed(&self, group: &str, topic: &str) -> Result<Vec<Option<Position>>, LogError> {
        let topic = self.core().find(topic)?;
        Ok(self.core().group(group, std::slice::from_ref(&topic))?.committed(&topic))
    }

    fn status(&self) -> Result<(), LogError> {
        if let Some(why) = self.core().queue.failed.get() {
            return Err(LogError::Fatal(why.clone()));
        }
        locked(&self.core().free).check().map_err(LogError::Retry)
    }
}

/// Never given out: a record that was refused has no place.
fn nowhere() -> Appended {
    Appended { partition: 0, offset: 0 }
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
