//! A store that is not there, is silent, or goes away and comes back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use sink::store::{StoreError, contract::Harness};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{
    cluster::{Shared, config, open},
    sample::Tenant,
};

async fn why_not(node: &str, within: Duration) -> String {
    let began = Instant::now();
    let opened = open(&config(node, "k")).await;
    assert!(began.elapsed() < within, "it took {:?}", began.elapsed());
    match opened.err().expect("it opens") {
        StoreError::Retry(why) => why,
        other => panic!("another error: {other}"),
    }
}

#[tokio::test]
async fn a_store_that_is_away_is_to_be_tried_again_and_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = listener.local_addr().unwrap().to_string();
    drop(listener);
    let why = why_not(&node, Duration::from_secs(20)).await;
    assert!(why.contains(&node), "{why}");
}

#[tokio::test]
async fn a_store_that_never_answers_is_to_be_tried_again_and_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = listener.local_addr().unwrap().to_string();
    let silent = tokio::spawn(async move {
        let mut taken = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            taken.push(connection);
        }
    });
    let why = why_not(&node, Duration::from_secs(20)).await;
    assert!(why.contains(&node), "{why}");
    silent.abort();
}

/// Stands between a store and its node, and can be switched off.
struct Wire {
    address: String,
    on: Arc<AtomicBool>,
}

impl Wire {
    async fn to(node: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let on = Arc::new(AtomicBool::new(true));
        let open = on.clone();
        tokio::spawn(async move {
            let mut wires = JoinSet::new();
            loop {
                let tick = tokio::time::sleep(Duration::from_millis(20));
                tokio::select! {
                    accepted = listener.accept() => {
                        let (mut near, _) = accepted.unwrap();
                        let node = node.clone();
                        wires.spawn(async move {
                            let mut far = TcpStream::connect(node).await.unwrap();
                            copy_bidirectional(&mut near, &mut far).await.ok();
                        });
                    }
                    () = tick => {}
                }
                if !open.load(Ordering::SeqCst) {
                    wires.abort_all();
                }
            }
        });
        Self { address, on }
    }

    fn switch(&self, on: bool) {
        self.on.store(on, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_goes_away_is_to_be_tried_again_and_answers_when_it_is_back() {
    let Some(shared) = Shared::given() else { return };
    drop(shared.open().await);
    let wire = Wire::to(shared.nodes.split(',').next().unwrap().to_owned()).await;
    let store = open(&config(&wire.address, shared.keyspace)).await.unwrap();
    let tenant = Tenant::on(store).await;
    let rows: Vec<_> = (0..100).map(|n| tenant.event(n, 0)).collect();
    let last = rows[99].clone();
    let write = || async {
        let events = rows.clone();
        let flush = sink::store::Flush { events, ..tenant.flush(0, 100) };
        tenant.store.write(Arc::new(flush)).await
    };
    write().await.unwrap();

    wire.switch(false);
    // Until the wire is cut, a quick write would still get through.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let began = Instant::now();
    let refused = write().await;
    assert!(matches!(&refused, Err(StoreError::Retry(_))), "{refused:?}");
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    let said = refused.unwrap_err().to_string();
    assert!(!said.contains(&last.event.id) && !said.contains(&*tenant.name), "{said}");
    let read = tenant.store.event(&last.identity()).await;
    assert!(matches!(&read, Err(StoreError::Retry(_))), "{read:?}");

    wire.switch(true);
    let began = Instant::now();
    while write().await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(40), "it does not come back");
    }
    println!("back after {:?}", began.elapsed());
    assert_eq!(tenant.store.event(&last.identity()).await, Ok(Some(last)));
}
