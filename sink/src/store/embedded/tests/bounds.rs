//! Bounds: of the disk, of keys, of pages.

use super::*;

#[tokio::test]
async fn a_full_disk_pauses_writes_until_there_is_room_again() {
    let folder = Folder::new();
    let free = Arc::new(AtomicU64::new(0));
    let seen = free.clone();
    let retention = Retention { events: i64::MAX, rollups: i64::MAX, share: 1 };
    let ask = move || Ok(seen.load(Ordering::Relaxed));
    let store =
        Embedded::open_with(&folder.path(), retention, |path| Space::new(path, 1, Box::new(ask)))
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
