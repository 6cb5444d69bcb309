//! The contract on the embedded store, and what only this store promises.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use schemas::{Data, Event, Timestamp};
use tempfile::TempDir;

use super::*;
use crate::store::{Order, Selector, Store, contract::Harness};

/// A store in a folder of its own.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("store")
    }

    async fn embedded(&self) -> Result<Embedded, StoreError> {
        Embedded::open(&self.path(), EmbeddedOptions::default()).await
    }

    /// Why it does not open.
    async fn refusal(&self) -> StoreError {
        let refused = self.embedded().await.err().expect("it opens");
        let names_the_folder = refused.to_string().contains(&*self.path().to_string_lossy());
        assert!(names_the_folder, "{refused}");
        refused
    }
}

#[async_trait]
impl Harness for Folder {
    async fn open(&self) -> Store {
        Arc::new(self.embedded().await.unwrap())
    }

    async fn reopen(&self, store: Store) -> Store {
        drop(store);
        self.open().await
    }
}

mod contract {
    use super::Folder;

    crate::store_contract!(Folder::new());
}

fn event(offset: u64, data: Data) -> EventRow {
    EventRow {
        event: Event {
            namespace: "n".into(),
            id: format!("{offset:06}"),
            source: "s".into(),
            kind: "t".into(),
            subject: Some("sub".into()),
            time: Timestamp { micros: 0, text: "1970-01-01T00:00:00Z".into() },
            time_filled: false,
            data_content_type: None,
            data_schema: None,
            extensions: Default::default(),
            data,
        },
        appended_at: offset as i64,
        origin: Origin { epoch: 1, partition: 0, offset },
    }
}

/// Events of the offsets; each was appended at its offset in microseconds.
fn flush(offsets: std::ops::Range<u64>, data: Data) -> Arc<Flush> {
    Arc::new(Flush {
        topic: "topic".into(),
        epoch: 1,
        partition: 0,
        stored_to: offsets.end,
        events: offsets.map(|offset| event(offset, data.clone())).collect(),
        rollups: Vec::new(),
        marks: Vec::new(),
    })
}

fn all(selector: Selector) -> EventsQuery {
    EventsQuery {
        namespace: "n".into(),
        selector,
        source: None,
        from: i64::MIN,
        to: i64::MAX,
        order: Order::Asc,
        after: None,
        limit: 1000,
    }
}

async fn ids(store: &Embedded, selector: Selector) -> Vec<u64> {
    let page = store.events(&all(selector)).await.unwrap();
    page.rows.iter().map(|row| row.origin.offset).collect()
}

mod opening {
    use super::*;

    #[tokio::test]
    async fn a_folder_that_another_holds_is_locked() {
        let folder = Folder::new();
        let _held = folder.embedded().await.unwrap();
        assert!(matches!(folder.refusal().await, StoreError::Locked(_)));
    }

    #[tokio::test]
    async fn a_folder_let_go_of_opens_at_once() {
        let folder = Folder::new();
        for _ in 0..3 {
            drop(folder.embedded().await.unwrap());
        }
    }

    #[tokio::test]
    async fn a_path_of_a_file_is_refused() {
        let folder = Folder::new();
        std::fs::write(folder.path(), "not a store").unwrap();
        let refusal = folder.refusal().await.to_string();
        assert!(refusal.contains("not a folder"), "{refusal}");
    }

    #[tokio::test]
    async fn a_folder_of_other_files_is_refused_and_left_as_it_is() {
        let folder = Folder::new();
        std::fs::create_dir(folder.path()).unwrap();
        std::fs::write(folder.path().join("notes.txt"), "mine").unwrap();
        let refusal = folder.refusal().await.to_string();
        assert!(refusal.contains("holds other files"), "{refusal}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_first_start_that_was_cut_short_is_gone_through_again() {
        let folder = Folder::new();
        std::fs::create_dir_all(folder.path().join("keyspaces")).unwrap();
        for name in ["lock", "0.jnl"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        folder.embedded().await.unwrap();
    }

    #[tokio::test]
    async fn tables_without_their_version_are_damage_and_not_a_first_start() {
        let folder = Folder::new();
        drop(folder.embedded().await.unwrap());
        std::fs::remove_file(folder.path().join("version")).unwrap();
        let journals = || {
            let entries = std::fs::read_dir(folder.path()).unwrap();
            entries.filter(|e| e.as_ref().unwrap().path().extension().is_some()).count()
        };
        let before = journals();
        assert!(matches!(folder.refusal().await, StoreError::Fatal(_)));
        assert_eq!(journals(), before, "nothing was removed");
    }

    #[tokio::test]
    async fn another_layout_is_refused() {
        let folder = Folder::new();
        let store = folder.embedded().await.unwrap();
        store.tables.meta.insert(keys::meta::LAYOUT, 99u32.to_le_bytes()).unwrap();
        drop(store);
        let refusal = folder.refusal().await.to_string();
        assert!(refusal.contains("layout is version 99"), "{refusal}");
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.metadata().unwrap().is_dir() {
                files.extend(self::files(&entry.path()));
            } else {
                files.push(entry.path());
            }
        }
        files
    }

    /// Every file of the store in turn is overwritten with noise: the store says that it is
    /// damaged, when it opens or when it reads, or has everything. It never panics.
    #[tokio::test]
    async fn a_damaged_file_is_an_error_with_the_path_and_never_a_panic() {
        let whole = Folder::new();
        let store = whole.embedded().await.unwrap();
        let payload = Data::Bytes(Bytes::from_static(&[7; 100]));
        store.write(flush(0..500, payload.clone())).await.unwrap();
        store.tables.events.rotate_memtable_and_wait().unwrap();
        store.write(flush(500..900, payload)).await.unwrap();
        drop(store);
        let mut noticed = 0;
        for file in files(&whole.path()) {
            let file = file.strip_prefix(whole.path()).unwrap();
            let damaged = Folder::new();
            for source in files(&whole.path()) {
                let to = damaged.path().join(source.strip_prefix(whole.path()).unwrap());
                std::fs::create_dir_all(to.parent().unwrap()).unwrap();
                std::fs::copy(&source, to).unwrap();
            }
            let mut bytes = std::fs::read(whole.path().join(file)).unwrap();
            bytes.iter_mut().for_each(|byte| *byte ^= 0xa5);
            std::fs::write(damaged.path().join(file), bytes).unwrap();
            let listed = match damaged.embedded().await {
                Ok(store) => store.events(&all(Selector::Type("t".into()))).await,
                Err(refused) => Err(refused),
            };
            match listed {
                Ok(page) => assert_eq!(page.rows.len(), 900, "{} lost rows", file.display()),
                Err(StoreError::Fatal(why)) => {
                    assert!(why.contains(&*damaged.path().to_string_lossy()), "{why}");
                    noticed += 1;
                }
                Err(other) => panic!("{}: {other:?}", file.display()),
            }
        }
        assert!(noticed > 5, "damage is noticed: {noticed} files");
    }
}

mod space_and_bounds {
    use super::*;

    #[tokio::test]
    async fn a_full_disk_pauses_writes_until_there_is_room_again() {
        let folder = Folder::new();
        let free = Arc::new(AtomicU64::new(0));
        let seen = free.clone();
        let retention = Retention { events: i64::MAX, rollups: i64::MAX, share: 1 };
        let ask = move || Ok(seen.load(Ordering::Relaxed));
        let store = Embedded::open_with(&folder.path(), retention, |path| {
            Space::new(path, 1, Box::new(ask))
        })
        .await
        .unwrap();
        let wanted = flush(0..3, Data::None);
        let refused = store.write(wanted.clone()).await;
        assert!(matches!(refused, Err(StoreError::Retry(_))), "{refused:?}");
        assert_eq!(ids(&store, Selector::Type("t".into())).await, [0; 0]);
        free.store(u64::MAX, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(60)).await;
        store.write(wanted).await.unwrap();
        assert_eq!(ids(&store, Selector::Type("t".into())).await, [0, 1, 2]);
        assert_eq!(store.partition("topic", 1, 0).await.unwrap().stored_to, 3);
    }

    #[tokio::test]
    async fn a_key_too_long_for_the_engine_is_refused_in_words() {
        let folder = Folder::new();
        let store = folder.embedded().await.unwrap();
        let mut long = event(0, Data::None);
        long.event.id = "x".repeat(70_000);
        let flush = Flush { events: vec![long], ..Flush::clone(&flush(0..1, Data::None)) };
        let refused = store.write(Arc::new(flush)).await;
        assert!(matches!(refused, Err(StoreError::Fatal(_))), "{refused:?}");
        assert_eq!(store.partition("topic", 1, 0).await.unwrap().stored_to, 0);
    }

    #[tokio::test]
    async fn a_filter_that_matches_nothing_looks_at_its_share_and_says_where_it_is() {
        let folder = Folder::new();
        let store = folder.embedded().await.unwrap();
        let rows = read::LOOK as u64 + 5;
        store.write(flush(0..rows, Data::None)).await.unwrap();
        let mut query = all(Selector::Type("t".into()));
        query.source = Some("nobody".into());
        let page = store.events(&query).await.unwrap();
        let next = page.next.expect("more to look at");
        assert_eq!((page.rows.len(), next.id), (0, format!("{:06}", read::LOOK - 1)));
    }

    #[tokio::test]
    async fn large_events_make_short_pages() {
        let folder = Folder::new();
        let store = folder.embedded().await.unwrap();
        let large = Data::Bytes(Bytes::from(vec![1; 1 << 20]));
        store.write(flush(0..20, large)).await.unwrap();
        let mut query = all(Selector::Type("t".into()));
        let first = store.events(&query).await.unwrap();
        assert_eq!(first.rows.len(), 8);
        query.after = first.next;
        assert_eq!(store.events(&query).await.unwrap().rows[0].origin.offset, 8);
    }
}

mod retention {
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
            let (removals, _) =
                expire::walk(&store.tables, store.retention, later).unwrap().unwrap();
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
}
