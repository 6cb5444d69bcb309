//! Opening: by many at once, after one that died, with what does not fit.

use futures_util::future::join_all;
use service::config::StoreConfig;
use sink::store::{StoreError, contract::Harness};

use crate::{
    cluster::{Shared, config, fresh_keyspace, nodes, open, session},
    sample::Tenant,
};

async fn refusal(config: &StoreConfig) -> String {
    match open(config).await.err().expect("it opens") {
        StoreError::Fatal(why) => why,
        other => panic!("another error: {other}"),
    }
}

async fn drop_keyspace(nodes: &str, keyspace: &str) {
    let text = format!("DROP KEYSPACE IF EXISTS {keyspace}");
    session(nodes).await.query_unpaged(text, ()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_that_come_at_once_make_one_set_of_tables() {
    let Some(nodes) = nodes() else { return };
    let keyspace = fresh_keyspace();
    let config = config(&nodes, &keyspace);
    let stores = join_all((0..8).map(|_| open(&config))).await;
    for store in stores {
        // Each of them works on the tables as they are.
        let tenant = Tenant::on(store.unwrap()).await;
        let row = tenant.event(0, 0);
        tenant.store_events(vec![row.clone()]).await;
        assert_eq!(tenant.store.event(&row.identity()).await, Ok(Some(row)));
    }
    let session = session(&nodes).await;
    let text = format!("SELECT name FROM {keyspace}.locks");
    let left = session.query_unpaged(text, ()).await.unwrap().into_rows_result().unwrap();
    assert_eq!(left.rows_num(), 0, "the lease was given back");
    drop_keyspace(&nodes, &keyspace).await;
}

#[tokio::test]
async fn a_lease_of_one_that_died_ends_by_itself() {
    let Some(nodes) = nodes() else { return };
    let keyspace = fresh_keyspace();
    let session = session(&nodes).await;
    let run = async |text: &str| {
        session.query_unpaged(text.replace("KS", &keyspace), ()).await.unwrap();
    };
    let datacenter = "SELECT data_center FROM system.local";
    let found = session.query_unpaged(datacenter, ()).await.unwrap().into_rows_result().unwrap();
    let (datacenter,) = found.single_row::<(String,)>().unwrap();
    run(&format!(
        "CREATE KEYSPACE KS WITH replication = \
         {{'class': 'NetworkTopologyStrategy', '{datacenter}': 1}}"
    ))
    .await;
    run("CREATE TABLE KS.locks (name text PRIMARY KEY, holder text)").await;
    run("INSERT INTO KS.locks (name, holder) VALUES ('migrations', 'dead') IF NOT EXISTS \
         USING TTL 3")
    .await;
    open(&config(&nodes, &keyspace)).await.unwrap();
    drop_keyspace(&nodes, &keyspace).await;
}

#[tokio::test]
async fn a_keyspace_of_another_layout_is_refused_with_both() {
    let Some(shared) = Shared::given() else { return };
    drop(shared.open().await);
    let given = config(&shared.nodes, shared.keyspace);
    let why = refusal(&StoreConfig { sub_buckets: 9, ..given.clone() }).await;
    assert!(why.contains("sub_buckets 8") && why.contains("says 9"), "{why}");
    let bucket = std::time::Duration::from_secs(60);
    let why = refusal(&StoreConfig { bucket, ..given }).await;
    assert!(why.contains("store.bucket"), "{why}");
}

#[tokio::test]
async fn a_datacenter_that_is_not_there_is_refused_with_those_that_are() {
    let Some(shared) = Shared::given() else { return };
    let datacenter = Some("nowhere".to_owned());
    let given = config(&shared.nodes, shared.keyspace);
    let why = refusal(&StoreConfig { datacenter, ..given }).await;
    assert!(why.contains("`nowhere`") && why.contains("the cluster has: "), "{why}");
}

#[tokio::test]
async fn a_url_that_cannot_be_is_refused_before_anyone_is_asked() {
    for (url, word) in [
        ("scylla://127.0.0.1", "no keyspace"),
        ("scylla://me:secret@127.0.0.1/k", "store.password"),
        ("scylla:127.0.0.1/k", "`//`"),
        ("cassandra://127.0.0.1/k", "scylla://"),
    ] {
        let why = refusal(&StoreConfig { url: url.into(), ..StoreConfig::default() }).await;
        assert!(why.contains(word) && !why.contains("secret"), "{why}");
    }
}
