//! Lists and scans over more buckets than one request reads.

use std::sync::Arc;

use schemas::Data;
use sink::store::{EventRow, EventsQuery, Flush, Order, RollupQuery, Selector, contract::Harness};

use crate::{
    cluster::Shared,
    sample::{HOUR, Tenant},
};

/// 300 events, each in a bucket of its own: by type a bucket is 6 hours, by subject 30 days.
fn scattered(tenant: &Tenant, apart: i64) -> Vec<EventRow> {
    (0..300).map(|n| tenant.event(n, (n as i64 - 150) * apart)).collect()
}

#[tokio::test]
async fn lists_go_through_more_buckets_than_a_page_walks() {
    let Some(shared) = Shared::given() else { return };
    let store = shared.open().await;
    for (selector, apart) in
        [(Selector::Type("t".into()), 6 * HOUR), (Selector::Subject("sub".into()), 30 * 24 * HOUR)]
    {
        let tenant = Tenant::on(store.clone()).await;
        let rows = scattered(&tenant, apart);
        let mut expected: Vec<_> = rows.iter().map(|row| row.event.id.clone()).collect();
        tenant.store_events(rows).await;
        for limit in [7, 1_000] {
            let query = tenant.list(selector.clone(), Order::Asc, limit);
            assert_eq!(tenant.ids(query).await.0, expected, "{selector:?} ascending by {limit}");
        }
        expected.reverse();
        for limit in [7, 1_000] {
            let query = tenant.list(selector.clone(), Order::Desc, limit);
            assert_eq!(tenant.ids(query).await.0, expected, "{selector:?} descending by {limit}");
        }
        let query = EventsQuery {
            source: Some("other".into()),
            ..tenant.list(selector.clone(), Order::Desc, 10)
        };
        let (none, pages) = tenant.ids(query).await;
        assert!(none.is_empty() && pages > 1, "{selector:?}: a page is bounded though it is empty");
    }
}

#[tokio::test]
async fn events_at_one_moment_are_paged_whatever_sub_partition_they_lie_in() {
    let Some(shared) = Shared::given() else { return };
    let tenant = Tenant::on(shared.open().await).await;
    let rows: Vec<EventRow> = (0..700).map(|n| tenant.event(n, 5)).collect();
    let mut expected: Vec<_> = rows.iter().map(|row| row.event.id.clone()).collect();
    tenant.store_events(rows).await;
    expected.reverse();
    for limit in [100, 333] {
        let query = tenant.list(Selector::Type("t".into()), Order::Desc, limit);
        assert_eq!(tenant.ids(query).await.0, expected);
    }
}

#[tokio::test]
async fn a_page_of_large_events_is_bounded_by_their_bytes() {
    let Some(shared) = Shared::given() else { return };
    let tenant = Tenant::on(shared.open().await).await;
    let rows: Vec<EventRow> = (0..40)
        .map(|n| {
            let mut row = tenant.event(n, n as i64);
            row.event.data = Data::Bytes(vec![n as u8; 1024 * 1024].into());
            row
        })
        .collect();
    tenant.store_events(rows).await;
    for selector in [Selector::Type("t".into()), Selector::Subject("sub".into())] {
        let query = tenant.list(selector.clone(), Order::Asc, 1_000);
        let (ids, pages) = tenant.ids(query).await;
        assert_eq!(ids.len(), 40, "{selector:?}");
        assert!(pages > 1, "{selector:?}: all in one page");
    }
}

#[tokio::test]
async fn a_scan_goes_through_a_directory_of_many_buckets_and_partitions() {
    let Some(shared) = Shared::given() else { return };
    let tenant = Tenant::on(shared.open().await).await;
    // 1,200 entries of the directory, which is read by 1,000.
    let mut expected = Vec::new();
    for partition in 0..4 {
        let start = |n: i64| (n - 150) * 128 * HOUR;
        let rollups: Vec<_> = (0..300).map(|n| tenant.rollup(start(n), partition, 9)).collect();
        expected.extend(rollups.clone());
        let flush = Flush { rollups, ..tenant.flush(partition, 10) };
        tenant.store.write(Arc::new(flush)).await.unwrap();
    }
    expected.sort_by(|a, b| a.key.cmp(&b.key));
    let query = RollupQuery {
        namespace: tenant.name.clone(),
        rollup: "r".into(),
        version: expected[0].key.version,
        window: HOUR,
        from: i64::MIN,
        to: i64::MAX,
    };
    let all = tenant.store.rollup_scan(&query, None, 5_000).await;
    assert_eq!(all, Ok(expected.clone()));
    let mut found = Vec::new();
    loop {
        let after = found.last().map(|row: &sink::store::RollupRow| row.key.clone());
        let page = tenant.store.rollup_scan(&query, after.as_ref(), 500).await.unwrap();
        let end = page.len() < 500;
        found.extend(page);
        if end {
            break;
        }
    }
    assert_eq!(found, expected);
}
