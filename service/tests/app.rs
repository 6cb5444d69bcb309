//! A process as a whole: its order of stopping, and that nothing lingers half-alive.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::anyhow;
use prometheus_client::registry::Registry;
use service::{app::App, config::Config};
use tokio::{net::TcpListener, time::sleep};
use tokio_util::sync::CancellationToken;

type Said = Arc<Mutex<Vec<&'static str>>>;

async fn app() -> App {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = Config::default();
    config.shutdown.deadline = Duration::from_secs(2);
    App::start("test", listener, Registry::default(), &config).unwrap()
}

/// A handle that says when it is let go.
struct Handle(Said);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.lock().unwrap().push("closed");
    }
}

async fn readiness(app: &App) -> String {
    let url = format!("http://{}/readyz", app.admin_addr);
    reqwest::get(url).await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn stages_stop_in_the_order_in_which_they_were_added_and_handles_go_last() {
    let (mut app, said) = (app().await, Said::default());
    let (first, second) = (app.stage(), app.stage());
    app.hold(Handle(said.clone()));
    for (stage, name, pause) in [(second, "second", 0), (first, "first", 50)] {
        let said = said.clone();
        app.spawn(stage, name, |token| async move {
            token.cancelled().await;
            sleep(Duration::from_millis(pause)).await;
            said.lock().unwrap().push(name);
            Ok(())
        });
    }
    app.stop().await.unwrap();
    assert_eq!(*said.lock().unwrap(), ["first", "second", "closed"]);
}

#[tokio::test]
async fn a_process_is_ready_once_it_says_so_and_operators_can_watch_before() {
    let app = app().await;
    assert!(readiness(&app).await.contains("\"part\":\"test\",\"reason\":\"starting\""));
    app.ready();
    assert!(readiness(&app).await.contains("\"ready\":true"));
    app.stop().await.unwrap();
}

#[tokio::test]
async fn a_part_that_fails_stops_the_others_and_is_the_error() {
    let (mut app, said) = (app().await, Said::default());
    let (first, second) = (app.stage(), app.stage());
    let other = said.clone();
    app.spawn(first, "door", |token| async move {
        token.cancelled().await;
        other.lock().unwrap().push("door stopped");
        Ok(())
    });
    app.spawn(second, "sink", |_| async { Err(anyhow!("the disk is gone")) });
    let error = app.until(CancellationToken::new(), Ok(())).await.unwrap_err();
    assert_eq!(format!("{error:#}"), "sink failed: the disk is gone");
    assert_eq!(*said.lock().unwrap(), ["door stopped"]);
}

#[tokio::test]
async fn a_start_that_fails_stops_what_was_started() {
    let (mut app, said) = (app().await, Said::default());
    app.hold(Handle(said.clone()));
    let stage = app.stage();
    app.spawn(stage, "door", |token| async move {
        token.cancelled().await;
        Ok(())
    });
    let failed = Err(anyhow!("four partitions instead of two"));
    let error = app.until(CancellationToken::new(), failed).await.unwrap_err();
    assert!(error.to_string().contains("four partitions"));
    assert_eq!(*said.lock().unwrap(), ["closed"]);
}

#[tokio::test]
async fn a_process_that_is_told_to_stop_ends_well() {
    let (mut app, shutdown) = (app().await, CancellationToken::new());
    let stage = app.stage();
    app.spawn(stage, "door", |token| async move {
        token.cancelled().await;
        Ok(())
    });
    shutdown.cancel();
    app.until(shutdown, Ok(())).await.unwrap();
}
