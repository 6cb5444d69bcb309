//! What retention takes, what it leaves, and when it looks again.

use super::*;

const EVENTS: i64 = 1_000;
const ROLLUPS: i64 = 10_000;

async fn open(folder: &Folder, share: usize) -> Embedded {
    let retention = Retention { events: EVENTS, rollups: ROLLUPS, share };
    Embedded::open_with(&folder.path(), retention, |path| Space::of(path, 0)).await.unwrap()
}

async fn expire_all(store: &Embedded, now: i64) {
    for _ in 0..100 {
        if !store.expire(now).await.unwrap() {
            return;
        }
    }
    panic!("a walk ends");
}

async fn located(store: &Embedded, offset: u64) -> bool {
    let identity = event(offset, Data::None).identity();
    store.locate(&[identity]).await.unwrap()[0].is_some()
}

#[tokio::test]
async fn events_leave_every_list_when_their_append_is_too_old() {
    let folder = Folder::new();
    let store = open(&folder, 100).await;
    store.write(flush(0..10, Data::None)).await.unwrap();
    expire_all(&store, EVENTS + 5).await;
    for selector in [Selector::Type("t".into()), Selector::Subject("sub".into())] {
        assert_eq!(ids(&store, selector).await, [6, 7, 8, 9]);
    }
    assert_eq!(store.event(&event(5, Data::None).identity()).await, Ok(None));
}

#[tokio::test]
async fn an_identity_outlives_its_event() {
    let folder = Folder::new();
    let store = open(&folder, 100).await;
    store.write(flush(0..10, Data::None)).await.unwrap();
    expire_all(&store, ROLLUPS - 1).await;
    assert!(located(&store, 0).await);
    expire_all(&store, 2 * ROLLUPS).await;
    assert!(!located(&store, 0).await);
}

#[tokio::test]
async fn a_replay_does_not_bring_an_expired_event_back() {
    let folder = Folder::new();
    let store = open(&folder, 100).await;
    store.write(flush(0..10, Data::None)).await.unwrap();
    expire_all(&store, EVENTS + 5).await;
    store.write(flush(0..10, Data::None)).await.unwrap();
    assert_eq!(ids(&store, Selector::Type("t".into())).await, [6, 7, 8, 9]);
}

#[tokio::test]
async fn one_call_looks_at_its_share_and_the_next_goes_on_even_after_a_restart() {
    let folder = Folder::new();
    let store = open(&folder, 4).await;
    store.write(flush(0..10, Data::None)).await.unwrap();
    assert_eq!(store.expire(EVENTS + 100).await, Ok(true));
    assert_eq!(ids(&store, Selector::Type("t".into())).await, [4, 5, 6, 7, 8, 9]);
    drop(store);
    let store = open(&folder, 4).await;
    assert_eq!(store.expire(EVENTS + 100).await, Ok(true));
    assert_eq!(ids(&store, Selector::Type("t".into())).await, [8, 9]);
}

#[tokio::test]
async fn a_walk_begins_again_only_when_something_has_come_of_age() {
    let folder = Folder::new();
    let store = open(&folder, 100).await;
    store.write(flush(500..510, Data::None)).await.unwrap();
    expire_all(&store, 600).await;
    assert_eq!(store.expire(EVENTS + 499).await, Ok(false), "no walk before the first is due");
    expire_all(&store, EVENTS + 505).await;
    assert_eq!(ids(&store, Selector::Type("t".into())).await, [506, 507, 508, 509]);
    // The rest comes of age at once; the next walk waits for a thirtieth of the retention.
    assert_eq!(store.expire(EVENTS + 510).await, Ok(false));
    expire_all(&store, EVENTS + 505 + EVENTS / 30).await;
    assert_eq!(ids(&store, Selector::Type("t".into())).await, [0; 0]);
}

#[tokio::test]
async fn rollup_rows_leave_after_their_last_write_and_not_before() {
    let folder = Folder::new();
    let store = open(&folder, 100).await;
    let key = RollupKey {
        namespace: "n".into(),
        rollup: "r".into(),
        version: VersionId(1),
        window: 0,
        start: 0,
        group: "[]".into(),
        epoch: 1,
        partition: 0,
    };
    let row = RollupRow { key: key.clone(), count: 1, measures: Vec::new(), last_offset: 0 };
    let written = now();
    let flush = Flush { rollups: vec![row.clone()], ..Flush::clone(&flush(0..1, Data::None)) };
    store.write(Arc::new(flush)).await.unwrap();
    expire_all(&store, written + ROLLUPS - 1).await;
    assert_eq!(store.rollup_rows(std::slice::from_ref(&key)).await, Ok(vec![Some(row)]));
    expire_all(&store, now() + 2 * ROLLUPS).await;
    assert_eq!(store.rollup_rows(&[key]).await, Ok(vec![None]));
}

#[tokio::test]
async fn a_rollup_row_written_while_it_was_to_go_stays() {
    let folder = Folder::new();
    let store = open(&folder, 100).await;
    let row = RollupRow {
        key: RollupKey {
            namespace: "n".into(),
            rollup: "r".into(),
            version: VersionId(1),
            window: 0,
            start: 0,
            group: "[]".into(),
            epoch: 1,
            partition: 0,
        },
        count: 1,
        measures: Vec::new(),
        last_offset: 0,
    };
    let write = |end: u64| {
        let rollups = vec![RollupRow { last_offset: end - 1, ..row.clone() }];
        Arc::new(Flush { rollups, ..Flush::clone(&flush(0..end, Data::None)) })
    };
    store.write(write(1)).await.unwrap();
    let later = now() + 2 * ROLLUPS;
    let mut judged = writer::Removals::default();
    while judged.rollups.is_empty() {
        let (removals, _) = expire::walk(&store.tables, store.retention, later).unwrap().unwrap();
        judged.rollups = removals.rollups.clone();
        store
            .ask(|answer| Job::Expire {
                removals: writer::Removals { rollups: Vec::new(), ..removals },
                answer,
            })
            .await
            .unwrap();
    }
    std::thread::sleep(Duration::from_millis(2));
    store.write(write(2)).await.unwrap();
    store.ask(|answer| Job::Expire { removals: judged, answer }).await.unwrap();
    let rows = store.rollup_rows(&[row.key]).await.unwrap();
    assert_eq!(rows[0].as_ref().map(|row| row.last_offset), Some(1));
}
