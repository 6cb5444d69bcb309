//! A binary asks the one that runs, over a real socket.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{net::SocketAddr, sync::Arc, time::Instant};

use service::{
    admin::metrics_gate,
    config::AdminConfig,
    health::Health,
    probe::{Probe, ask},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

async fn start(address: &str, health: &Health) -> SocketAddr {
    let listener = TcpListener::bind(address).await.unwrap();
    let admin = listener.local_addr().unwrap();
    let token = CancellationToken::new();
    let gate = metrics_gate(&AdminConfig::default());
    tokio::spawn(service::admin::serve(listener, Arc::default(), gate, health.clone(), token));
    admin
}

#[tokio::test]
async fn a_process_that_cannot_serve_is_alive_and_the_answer_says_what_fails() {
    let health = Health::default();
    let part = health.part("log");
    part.failing("no broker answers");
    let admin = start("127.0.0.1:0", &health).await;

    ask(Probe::Livez, admin).await.unwrap();
    let error = format!("{:#}", ask(Probe::Readyz, admin).await.unwrap_err());
    assert!(error.contains("503") && error.contains("no broker answers"), "{error}");
    part.ready();
    ask(Probe::Readyz, admin).await.unwrap();
}

#[tokio::test]
async fn who_listens_everywhere_is_asked_on_loopback() {
    for everywhere in ["0.0.0.0:0", "[::]:0"] {
        ask(Probe::Readyz, start(everywhere, &Health::default()).await).await.unwrap();
    }
}

#[tokio::test]
async fn nobody_there_is_an_error_that_names_the_address() {
    let admin = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = format!("{:#}", ask(Probe::Livez, admin).await.unwrap_err());
    assert!(error.contains(&format!("http://{admin}/livez")), "{error}");
}

#[tokio::test]
async fn who_accepts_and_says_nothing_is_given_up_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let began = Instant::now();
    let error = ask(Probe::Livez, silent.local_addr().unwrap()).await.unwrap_err();
    assert!(format!("{error:#}").contains("no answer within") && began.elapsed().as_secs() < 5);
}
