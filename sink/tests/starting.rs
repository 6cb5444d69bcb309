//! `penstock-query` whose store is not there: alive, not ready, and in no hurry.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Killed when a test ends before it does.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended by itself
        let _ = self.0.wait();
    }
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

async fn get(url: &str) -> Option<(u16, String)> {
    let response = reqwest::get(url).await.ok()?;
    Some((response.status().as_u16(), response.text().await.ok()?))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_not_there_is_waited_for_and_named_until_sigterm() {
    let (http, admin, nobody) = (free(), free(), free());
    let mut command = Command::new(env!("CARGO_BIN_EXE_penstock-query"));
    command
        .env_clear()
        .env("PENSTOCK__STORE__URL", format!("scylla://{nobody}/k"))
        .env("PENSTOCK__HTTP__LISTEN", http.to_string())
        .env("PENSTOCK__ADMIN__LISTEN", admin.to_string())
        .stderr(Stdio::null());
    let mut child = Killed(command.spawn().unwrap());

    let deadline = Instant::now() + Duration::from_secs(30);
    let (status, body) = loop {
        let answer = get(&format!("http://{admin}/readyz")).await;
        match answer {
            Some((status, body)) if body.contains("cannot") => break (status, body),
            _ if Instant::now() > deadline => panic!("never named the store: {answer:?}"),
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    assert_eq!(status, 503);
    assert!(body.contains("\"part\":\"store\""), "{body}");
    assert_eq!(get(&format!("http://{admin}/livez")).await.unwrap().0, 200);
    let refused = reqwest::get(format!("http://{http}/v1/types")).await.unwrap();
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "1");

    let pid = child.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let told = Instant::now();
    let status = loop {
        if let Some(status) = child.0.try_wait().unwrap() {
            break status;
        }
        assert!(told.elapsed() < Duration::from_secs(20), "did not stop");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(status.success(), "{status}");
}
