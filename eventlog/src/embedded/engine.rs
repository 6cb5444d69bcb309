//! The storage engine under the embedded log: two keyspaces of one `fjall` database.
//!
//! `chunks` holds the records ([`super::chunk`]), `meta` everything small: topics, where partitions
//! start, positions of groups, and the number of the last commit. Only the writer's thread writes.
//! Whatever is found damaged is an error with the path and what is wrong; nothing is repaired by
//! guessing.

use std::{fs, io, path::Path, sync::Arc};

use bytes::Bytes;
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode,
    config::{BlockSizePolicy, FilterPolicy, PinningPolicy},
};

use super::{
    chunk::{Chunk, ChunkKey},
    directory::{Directory, fatal},
};
use crate::{LogError, Position};

const MIB: u64 = 1024 * 1024;
/// Values from here on are kept out of the sorted tables, so that compaction never moves them.
const SEPARATE_FROM: u32 = 4096;
/// How many of the last chunks of each partition are checked for completeness at opening: more than
/// the engine's journals can hold, which is where a crash can leave its marks.
const CHECK_CHUNKS: usize = 20_000;
const COMMIT_KEY: &[u8] = b"commit";

/// The engine's keyspaces.
pub(crate) struct Engine {
    db: Database,
    chunks: Keyspace,
    meta: Keyspace,
    /// Last, so that the lock goes when the engine is closed.
    directory: Arc<Directory>,
}

/// Changes that are committed together.
pub(crate) struct Changes(fjall::OwnedWriteBatch);

impl Engine {
    /// Opens or makes the engine of a directory; blocks, and may panic on files that are damaged in
    /// ways the engine does not expect: the caller catches that.
    pub fn open(directory: Arc<Directory>, memory: u64) -> Result<(Self, u64), LogError> {
        let acknowledged = directory.acknowledged()?;
        let path = directory.engine();
        prepare(&path, acknowledged)?;
        let failed = |e: fjall::Error| damaged(&path, "cannot open the log", &e);
        let db = Database::builder(&path)
            .cache_size(8 * MIB)
            .journal_compression(CompressionType::None)
            .max_journaling_size(128 * MIB)
            .worker_threads(2)
            .max_cached_files(Some(128))
            .open()
            .map_err(failed)?;
        let chunks = db.keyspace("chunks", || chunk_options(memory)).map_err(failed)?;
        let meta = db
            .keyspace("meta", || KeyspaceCreateOptions::default().max_memtable_size(2 * MIB))
            .map_err(failed)?;
        // The engine synced its own directory; the entry that leads to it is ours to sync.
        for folder in [Some(directory.path()), directory.path().parent()].into_iter().flatten() {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            fs::File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(|e| fatal(folder, "cannot sync the directory", &e))?;
        }
        let engine = Self { db, chunks, meta, directory };
        let commit = match engine.meta(COMMIT_KEY)? {
            None => 0,
            Some(number) => match number.first_chunk::<8>() {
                Some(number) => u64::from_be_bytes(*number),
                None => {
                    return Err(LogError::Fatal(format!(
                        "the log in {} is damaged: its commit number has {} bytes",
                        path.display(),
                        number.len()
                    )));
                }
            },
        };
        if commit < acknowledged {
            return Err(LogError::Fatal(format!(
                "the log in {} is damaged: it ends at commit {commit}, but {acknowledged} were \
                 acknowledged as durable. Restore the directory from a copy. To accept the loss, \
                 remove the file `acknowledged` in it",
                engine.directory.path().display()
            )));
        }
        Ok((engine, commit))
    }

    /// Bytes in memory that are still to be written to tables.
    pub fn unsorted(&self) -> u64 {
        self.db.write_buffer_size()
    }

    pub fn changes(&self) -> Changes {
        Changes(self.db.batch())
    }

    /// Commits, as the commit of that number; `sync` makes it durable before this returns.
    pub fn commit(
        &self,
        mut changes: Changes,
        commit: u64,
        sync: bool,
    ) -> Result<(), fjall::Error> {
        changes.0.insert(&self.meta, COMMIT_KEY, commit.to_be_bytes());
        let mode = if sync { PersistMode::SyncData } else { PersistMode::Buffer };
        changes.0.durability(Some(mode)).commit()
    }

    pub fn put_chunk(&self, changes: &mut Changes, key: ChunkKey, value: Bytes) {
        changes.0.insert(&self.chunks, key.to_bytes(), value);
    }

    pub fn remove_chunk(&self, changes: &mut Changes, key: ChunkKey) {
        changes.0.remove(&self.chunks, key.to_bytes());
    }

    pub fn put_meta(&self, changes: &mut Changes, key: &[u8], value: &[u8]) {
        changes.0.insert(&self.meta, key, value);
    }

    /// A small value.
    pub fn meta(&self, key: &[u8]) -> Result<Option<Bytes>, LogError> {
        let value = self.meta.get(key).map_err(|e| self.unreadable(&e))?;
        Ok(value.map(Bytes::from))
    }

    /// Small values whose keys begin so, with the rest of their keys.
    pub fn meta_under(&self, prefix: &[u8]) -> Result<Vec<(Bytes, Bytes)>, LogError> {
        self.meta
            .prefix(prefix)
            .map(|guard| {
                let (key, value) = guard.into_inner().map_err(|e| self.unreadable(&e))?;
                Ok((Bytes::from(key).slice(prefix.len()..), Bytes::from(value)))
            })
            .collect()
    }

    /// The chunk that holds a position: the last one with a base at or before it.
    pub fn chunk_at(
        &self,
        topic: u32,
        partition: u32,
        at: Position,
    ) -> Result<Option<Chunk>, LogError> {
        let range = ChunkKey::lower(topic, partition, 0)..=ChunkKey::upper(topic, partition, at);
        self.chunks.range(range).next_back().map(|guard| self.decode(guard)).transpose()
    }

    /// The chunks with a base at or after a position, in order.
    pub fn chunks_from(
        &self,
        topic: u32,
        partition: u32,
        from: Position,
    ) -> impl Iterator<Item = Result<Chunk, LogError>> {
        let range =
            ChunkKey::lower(topic, partition, from)..=ChunkKey::upper(topic, partition, u64::MAX);
        self.chunks.range(range).map(|guard| self.decode(guard))
    }

    /// Checks that the last chunks of a partition follow one another from `start` to `end`.
    pub fn check_chain(
        &self,
        topic: u32,
        partition: u32,
        start: Position,
        end: Position,
    ) -> Result<(), String> {
        let range =
            ChunkKey::lower(topic, partition, start)..=ChunkKey::upper(topic, partition, u64::MAX);
        let missing = |from, to| Err(format!("records {from}..{to} are missing"));
        let (mut after, mut checked) = (end, 0);
        for guard in self.chunks.range(range).rev().take(CHECK_CHUNKS) {
            let key = guard.key().map_err(|e| e.to_string())?;
            let Some(key) = ChunkKey::from_bytes(&key) else {
                return Err(format!("a chunk key has {} bytes", key.len()));
            };
            if key.next != after {
                return missing(key.next, after);
            }
            after = key.base;
            checked += 1;
        }
        if checked < CHECK_CHUNKS && after > start { missing(start, after) } else { Ok(()) }
    }

    /// Forces the engine to give back the space of what was removed; blocks.
    pub fn reclaim(&self) -> Result<(), LogError> {
        self.chunks.major_compact().map_err(|e| self.unreadable(&e))
    }

    fn decode(&self, guard: fjall::Guard) -> Result<Chunk, LogError> {
        let (key, value) = guard.into_inner().map_err(|e| self.unreadable(&e))?;
        Chunk::decode(&key, Bytes::from(value)).map_err(|what| self.wrong(&what))
    }

    /// An error for data that cannot be right.
    pub fn wrong(&self, what: &str) -> LogError {
        LogError::Fatal(format!(
            "the log in {} is damaged: {what}",
            self.directory.path().display()
        ))
    }

    fn unreadable(&self, e: &fjall::Error) -> LogError {
        damaged(self.directory.path(), "cannot read the log", e)
    }
}

/// How chunks are kept. They are written once, read in order and deleted from the head: no point
/// reads, so no filters; large values stay where they were first written.
fn chunk_options(memory: u64) -> KeyspaceCreateOptions {
    let separation = KvSeparationOptions::default()
        .separation_threshold(SEPARATE_FROM)
        .compression(CompressionType::None)
        .file_target_size(64 * MIB)
        .staleness_threshold(0.75)
        .age_cutoff(1.0);
    KeyspaceCreateOptions::default()
        .max_memtable_size(memory)
        .with_kv_separation(Some(separation))
        .filter_policy(FilterPolicy::disabled())
        .index_block_pinning_policy(PinningPolicy::disabled())
        .data_block_size_policy(BlockSizePolicy::all(16 * 1024))
}

/// Refuses a directory that is not an engine's, and clears away one that a crash left half made.
fn prepare(path: &Path, acknowledged: u64) -> Result<(), LogError> {
    let marker = path.join("version");
    let exists = |path: &Path| {
        path.try_exists().map_err(|e| fatal(path, "cannot look into the log's directory", &e))
    };
    if exists(&marker)? {
        return check_keyspaces(path);
    }
    if !exists(path)? {
        if acknowledged == 0 {
            return Ok(());
        }
        return Err(LogError::Fatal(format!(
            "the log in {} is damaged: {acknowledged} commits were acknowledged, but its data is \
             gone. Restore the directory from a copy",
            path.display()
        )));
    }
    // The marker is written last, so without it nothing was ever stored, or somebody removed it.
    if acknowledged > 0 || exists(&path.join("keyspaces").join("1"))? {
        return Err(LogError::Fatal(format!(
            "the log in {} is damaged: its file `version` is missing. Restore the directory from a copy",
            path.display()
        )));
    }
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(fatal(path, "cannot clear away the half-made log in", &e))
        }
        _ => Ok(()),
    }
}

/// The engine takes a keyspace without its file `current` for one that was never finished, and
/// removes it. One that has data was finished.
fn check_keyspaces(path: &Path) -> Result<(), LogError> {
    let failed = |e: io::Error| fatal(path, "cannot look into the log's directory", &e);
    let is_filled = |folder: &Path| match fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    };
    for entry in fs::read_dir(path.join("keyspaces")).map_err(failed)? {
        let keyspace = entry.map_err(failed)?.path();
        if !keyspace.is_dir() || keyspace.join("current").try_exists().map_err(failed)? {
            continue;
        }
        let filled = ["tables", "blobs"].map(|folder| is_filled(&keyspace.join(folder)));
        for filled in filled {
            if filled.map_err(failed)? {
                return Err(LogError::Fatal(format!(
                    "the log is damaged: the file `current` is missing in {}. Restore the \
                     directory from a copy",
                    keyspace.display()
                )));
            }
        }
    }
    Ok(())
}

/// Whether an error comes of what a file holds and not of the disk: places outside of it, or too few
/// bytes.
fn of_content(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof)
}

/// An engine's error in words an operator can use.
fn damaged(path: &Path, what: &str, error: &fjall::Error) -> LogError {
    use std::error::Error;
    let io = match error {
        fjall::Error::Io(e) => Some(e),
        other => {
            other.source().and_then(|e| e.source()).and_then(|e| e.downcast_ref::<io::Error>())
        }
    };
    match (error, io) {
        (fjall::Error::Locked, _) => LogError::Locked(format!(
            "the log in {} is in use by another process; stop that one, or give this one a \
             directory of its own",
            path.display()
        )),
        (_, Some(e)) if !of_content(e) => fatal(path, &format!("{what} in"), e),
        _ => LogError::Fatal(format!(
            "{what} in {}: its files are damaged ({error}). Restore the directory from a copy",
            path.display()
        )),
    }
}
