//! The directory of an embedded log, around the engine's own files: the lock, the high-water file
//! and the free space.
//!
//! ```text
//! PATH/lock           held as long as the log is open
//! PATH/acknowledged   the number of the last commit that was acknowledged as durable
//! PATH/engine/        what the engine keeps
//! ```
//!
//! The engine cuts a damaged journal off where the damage begins, and would come back with less than
//! was acknowledged without a word. `acknowledged` is why that does not go unnoticed: it is written
//! after each sync and before the answers, and never synced itself, so it can be behind the engine
//! (after a power loss) but never ahead of it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock, statvfs};
use xxhash_rust::xxh3::xxh3_64;

use crate::LogError;

/// The directory, locked for this process as long as this lives.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// Held, never read: dropping it gives the lock up.
    _lock: File,
    acknowledged: File,
}

impl Directory {
    /// Makes the directory if need be and locks it.
    pub fn open(path: PathBuf) -> Result<Self, LogError> {
        fs::create_dir_all(&path)
            .map_err(|e| fatal(&path, "cannot make the log's directory", &e))?;
        let mut open = OpenOptions::new();
        open.read(true).write(true).create(true).truncate(false);
        let lock = open
            .open(path.join("lock"))
            .map_err(|e| fatal(&path, "cannot open the log's lock file", &e))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(LogError::Locked(format!(
                    "the log in {} is in use by another process; stop that one, or give this one \
                     a directory of its own",
                    path.display()
                )));
            }
            Err(e) => return Err(fatal(&path, "cannot lock the log's directory", &e.into())),
        }
        let acknowledged = open
            .open(path.join("acknowledged"))
            .map_err(|e| fatal(&path, "cannot open the log's high-water file", &e))?;
        Ok(Self { path, _lock: lock, acknowledged })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the engine lives.
    pub fn engine(&self) -> PathBuf {
        self.path.join("engine")
    }

    /// The last commit that was acknowledged, as far as is known.
    pub fn acknowledged(&self) -> Result<u64, LogError> {
        let mut text = Vec::new();
        (&self.acknowledged)
            .take(64)
            .read_to_end(&mut text)
            .map_err(|e| fatal(&self.path, "cannot read the log's high-water file", &e))?;
        let Some((number, check)) = text.split_first_chunk::<8>() else { return Ok(0) };
        if check.first_chunk::<8>() == Some(&xxh3_64(number).to_be_bytes()) {
            return Ok(u64::from_be_bytes(*number));
        }
        if text.iter().any(|byte| *byte != 0) {
            tracing::warn!(
                path = %self.path.display(),
                "the log's high-water file is damaged: lost commits would not be noticed this time"
            );
        }
        Ok(0)
    }

    /// Notes that a commit is about to be acknowledged.
    pub fn acknowledge(&self, commit: u64) -> io::Result<()> {
        let number = commit.to_be_bytes();
        let mut text = [0; 16];
        text[..8].copy_from_slice(&number);
        text[8..].copy_from_slice(&xxh3_64(&number).to_be_bytes());
        self.acknowledged.write_all_at(&text, 0)
    }
}

/// Watches the free space of a file system.
#[derive(Debug)]
pub(crate) struct FreeSpace {
    path: PathBuf,
    least: u64,
}

impl FreeSpace {
    pub fn new(path: &Path, least: u64) -> Self {
        Self { path: path.to_owned(), least }
    }

    /// Fails when there is too little, with a sentence for the caller. `promised` bytes are taken
    /// already and still to be moved to their tables, or about to be written.
    pub fn check(&self, promised: u64) -> Result<(), String> {
        let path = self.path.display();
        let stat = statvfs(&self.path)
            .map_err(|e| format!("cannot see how full the disk of {path} is: {e}"))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let needed = self.least.saturating_add(promised);
        if free < needed {
            return Err(format!(
                "the disk of {path} has {free} bytes free, fewer than the {needed} that are needed \
                 (`log.min_free_bytes`, and what is still to be sorted): make room"
            ));
        }
        Ok(())
    }
}

/// An error with the path, what failed and why.
pub(crate) fn fatal(path: &Path, what: &str, error: &io::Error) -> LogError {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => ": check owner and permissions",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists if !path.is_dir() => {
            ": a file stands where a directory is needed; move it or choose another path"
        }
        _ => "",
    };
    LogError::Fatal(format!("{what} {}: {error}{hint}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_locked_for_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = Directory::open(dir.path().to_owned()).unwrap();
        let second = Directory::open(dir.path().to_owned());
        assert!(matches!(second, Err(LogError::Locked(_))), "{second:?}");
        drop(first);
        Directory::open(dir.path().to_owned()).unwrap();
    }

    #[test]
    fn the_last_acknowledged_commit_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let first = Directory::open(dir.path().to_owned()).unwrap();
        assert_eq!(first.acknowledged().unwrap(), 0);
        first.acknowledge(7).unwrap();
        first.acknowledge(8).unwrap();
        drop(first);
        assert_eq!(Directory::open(dir.path().to_owned()).unwrap().acknowledged().unwrap(), 8);
    }

    #[test]
    fn too_little_space_is_told_with_path_and_bound() {
        let dir = tempfile::tempdir().unwrap();
        let told = FreeSpace::new(dir.path(), u64::MAX).check(0).unwrap_err();
        assert!(told.contains(&dir.path().display().to_string()), "{told}");
        assert!(told.contains(&u64::MAX.to_string()), "{told}");
        FreeSpace::new(dir.path(), 0).check(0).unwrap();
    }
}
