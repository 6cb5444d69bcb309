//! What groups on a real Kafka do when processes are killed, stopped and started again.
//!
//! Members are processes of their own: this test binary, started again with `PENSTOCK_TEST_MEMBER`
//! set, copies one topic to another exactly once until it is ended. The test keeps a steady load of
//! numbered records on the input and watches the output as any reader would.
//!
//! `PENSTOCK_TEST_SECONDS` makes the long run longer, `PENSTOCK_TEST_SEED` repeats one.
#![cfg(feature = "kafka")]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::{
    collections::{BTreeMap, HashSet},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use eventlog::{Delivery, Log, Options, Record, Retention, TopicSpec, TransactError};
use futures_util::FutureExt as _;
use rustix::process::{Pid, Signal, kill_process};
use uuid::Uuid;

const PARTITIONS: u32 = 6;
/// Records a second.
const RATE: u64 = 600;
const PATIENCE: Duration = Duration::from_secs(60);

fn brokers() -> Option<String> {
    match std::env::var("PENSTOCK_TEST_KAFKA") {
        Ok(brokers) => Some(brokers),
        Err(_) if std::env::var_os("CI").is_some() => panic!("PENSTOCK_TEST_KAFKA is not set"),
        Err(_) => {
            eprintln!("skipped: PENSTOCK_TEST_KAFKA names no broker");
            None
        }
    }
}

/// Not a test: the body of a member's process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn member() {
    let Ok(words) = std::env::var("PENSTOCK_TEST_MEMBER") else { return };
    let filter = tracing_subscriber::EnvFilter::from_default_env(); // RUST_LOG
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let [url, input, output, group, id, instance] =
        words.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let instance = (instance != "-").then(|| instance.into());
    let log = eventlog::open(url, Options { instance, ..Options::default() }).await.unwrap();
    let member = log.subscribe(group, &[input]).await.unwrap();
    let mut member = member.into_transactional(id).await.unwrap();
    tokio::select! {
        () = copy(&mut member, output) => {}
        // The end of the standard input asks for an orderly end.
        _ = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())) => {}
    }
    member.close().await.unwrap();
    std::process::exit(0);
}

async fn copy(member: &mut eventlog::Transactor, output: &str) {
    let output: Arc<str> = output.into();
    let mut void = HashSet::new();
    loop {
        let mut next = Some(member.next().await.unwrap());
        let (mut copies, mut positions) = (Vec::new(), BTreeMap::new());
        let mut revoked = None;
        while let Some(delivery) = next {
            match delivery {
                Delivery::Assigned(assigned) => assigned.resume(),
                Delivery::Gap(gap) => panic!("unexpected {gap:?}"),
                Delivery::Batch(batch) if void.contains(&batch.lease) => {}
                Delivery::Batch(batch) => {
                    let records = batch.records.into_iter().map(|r| (output.clone(), r.record));
                    copies.extend(records);
                    positions.insert(batch.lease.id, (batch.lease, batch.next));
                }
                Delivery::Revoked(revocation) => {
                    revoked = Some(revocation);
                    break;
                }
            }
            next = member.next().now_or_never().transpose().unwrap();
        }
        // What is lost must not be committed, and with it nothing of this round.
        if !revoked.as_ref().is_some_and(|revocation| revocation.lost) {
            let positions: Vec<_> = positions.into_values().collect();
            match member.commit(copies, &positions).await {
                Ok(()) => {}
                Err(TransactError::Aborted(_)) => void.extend(positions.into_iter().map(|p| p.0)),
                Err(error) => panic!("{error}"),
            }
        } else if !positions.is_empty() {
            // Abort: everything comes again.
            let lost = revoked.as_ref().unwrap().leases[0].clone();
            let aborted = member.commit(Vec::new(), &[(lost, 0)]).await;
            assert!(matches!(aborted, Err(TransactError::Aborted(_))), "{aborted:?}");
        }
        if let Some(revocation) = revoked {
            revocation.acknowledge();
        }
    }
}

/// A member's process.
struct Process(Child);

impl Process {
    fn signal(&self, signal: Signal) {
        let _ = kill_process(Pid::from_child(&self.0), signal); // it may have ended by itself
    }

    /// As `kill -9` does.
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Lets it leave the group.
    async fn stop(mut self) {
        drop(self.0.stdin.take());
        let until = Instant::now() + PATIENCE;
        while self.0.try_wait().unwrap().is_none() {
            assert!(Instant::now() < until, "a member does not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill(); // after a test that failed
        let _ = self.0.wait();
    }
}

/// A group that copies one topic to another under load.
struct Copying {
    url: String,
    input: String,
    output: String,
    group: String,
    sent: Arc<AtomicU64>,
    load: Option<(Arc<AtomicBool>, tokio::task::JoinHandle<()>)>,
    seen: Arc<Mutex<Seen>>,
    _turn: tokio::sync::MutexGuard<'static, ()>,
}

/// One at a time: they measure times, and each takes a machine's cores.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[derive(Default)]
struct Seen {
    /// How often each number came out.
    numbers: BTreeMap<u64, u32>,
    disorder: u64,
    total: u64,
    last_of_key: BTreeMap<Vec<u8>, u64>,
    read_to: BTreeMap<u32, u64>,
    /// When each partition's output was last seen to move.
    moved: BTreeMap<u32, Instant>,
    longest: Duration,
}

impl Copying {
    async fn begin() -> Option<Self> {
        let url = format!("kafka://{}", brokers()?);
        let turn = TURN.lock().await;
        let log = eventlog::open(&url, Options::default()).await.unwrap();
        let id = Uuid::new_v4().simple().to_string();
        let [input, output, group] =
            ["in", "out", "group"].map(|what| format!("groups-{what}-{id}"));
        let topic = |name: &str| TopicSpec {
            name: name.into(),
            partitions: PARTITIONS,
            replication: None,
            retention: Retention::Delete { age: None, bytes: None },
        };
        log.ensure_topics(&[topic(&input), topic(&output)]).await.unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        tokio::spawn(watch(log.clone(), output.clone(), seen.clone()));
        let (sent, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let load = tokio::spawn(load(log.clone(), input.clone(), sent.clone(), stop.clone()));
        Some(Self { url, input, output, group, sent, load: Some((stop, load)), seen, _turn: turn })
    }

    /// A member; with an instance, its name is also the id of its transactions.
    fn member(&self, id: &str, instance: Option<&str>) -> Process {
        let Self { url, input, output, group, .. } = self;
        let id = instance.unwrap_or(id);
        let id = format!("{group}.{id}");
        let instance = instance.unwrap_or("-");
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "member", "--nocapture", "--test-threads=1"])
            .env("PENSTOCK_TEST_MEMBER", format!("{url} {input} {output} {group} {id} {instance}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Process(child)
    }

    fn fresh(&self) -> Process {
        self.member(&Uuid::new_v4().simple().to_string(), None)
    }

    /// Waits until every partition's output has moved after an instant.
    async fn moving_since(&self, since: Instant) {
        let until = Instant::now() + PATIENCE;
        loop {
            {
                let seen = self.seen.lock().unwrap();
                let moved = seen.moved.values().filter(|at| **at > since).count();
                if moved == PARTITIONS as usize {
                    return;
                }
                assert!(Instant::now() < until, "only {moved} partitions move");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The longest that any partition's output stood still, from here on.
    fn forget_longest(&self) {
        self.seen.lock().unwrap().longest = Duration::ZERO;
    }

    fn longest(&self) -> Duration {
        self.seen.lock().unwrap().longest
    }

    /// Ends the load, waits for the output and expects each number once, in order.
    async fn check(&mut self) {
        let (stop, load) = self.load.take().unwrap();
        stop.store(true, Ordering::Relaxed);
        load.await.unwrap();
        let sent = self.sent.load(Ordering::Relaxed);
        let until = Instant::now() + PATIENCE;
        while (self.seen.lock().unwrap().numbers.len() as u64) < sent && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await; // for what may come twice
        let seen = self.seen.lock().unwrap();
        let missing: Vec<u64> = (0..sent).filter(|n| !seen.numbers.contains_key(n)).collect();
        let (first, last) = (missing.first(), missing.last());
        let missing = missing.len();
        let doubled = seen.numbers.values().filter(|count| **count > 1).count();
        eprintln!(
            "{sent} sent, {} seen, {missing} missing ({first:?} to {last:?}), {doubled} doubled",
            seen.total
        );
        assert_eq!((missing, doubled, seen.disorder), (0, 0, 0));
    }
}

/// Appends numbered records at a steady rate.
async fn load(log: Log, topic: String, sent: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
    const EACH: Duration = Duration::from_millis(20);
    let mut times = tokio::time::interval(EACH);
    while !stop.load(Ordering::Relaxed) {
        times.tick().await;
        let first = sent.load(Ordering::Relaxed);
        let numbers = first..first + RATE * EACH.as_millis() as u64 / 1000;
        let record = |n: u64| Record {
            key: Some(format!("key-{}", n % 48).into()),
            value: Some(n.to_string().into()),
            ..Record::default()
        };
        for result in log.append(&topic, numbers.clone().map(record).collect()).await {
            result.expect("the load is stored");
        }
        sent.store(numbers.end, Ordering::Relaxed);
    }
}

/// Reads the output as anyone would.
async fn watch(log: Log, topic: String, seen: Arc<Mutex<Seen>>) {
    let group = format!("groups-watch-{}", Uuid::new_v4().simple());
    let mut member = log.subscribe(&group, &[&topic]).await.unwrap();
    loop {
        match member.next().await.unwrap() {
            Delivery::Assigned(assigned) => assigned.resume(),
            Delivery::Revoked(revocation) => revocation.acknowledge(),
            Delivery::Gap(gap) => panic!("unexpected {gap:?}"),
            Delivery::Batch(batch) => {
                let mut seen = seen.lock().unwrap();
                let now = Instant::now();
                if batch.records.is_empty() {
                    continue;
                }
                if let Some(last) = seen.moved.insert(batch.lease.partition, now) {
                    seen.longest = seen.longest.max(now - last);
                }
                for stored in batch.records {
                    // This reader commits nothing, so it may begin anew.
                    let read = seen.read_to.entry(batch.lease.partition).or_default();
                    if stored.offset < *read {
                        continue;
                    }
                    *read = stored.offset + 1;
                    let value = stored.record.value.unwrap();
                    let number = std::str::from_utf8(&value).unwrap().parse().unwrap();
                    *seen.numbers.entry(number).or_default() += 1;
                    seen.total += 1;
                    let last = seen.last_of_key.insert(stored.record.key.unwrap().to_vec(), number);
                    seen.disorder += u64::from(last.is_some_and(|last| last >= number));
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_killed_stopped_and_started_lose_and_double_nothing() {
    let Some(mut copying) = Copying::begin().await else { return };
    let number = |name: &str, or| std::env::var(name).map_or(or, |text| text.parse().unwrap());
    let seed = number("PENSTOCK_TEST_SEED", u64::from(std::process::id()));
    let lasts = Duration::from_secs(number("PENSTOCK_TEST_SECONDS", 25));
    eprintln!("seed {seed}");
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut any = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % below
    };
    // The last one has a name and comes back under it.
    let mut members: Vec<_> = (0..3).map(|_| copying.fresh()).collect();
    members.push(copying.member("", Some("named")));
    copying.moving_since(Instant::now()).await;
    let (begun, mut kills, mut stops) = (Instant::now(), 0, 0);
    while begun.elapsed() < lasts {
        tokio::time::sleep(Duration::from_millis(500 + any(3000))).await;
        let which = any(members.len() as u64) as usize;
        let back =
            |named: bool| if named { copying.member("", Some("named")) } else { copying.fresh() };
        if any(5) == 0 {
            stops += 1;
            members[which].signal(Signal::STOP);
            tokio::time::sleep(Duration::from_millis(any(9000))).await;
            members[which].signal(Signal::CONT);
        } else {
            kills += 1;
            members.remove(which).kill();
            members.insert(which, back(which == 3));
        }
        // Who was fenced may have ended by itself.
        for (which, member) in members.iter_mut().enumerate() {
            if member.0.try_wait().unwrap().is_some() {
                *member = back(which == 3);
            }
        }
    }
    eprintln!("{kills} kills, {stops} stops");
    copying.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_takes_over_from_a_killed_one_within_ten_seconds() {
    let Some(mut copying) = Copying::begin().await else { return };
    let (one, other) = (copying.fresh(), copying.fresh());
    copying.moving_since(Instant::now()).await;
    tokio::time::sleep(Duration::from_secs(3)).await; // both have a share
    let killed = Instant::now();
    one.kill();
    copying.moving_since(killed + Duration::from_millis(300)).await;
    let took = killed.elapsed();
    eprintln!("taken over after {took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    copying.check().await;
    drop(other);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_named_member_that_starts_again_goes_on_within_three_seconds() {
    let Some(mut copying) = Copying::begin().await else { return };
    let member = copying.member("", Some("named"));
    copying.moving_since(Instant::now()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    member.kill();
    let killed = Instant::now();
    let member = copying.member("", Some("named"));
    // What it committed last may still be on its way.
    copying.moving_since(killed + Duration::from_millis(300)).await;
    let took = killed.elapsed();
    eprintln!("went on after {took:?}");
    assert!(took < Duration::from_secs(3), "{took:?}");
    copying.check().await;
    drop(member);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scaling_out_and_in_stops_no_partition_for_three_seconds() {
    let Some(mut copying) = Copying::begin().await else { return };
    let first = copying.fresh();
    copying.moving_since(Instant::now()).await;
    copying.forget_longest();
    let mut more = Vec::new();
    for _ in 0..3 {
        more.push(copying.fresh());
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    eprintln!("out: {:?}", copying.longest());
    for member in more {
        member.stop().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    copying.moving_since(Instant::now()).await;
    eprintln!("out and in: {:?}", copying.longest());
    assert!(copying.longest() < Duration::from_secs(3), "{:?}", copying.longest());
    copying.check().await;
    drop(first);
}
