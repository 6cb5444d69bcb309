//! A disk that forgets what was not synced: see `native/disk.c`.

use std::{
    collections::HashMap,
    fs::OpenOptions,
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

/// Compiles the layer that is loaded before libc, and answers where it is.
pub fn layer(dir: &Path) -> Result<PathBuf> {
    let library = dir.join("disk.so");
    let status = Command::new(std::env::var("CC").unwrap_or_else(|_| "cc".into()))
        .args(["-O1", "-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/native/disk.c"))
        .arg("-ldl")
        .status()
        .context("a C compiler is needed")?;
    ensure!(status.success(), "the C compiler failed");
    Ok(library)
}

/// What is known of a file's unsynced writes.
#[derive(Debug, Default)]
struct File {
    /// (offset, length) of each write since the last sync.
    unsynced: Vec<(u64, u64)>,
    /// Where the furthest synced byte ends.
    synced_end: u64,
    /// Syncs under way: ticket and how many of `unsynced` they cover.
    syncing: HashMap<u64, usize>,
}

/// Takes away from the files what the journal says was written and never synced: a power cut.
/// Answers how many bytes were taken.
pub fn forget(journal: &Path) -> Result<u64> {
    let text = std::fs::read_to_string(journal).context("the disk's journal")?;
    let mut files: HashMap<PathBuf, File> = HashMap::new();
    for line in text.lines() {
        let (kind, rest) = line.split_at(2.min(line.len()));
        match kind {
            "W " => {
                let mut parts = rest.splitn(3, ' ');
                let at = parts.next().unwrap_or_default().parse()?;
                let length = parts.next().unwrap_or_default().parse()?;
                let path = parts.next().unwrap_or_default().into();
                // What lies before the first write seen was there before the journal began.
                let new = || File { synced_end: at, ..File::default() };
                files.entry(path).or_insert_with(new).unsynced.push((at, length));
            }
            "F " => {
                let (ticket, path) = rest.split_once(' ').context("a sync without a path")?;
                let file = files.entry(path.into()).or_default();
                file.syncing.insert(ticket.parse()?, file.unsynced.len());
            }
            "S " => {
                let (ticket, path) = rest.split_once(' ').context("a sync without a path")?;
                let file = files.entry(path.into()).or_default();
                file.synced(ticket.parse()?);
            }
            "T " => {
                let (length, path) = rest.split_once(' ').context("a length without a path")?;
                let file = files.entry(path.into()).or_default();
                // The length itself is taken to survive; only bytes are forgotten.
                file.synced_end = file.synced_end.max(length.parse()?);
            }
            "R " => {
                let (from, to) = rest.split_once('\t').context("a rename without a target")?;
                if let Some(file) = files.remove(Path::new(from)) {
                    files.insert(to.into(), file);
                }
            }
            _ => anyhow::bail!("the disk's journal has a line `{line}`"),
        }
    }
    let mut forgotten = 0;
    for (path, file) in files {
        if path.exists() {
            forgotten += file.forget(&path).with_context(|| path.display().to_string())?;
        }
    }
    Ok(forgotten)
}

impl File {
    fn synced(&mut self, ticket: u64) {
        let Some(covered) = self.syncing.remove(&ticket) else { return };
        for (at, length) in self.unsynced.drain(..covered.min(self.unsynced.len())) {
            self.synced_end = self.synced_end.max(at + length);
        }
        for other in self.syncing.values_mut() {
            *other = other.saturating_sub(covered);
        }
    }

    /// Zeroes what was not synced, and cuts off what lies beyond all that was.
    fn forget(&self, path: &Path) -> Result<u64> {
        let mut file = OpenOptions::new().write(true).open(path)?;
        let length = file.metadata()?.len();
        let mut forgotten = 0;
        for &(at, size) in &self.unsynced {
            let end = (at + size).min(length);
            if at < end {
                file.seek(SeekFrom::Start(at))?;
                file.write_all(&vec![0; usize::try_from(end - at)?])?;
                forgotten += end - at;
            }
        }
        if !self.unsynced.is_empty() && self.synced_end < length {
            file.set_len(self.synced_end)?;
        }
        Ok(forgotten)
    }
}
