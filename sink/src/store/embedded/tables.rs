//! The tables and how they are opened: engine settings, layout check, and errors in words.
//!
//! Memory stays bounded whatever is stored: memtables of a few MiB per table, one block cache,
//! filters and indexes read through that cache. Settings of a table are fixed when it is made.

use std::{
    ffi::OsString,
    fs::File,
    io::Read,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};

use fjall::{
    Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable,
    compaction::Leveled,
    config::{BloomConstructionPolicy, FilterPolicy, FilterPolicyEntry, PinningPolicy},
};

use super::keys::meta;
use crate::store::StoreError;

/// Version of everything in `keys` and `values`. Another one on disk is refused at open.
pub(super) const LAYOUT: u32 = 1;

const MIB: u64 = 1024 * 1024;

/// Handles on the tables; clones share them.
#[derive(Clone)]
pub(super) struct Tables {
    pub(super) db: Database,
    /// (namespace, type, time, source, id) to the event. The one full copy. A point read follows
    /// a pointer and finds its row, so that the last level needs no filter.
    pub(super) events: Keyspace,
    /// (namespace, subject, time, source, id) to the type: a pointer into `events`.
    pub(super) by_subject: Keyspace,
    /// (namespace, source, id) to the locator.
    pub(super) by_id: Keyspace,
    /// Rollup rows.
    pub(super) rollups: Keyspace,
    /// Epochs, positions, marks, definitions, the layout, and where expiry stands.
    pub(super) meta: Keyspace,
    pub(super) path: Arc<Path>,
}

impl Tables {
    /// Opens or makes the store in a folder.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let fatal = |why: String| StoreError::Fatal(format!("store {}: {why}", path.display()));
        check_folder(path).map_err(fatal)?;
        // The engine asserts on some forms of damage; to a user that is one more damaged folder.
        let opened = catch_unwind(AssertUnwindSafe(|| Self::open_engine(path)));
        let tables = match opened {
            Ok(Ok(tables)) => tables,
            Ok(Err(fjall::Error::Locked)) => return Err(locked(path)),
            Ok(Err(error)) => return Err(fatal(open_advice(&error))),
            Err(_) => {
                return Err(fatal(
                    "the data is damaged beyond what the engine can open; restore the folder \
                     from a copy, or move it away to start empty"
                        .into(),
                ));
            }
        };
        tables.check_layout()?;
        Ok(tables)
    }

    fn open_engine(path: &Path) -> fjall::Result<Self> {
        let db = Database::builder(path)
            // One worker sorts at a time. With two, one of them spins for as long as the other
            // compacts; what a single one cannot do in time is held back by the writer's brake.
            .worker_threads(1)
            .cache_size(24 * MIB)
            .max_journaling_size(128 * MIB)
            .max_cached_files(Some(200))
            .manual_journal_persist(true)
            .open()?;
        Ok(Self {
            events: db.keyspace("events", || {
                options(8 * MIB).filter_policy(bloom()).expect_point_read_hits(true)
            })?,
            by_subject: db.keyspace("by_subject", || {
                options(4 * MIB).filter_policy(FilterPolicy::disabled())
            })?,
            by_id: db.keyspace("by_id", || options(4 * MIB).filter_policy(bloom()))?,
            rollups: db.keyspace("rollups", || options(2 * MIB).filter_policy(bloom()))?,
            meta: db.keyspace("meta", || options(MIB))?,
            db,
            path: path.into(),
        })
    }

    fn check_layout(&self) -> Result<(), StoreError> {
        let found = self.meta.get(meta::LAYOUT).map_err(|e| self.read_error(&e))?;
        match found.as_deref().map(<[u8; 4]>::try_from) {
            None => {
                let mut batch = self.db.batch().durability(Some(PersistMode::SyncAll));
                batch.insert(&self.meta, meta::LAYOUT, LAYOUT.to_le_bytes());
                batch.commit().map_err(|e| self.write_error(&e))
            }
            Some(Ok(bytes)) if u32::from_le_bytes(bytes) == LAYOUT => Ok(()),
            Some(found) => Err(StoreError::Fatal(format!(
                "store {}: its layout is version {}, and this program reads version {LAYOUT}; \
                 run the program that wrote it, or move the folder away to start empty",
                self.path.display(),
                found.map_or_else(|_| "unknown".into(), |b| u32::from_le_bytes(b).to_string()),
            ))),
        }
    }

    /// What a failed read means to the caller.
    pub(super) fn read_error(&self, error: &fjall::Error) -> StoreError {
        let path = self.path.display();
        match error {
            fjall::Error::Io(e) | fjall::Error::Storage(fjall::LsmError::Io(e)) => {
                StoreError::Retry(format!("store {path}: cannot read: {e}"))
            }
            other => StoreError::Fatal(format!("store {path}: the data is damaged: {other:?}")),
        }
    }

    /// What a failed write means to the caller. After one the engine refuses every further
    /// write, since it cannot know what reached the disk; opening again is the way to find out.
    pub(super) fn write_error(&self, error: &fjall::Error) -> StoreError {
        let why = match error {
            fjall::Error::Io(e) | fjall::Error::Storage(fjall::LsmError::Io(e)) => e.to_string(),
            fjall::Error::Poisoned => "an earlier write failed".into(),
            other => format!("{other:?}"),
        };
        StoreError::Fatal(format!(
            "store {}: cannot write: {why}; nothing more is written until the process starts \
             again: make room or repair the disk, then restart it (nothing acknowledged is lost)",
            self.path.display()
        ))
    }

    /// A row that is not what was written.
    pub(super) fn damaged(&self, table: &Keyspace) -> StoreError {
        StoreError::Fatal(format!(
            "store {}: a row of table `{}` cannot be read; restore the folder from a copy",
            self.path.display(),
            table.name()
        ))
    }

    /// Reads one value from a snapshot.
    pub(super) fn get(
        &self,
        from: &impl Readable,
        table: &Keyspace,
        key: &[u8],
    ) -> Result<Option<fjall::UserValue>, StoreError> {
        from.get(table, key).map_err(|e| self.read_error(&e))
    }
}

/// The measured middle between how often rows are rewritten and how long one compaction takes
/// (and how much room it needs): many small tables, merged downwards eight at a time.
fn options(memtable: u64) -> KeyspaceCreateOptions {
    let leveled = Leveled::default().with_table_target_size(8 * MIB).with_l0_threshold(8);
    KeyspaceCreateOptions::default()
        .max_memtable_size(memtable)
        .compaction_strategy(Arc::new(leveled))
        .filter_block_pinning_policy(PinningPolicy::new([true, false]))
        .index_block_pinning_policy(PinningPolicy::new([true, false]))
}

/// Most look-ups find nothing, on every level.
fn bloom() -> FilterPolicy {
    FilterPolicy::all(FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(10.0)))
}

/// Tells an unusable path before the engine does, in words about the path.
fn check_folder(path: &Path) -> Result<(), String> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return std::fs::create_dir_all(path)
                .map_err(|e| format!("cannot make the folder: {e}"));
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => {
            return Err("it is not a folder; `store.url` needs the path of one".into());
        }
        Err(e) => return Err(format!("cannot read the folder: {e}; check its owner and mode")),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.map_err(|e| format!("cannot read the folder: {e}"))?.file_name());
    }
    let is_journal = |name: &OsString| Path::new(name).extension().is_some_and(|x| x == "jnl");
    if names.iter().any(|name| name == "version") || names.is_empty() {
        return names
            .iter()
            .filter(|name| is_journal(name))
            .try_for_each(|name| check_journal(&path.join(name)));
    }
    let own = |name: &OsString| name == "lock" || name == "keyspaces" || is_journal(name);
    if !names.iter().any(own) {
        // The engine would fill any folder; a path one level off must not scatter files.
        return Err("the folder holds other files and no store; `store.url` needs a folder of \
                    its own, or an empty one"
            .into());
    }
    clear_unfinished(path)
}

/// The engine takes whatever it cannot read of a journal for the end of it, as after a crash,
/// and cuts it off. A crash leaves the beginning whole (or still blank), so that anything else
/// there is damage, which must not pass in silence.
fn check_journal(path: &Path) -> Result<(), String> {
    const BLANK: u8 = 0;
    const BATCH: u8 = 1;
    let mut first = [BLANK];
    let read = File::open(path).and_then(|mut file| file.read(&mut first));
    match (read, first) {
        (Ok(_), [BLANK | BATCH]) => Ok(()),
        (Ok(_), _) => Err(format!(
            "the data is damaged: `{}` does not begin as a journal does; restore the folder from \
             a copy, or move it away to start empty",
            path.file_name().unwrap_or_default().display()
        )),
        (Err(e), _) => {
            Err(format!("cannot read {}: {e}; check its owner and mode", path.display()))
        }
    }
}

/// Removes what a very first start leaves that was cut short: a journal before there was a table.
/// The engine would refuse to go on from there for ever.
fn clear_unfinished(path: &Path) -> Result<(), String> {
    let io = |e: std::io::Error| format!("cannot clear an unfinished start: {e}");
    let tables = path.join("keyspaces");
    if tables.try_exists().map_err(io)? && std::fs::read_dir(&tables).map_err(io)?.next().is_some()
    {
        return Err("the data is damaged: there are tables but no `version` file; restore the \
                    folder from a copy"
            .into());
    }
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path.join("lock"))
        .map_err(io)?;
    // Held by another process that makes the store right now: the engine will say so.
    if lock.try_lock().is_ok() {
        match std::fs::remove_file(path.join("0.jnl")) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io(e)),
            _ => {}
        }
    }
    Ok(())
}

fn open_advice(error: &fjall::Error) -> String {
    match error {
        fjall::Error::Io(e) | fjall::Error::Storage(fjall::LsmError::Io(e))
            if e.kind() == std::io::ErrorKind::NotFound =>
        {
            "the data is damaged: a file is missing; restore the folder from a copy, or move it \
             away to start empty"
                .into()
        }
        fjall::Error::Io(e) | fjall::Error::Storage(fjall::LsmError::Io(e)) => {
            format!("cannot open it: {e}; check that the disk has room and the files their owner")
        }
        fjall::Error::InvalidVersion(_) => {
            "it was written by another version of the storage engine, or its `version` file is \
             damaged"
                .into()
        }
        other => format!(
            "the data is damaged ({other:?}); restore the folder from a copy, or move it away to \
             start empty"
        ),
    }
}

fn locked(path: &Path) -> StoreError {
    StoreError::Locked(format!(
        "store {}: another process has it open; stop that process, or set `store.url` to another \
         folder",
        path.display()
    ))
}
