//! An append is answered only after the journal that holds it was synced. Killing a process cannot
//! show that, since the page cache survives it; so this watches the order of the system calls, with
//! `strace`. Where that is missing or not allowed the test says so and checks nothing.

use std::{io::Write, path::Path, process::Command};

use eventlog::{Delivery, Options, Record, Retention, TopicSpec};

const APPENDS: usize = 5;
const DIR: &str = "EVENTLOG_SYNCED_DIR";

/// What the test below watches; does nothing by itself.
#[tokio::test]
async fn child() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let log = eventlog::open(&format!("file:{dir}"), Options::default()).await.unwrap();
    let retention = Retention::Delete { age: None, bytes: None };
    let spec = TopicSpec { name: "t".into(), partitions: 1, replication: None, retention };
    log.ensure_topics(&[spec]).await.unwrap();
    let mut say = std::fs::File::create(Path::new(&dir).join("said")).unwrap();
    for i in 0..APPENDS {
        say.write_all(format!("asked {i}").as_bytes()).unwrap();
        log.append("t", vec![record(i)]).await.remove(0).unwrap();
        say.write_all(format!("answered {i}").as_bytes()).unwrap();
    }
    let member = log.subscribe("g", &["t"]).await.unwrap();
    let mut member = member.into_transactional("g-0").await.unwrap();
    let Delivery::Assigned(assigned) = member.next().await.unwrap() else { return };
    let lease = assigned.partitions[0].lease.clone();
    say.write_all(format!("asked {APPENDS}").as_bytes()).unwrap();
    member.commit(vec![("t".into(), record(APPENDS))], &[(lease, 1)]).await.unwrap();
    say.write_all(format!("answered {APPENDS}").as_bytes()).unwrap();
}

/// A record that can be found in what is written.
fn record(i: usize) -> Record {
    Record { value: Some(format!("payload {i}").into()), ..Record::default() }
}

#[test]
fn nothing_is_answered_before_it_was_synced() {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let run = Command::new("strace")
        .args(["-f", "-y", "-s", "4096", "-e", "trace=write,writev,fsync,fdatasync", "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(DIR, dir.path().join("log"))
        .output();
    match run {
        Ok(output) if output.status.success() => {}
        other => return eprintln!("strace cannot be used here, so nothing was checked: {other:?}"),
    }
    let calls = std::fs::read_to_string(trace).unwrap();
    let calls: Vec<&str> = calls.lines().collect();
    let line = |what: &str| {
        calls.iter().position(|c| c.contains(what)).unwrap_or_else(|| panic!("no {what}"))
    };
    for i in 0..=APPENDS {
        let (asked, answered) =
            (line(&format!("\"asked {i}\"")), line(&format!("\"answered {i}\"")));
        let between = &calls[asked..answered];
        let is_written = |c: &&str| c.contains(".jnl") && c.contains(&format!("payload {i}"));
        let written =
            between.iter().position(is_written).expect("the record is written in between");
        let is_synced = |c: &&str| {
            let sync = c.contains("fdatasync") || c.contains("fsync");
            // A call that another thread interrupts in the trace ends on a line of its own.
            sync && c.ends_with("= 0") && (c.contains(".jnl") || c.contains("resumed"))
        };
        assert!(between[written..].iter().any(is_synced), "answer {i} came before the sync");
    }
}
