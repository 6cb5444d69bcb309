//! A damaged log never opens as if nothing were wrong: whatever is done to its files, either
//! everything that was acknowledged is read back, or an error says so.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use eventlog::{Log, LogError, Options, Record, Retention, TopicSpec};

const APPENDS: usize = 40;
const PER_APPEND: usize = 100;

async fn open(path: &Path) -> Result<Log, LogError> {
    let options = Options { memory_bytes: 256 * 1024, ..Options::default() };
    eventlog::open(&format!("file:{}", path.display()), options).await
}

/// A log with more data than the engine keeps in memory, closed.
async fn filled(path: &Path) {
    let log = open(path).await.unwrap();
    let retention = Retention::Delete { age: None, bytes: None };
    let spec = TopicSpec { name: "t".into(), partitions: 2, replication: None, retention };
    log.ensure_topics(&[spec]).await.unwrap();
    for i in 0..APPENDS {
        let record = |j: usize| Record {
            key: Some(format!("{i}-{j}").into()),
            value: Some(vec![i as u8; 200].into()),
            ..Record::default()
        };
        for result in log.append("t", (0..PER_APPEND).map(record).collect()).await {
            result.unwrap();
        }
    }
    // Let the engine move what is due out of memory.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    drop(log);
    // The rest of a journal is empty room; without it the copies below are small.
    let mut all = Vec::new();
    files(path, &mut all);
    for file in all.iter().filter(|file| file.extension().is_some_and(|e| e == "jnl")) {
        let bytes = fs::read(file).unwrap();
        let empty = bytes.rchunks(4096).take_while(|c| **c == [0; 4096][..c.len()]).count() * 4096;
        let journal = fs::OpenOptions::new().write(true).open(file).unwrap();
        journal.set_len((bytes.len() - empty.min(bytes.len())) as u64).unwrap();
    }
}

/// Everything there is, or why not.
async fn read_all(path: &Path) -> Result<usize, LogError> {
    let log = open(path).await?;
    let mut count = 0;
    for partition in 0..2 {
        let bounds = log.bounds("t", partition).await?;
        let mut reader = log.read("t", partition, bounds.start, bounds.end).await?;
        while let Some((records, _)) = reader.next().await? {
            count += records.len();
        }
    }
    Ok(count)
}

fn files(path: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, into) } else { into.push(path) }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

type Inflict = fn(&Path);

/// What can be done to a file.
const DAMAGES: [(&str, Inflict); 4] = [
    ("garbage at its start", |file| overwrite(file, 0, 64)),
    ("garbage in its middle", |file| overwrite(file, 2, 4096)),
    ("cut in half", |file| {
        let length = fs::metadata(file).unwrap().len();
        fs::OpenOptions::new().write(true).open(file).unwrap().set_len(length / 2).unwrap();
    }),
    ("removed", |file| fs::remove_file(file).unwrap()),
];

fn overwrite(file: &Path, half: usize, count: usize) {
    let mut bytes = fs::read(file).unwrap();
    let at = bytes.len().checked_div(half).unwrap_or(0);
    let until = (at + count).min(bytes.len());
    bytes[at..until].iter_mut().for_each(|b| *b = b.wrapping_mul(31).wrapping_add(17));
    fs::write(file, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_to_any_file_is_told_or_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    filled(&whole).await;
    let mut all = Vec::new();
    files(&whole, &mut all);
    assert!(all.iter().any(|f| f.to_string_lossy().contains("blobs")), "some data left memory");
    let mut silent = Vec::new();
    for file in all {
        for (damage, inflict) in DAMAGES {
            let broken = dir.path().join("broken");
            copy(&whole, &broken);
            let name = file.strip_prefix(&whole).unwrap();
            inflict(&broken.join(name));
            let outcome = read_all(&broken).await;
            match &outcome {
                Ok(count) if *count == APPENDS * PER_APPEND => {}
                Err(LogError::Fatal(why)) if why.contains(&*broken.to_string_lossy()) => {}
                other => silent.push(format!("{} {damage}: {other:?}", name.display())),
            }
            fs::remove_dir_all(&broken).unwrap();
        }
    }
    assert!(silent.is_empty(), "{}", silent.join("\n"));
}
