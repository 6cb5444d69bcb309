//! What a write says of when it was and how long it lasts.

use std::{sync::Arc, time::Duration};

use service::config::RetentionConfig;
use sink::store::{self, Flush, Metrics, contract::Harness};

use crate::{
    cluster::{Shared, config, session},
    sample::{HOUR, SECOND, Tenant, now},
};

async fn tenant(shared: &Shared, hours: u64, metrics: &Metrics) -> Tenant {
    drop(shared.open().await);
    let hours = Duration::from_secs(hours * 3_600);
    let retention = RetentionConfig { events: hours, rollups: 10 * hours };
    let config = config(&shared.nodes, shared.keyspace);
    Tenant::on(store::open(&config, &retention, metrics.clone()).await.unwrap()).await
}

#[tokio::test]
async fn an_event_lives_from_its_append_on_and_its_identity_longer() {
    let Some(shared) = Shared::given() else { return };
    let tenant = tenant(&shared, 2, &Metrics::default()).await;
    let mut row = tenant.event(0, 0);
    row.appended_at = now() - HOUR;
    let session = session(&shared.nodes).await;
    let cells = async |what: &str, table: &str| {
        let text = format!(
            "SELECT {what} FROM {}.{table} WHERE namespace = '{}' ALLOW FILTERING",
            shared.keyspace, tenant.name
        );
        let found = session.query_unpaged(text, ()).await.unwrap().into_rows_result().unwrap();
        found.single_row::<(i64, i32)>().unwrap()
    };
    // The second time an hour later, so to say, and to the same end.
    for _ in 0..2 {
        tenant.store_events(vec![row.clone()]).await;
        let hours = |(written, life): (i64, i32), most: i32| {
            assert_eq!(written, row.appended_at);
            assert!((most - 60..=most).contains(&life), "{life}");
        };
        hours(cells("writetime(flags), ttl(flags)", "events").await, 3_600);
        hours(cells("writetime(type), ttl(type)", "events_by_subject").await, 3_600);
        hours(cells("writetime(origin), ttl(origin)", "events_by_id").await, 19 * 3_600);
    }
}

#[tokio::test]
async fn a_row_past_its_retention_is_not_written_and_counted() {
    let Some(shared) = Shared::given() else { return };
    let metrics = Metrics::default();
    let tenant = tenant(&shared, 2, &metrics).await;
    let mut row = tenant.event(0, 0);
    row.appended_at = now() - 3 * HOUR;
    tenant.store_events(vec![row.clone()]).await;
    assert_eq!(tenant.store.event(&row.identity()).await, Ok(None));
    // It is still recognised.
    assert_eq!(tenant.store.locate(&[row.identity()]).await, Ok(vec![Some(row.origin)]));
    assert_eq!(metrics.expired.get(), 1);
}

#[tokio::test]
async fn rollups_are_written_in_the_past_at_their_position() {
    let Some(shared) = Shared::given() else { return };
    let tenant = tenant(&shared, 2, &Metrics::default()).await;
    let rollups = vec![tenant.rollup(0, 0, 41)];
    tenant.store.write(Arc::new(Flush { rollups, ..tenant.flush(0, 42) })).await.unwrap();
    let text = format!(
        "SELECT writetime(events), ttl(events) FROM {}.rollups WHERE namespace = '{}' \
         ALLOW FILTERING",
        shared.keyspace, tenant.name
    );
    let session = session(&shared.nodes).await;
    let found = session.query_unpaged(text, ()).await.unwrap().into_rows_result().unwrap();
    let (written, life) = found.single_row::<(i64, i32)>().unwrap();
    assert_eq!(written, tenant.began + 42);
    assert!(written < now() - 50 * SECOND);
    assert!((19 * 3_600..=20 * 3_600).contains(&life), "{life}");
}

#[tokio::test]
async fn requests_are_counted_by_what_they_ask_for() {
    let Some(shared) = Shared::given() else { return };
    let mut registry = prometheus_client::registry::Registry::default();
    let metrics = Metrics::register(&mut registry);
    let tenant = tenant(&shared, 2, &metrics).await;
    tenant.store_events((0..100).map(|n| tenant.event(n, 0)).collect()).await;
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        r#"penstock_store_request_seconds_count{call="write_events"}"#,
        r#"penstock_store_request_seconds_count{call="write_locators"}"#,
        r#"penstock_store_request_seconds_count{call="write_progress"} 1"#,
        "penstock_store_in_flight 0",
        "penstock_store_in_flight_limit 64",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}
