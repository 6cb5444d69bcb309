//! A write that was answered has been synced. Killing the process cannot show this, since the
//! page cache outlives it; so the system calls of a child process are traced in their order.
//! It needs `strace`; where that is missing it says so, and fails when `CI` is set.

use std::{collections::BTreeMap, path::Path, process::Command, sync::Arc};

use schemas::{Data, Event, Timestamp};
use sink::store::{
    EventRow, Flush, Origin, StoreDriver,
    embedded::{Embedded, EmbeddedOptions},
};

const FLUSHES: u64 = 20;
const FOLDER: &str = "PENSTOCK_TEST_STORE_SYNC";

fn flush(offset: u64) -> Arc<Flush> {
    let event = Event {
        namespace: "n".into(),
        id: offset.to_string(),
        source: "s".into(),
        kind: "t".into(),
        subject: None,
        time: Timestamp { micros: 0, text: "1970-01-01T00:00:00Z".into() },
        time_filled: false,
        data_content_type: None,
        data_schema: None,
        extensions: BTreeMap::new(),
        data: Data::None,
    };
    let origin = Origin { epoch: 1, partition: 0, offset };
    Arc::new(Flush {
        topic: "topic".into(),
        epoch: 1,
        partition: 0,
        events: vec![EventRow { event, appended_at: 0, origin }],
        rollups: Vec::new(),
        marks: Vec::new(),
        stored_to: offset + 1,
    })
}

/// What is traced: says on stderr after each answer that it came.
#[tokio::test]
#[ignore = "the traced half of `every_answer_comes_after_the_sync_of_what_it_answers`"]
async fn traced() {
    let folder = std::env::var(FOLDER).expect("run by the other test");
    let store = Embedded::open(Path::new(&folder), EmbeddedOptions::default()).await.unwrap();
    for offset in 0..FLUSHES {
        store.write(flush(offset)).await.unwrap();
        eprintln!("answered {offset}");
    }
}

#[test]
fn every_answer_comes_after_the_sync_of_what_it_answers() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let ran = Command::new("strace")
        .args(["-f", "-y", "-e", "trace=write,fsync,fdatasync", "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "traced", "--ignored", "--nocapture"])
        .env(FOLDER, folder.path().join("store"))
        .output();
    let calls = match ran {
        Ok(output) if output.status.success() => std::fs::read_to_string(&trace).unwrap(),
        untraced => {
            assert!(std::env::var_os("CI").is_none(), "strace is needed: {untraced:?}");
            eprintln!("not checked: this machine has no strace that may trace: {untraced:?}");
            return;
        }
    };
    assert_eq!(unsynced_answers(&calls), [0; 0]);
}

/// The answers that came while the journal held something written and not synced, or before
/// anything was written for them at all.
fn unsynced_answers(calls: &str) -> Vec<u64> {
    let (mut written, mut synced) = (false, false);
    let mut answers = 0;
    let mut bad = Vec::new();
    for call in calls.lines() {
        let journal = call.contains(".jnl");
        if journal && call.contains(" write(") {
            (written, synced) = (true, false);
        } else if call.contains("sync") && call.ends_with("= 0") {
            // A call that another thread interrupts is two lines, the second without its file.
            synced |= journal || call.contains("resumed");
        } else if call.contains("\"answered ") {
            if !(written && synced) {
                bad.push(answers);
            }
            answers += 1;
            written = false;
        }
    }
    assert_eq!(answers, FLUSHES, "every answer is in the trace:\n{calls}");
    bad
}
