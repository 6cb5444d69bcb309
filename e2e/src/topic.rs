//! What a consumer reads from the topics, with kcat: a client that shares no code with Penstock's.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

const COMMITTED: &str = "isolation.level=read_committed";

fn reader(mut command: Command, servers: &str, isolation: &str) -> Command {
    command.args(["-C", "-q", "-b", servers, "-X", isolation]);
    // Slower ones would be measured as if the pipeline were slow.
    command.args([
        "-X",
        "reconnect.backoff.max.ms=250",
        "-X",
        "topic.metadata.refresh.interval.ms=2000",
        "-X",
        "socket.timeout.ms=5000",
    ]);
    command.stdin(Stdio::null());
    command
}

/// What a reader prints of a topic, from its beginning to its end.
fn whole(servers: &str, topic: &str, format: &str) -> Result<String> {
    // It must not hang when the brokers do.
    let mut limited = Command::new("timeout");
    limited.args(["60", "kcat"]);
    let mut command = reader(limited, servers, COMMITTED);
    command.args(["-t", topic, "-o", "beginning", "-e", "-f", format]);
    said(command)
}

fn said(mut command: Command) -> Result<String> {
    let output = tokio::task::block_in_place(|| command.output()).context("kcat is needed")?;
    ensure!(output.status.success(), "kcat: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// How often each event id stands in a topic for a read_committed reader, from its beginning to
/// its end. A record without an id counts as ``.
pub fn ids(servers: &str, topic: &str) -> Result<BTreeMap<String, u64>> {
    let mut ids = BTreeMap::new();
    for line in whole(servers, topic, "%h\\n")?.lines() {
        let id = line.split(',').find_map(|header| header.strip_prefix("ce_id="));
        *ids.entry(id.unwrap_or_default().to_owned()).or_default() += 1;
    }
    Ok(ids)
}

/// Payloads and headers of a topic's records, each as `header=value,... payload`.
pub fn records(servers: &str, topic: &str) -> Result<Vec<String>> {
    Ok(whole(servers, topic, "%h %s\\n")?.lines().map(str::to_owned).collect())
}

/// Writes one record.
pub fn write(servers: &str, topic: &str, partition: u32, payload: &[u8]) -> Result<()> {
    let mut command = Command::new("kcat");
    command.args(["-q", "-b", servers, "-P", "-t", topic, "-p", &partition.to_string()]);
    // No byte of the payload separates records.
    command.args(["-D", "\\xfe\\xfe"]).stdin(Stdio::piped());
    let mut child = command.spawn().context("kcat is needed")?;
    child.stdin.take().context("no stdin")?.write_all(payload)?;
    ensure!(child.wait()?.success(), "kcat could not write");
    Ok(())
}

/// Insists that what a read_committed reader finds in `events.clean` is what stands in `events.raw`:
/// nothing lost, nothing twice that a producer did not write twice.
pub async fn check_clean(servers: &str, within: Duration) -> Result<()> {
    let deadline = Instant::now() + within;
    let raw = ids(servers, "events.raw")?;
    loop {
        let clean = ids(servers, "events.clean")?;
        let more = clean.iter().filter(|(id, n)| raw.get(*id).is_none_or(|raw| raw < n));
        let doubled: Vec<_> = more.collect();
        ensure!(
            doubled.is_empty(),
            "{} ids stand in events.clean more often than in events.raw, such as {:?}",
            doubled.len(),
            &doubled[..doubled.len().min(3)]
        );
        let less = raw.iter().filter(|(id, n)| clean.get(*id).is_none_or(|clean| clean < n));
        let lost: Vec<_> = less.collect();
        if lost.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            let some = &lost[..lost.len().min(3)];
            bail!("{} ids are missing in events.clean, such as {some:?}", lost.len());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// What has been seen of a partition.
#[derive(Debug, Default)]
struct Sights {
    /// When each record became visible.
    times: Vec<Instant>,
    /// The offset of the latest.
    last: u64,
}

/// A reader that notes when each record of `events.clean` becomes visible.
pub struct Watch {
    child: Child,
    seen: Arc<Mutex<BTreeMap<u32, Sights>>>,
}

impl Watch {
    /// Starts reading what is committed, from the end.
    pub fn start(servers: &str) -> Result<Self> {
        Self::reading(servers, COMMITTED)
    }

    /// Starts reading what is written, from the end, even in transactions that are open.
    pub fn uncommitted(servers: &str) -> Result<Self> {
        Self::reading(servers, "isolation.level=read_uncommitted")
    }

    fn reading(servers: &str, isolation: &str) -> Result<Self> {
        let mut command = reader(Command::new("kcat"), servers, isolation);
        command.args(["-E", "-u", "-t", "events.clean", "-o", "end", "-f", "%p %o\\n"]);
        let mut child = command.stdout(Stdio::piped()).spawn().context("kcat is needed")?;
        let lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        let seen = Arc::new(Mutex::new(BTreeMap::<u32, Sights>::new()));
        let noted = seen.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let Some((partition, offset)) = line.split_once(' ') else { continue };
                let (Ok(partition), Ok(offset)) = (partition.parse(), offset.parse()) else {
                    continue;
                };
                let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
                let sights = noted.entry(partition).or_default();
                sights.times.push(Instant::now());
                sights.last = offset;
            }
        });
        Ok(Self { child, seen })
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, BTreeMap<u32, Sights>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody has left a transaction open: `written` saw records in a partition that
    /// this reader does not get to see, although it saw nothing there for a while.
    pub fn waits_for_a_transaction(&self, written: &Self, a_while: Duration) -> bool {
        let written: BTreeMap<_, _> = written.seen().iter().map(|(p, s)| (*p, s.last)).collect();
        self.seen().iter().any(|(partition, sights)| {
            sights.times.last().is_some_and(|at| at.elapsed() > a_while)
                && written.get(partition).is_some_and(|last| *last > sights.last)
        })
    }

    /// Waits until records of all `partitions` have been seen since `since`, and answers how long
    /// after it the last of them showed its first.
    pub async fn all_move(
        &self,
        since: Instant,
        partitions: u32,
        within: Duration,
    ) -> Result<Duration> {
        loop {
            let first: Vec<_> = self
                .seen()
                .values()
                .filter_map(|Sights { times, .. }| {
                    times.get(times.partition_point(|at| *at < since)).copied()
                })
                .collect();
            if first.len() == partitions as usize {
                return Ok(first.into_iter().max().unwrap_or(since).duration_since(since));
            }
            if since.elapsed() > within {
                bail!("after {within:?} only {} of {partitions} partitions move", first.len());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The longest time between `from` and `to` in which a partition showed nothing, and which.
    pub fn longest_silence(&self, from: Instant, to: Instant) -> (Duration, u32) {
        let seen = self.seen();
        let silences = seen.iter().map(|(partition, Sights { times, .. })| {
            let within = times.iter().copied().filter(|at| *at > from && *at < to);
            let mut last = from;
            let mut longest = Duration::ZERO;
            for at in within.chain([to]) {
                longest = longest.max(at - last);
                last = at;
            }
            (longest, *partition)
        });
        silences.max().unwrap_or((to - from, 0))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended by itself
        let _ = self.child.wait();
    }
}
