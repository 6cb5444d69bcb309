//! Asking a running service how it is, from the inside: what a container's health check calls.
//!
//! An image has no shell and no HTTP client, so each binary can ask the process that runs with the
//! same configuration. It speaks to the admin listener like anybody else and knows nothing more;
//! every wait has a deadline, or a process that hangs would hang its check as well.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use clap::ValueEnum;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Shorter than the time that a health check usually gets.
const DEADLINE: Duration = Duration::from_secs(2);
/// More than `/readyz` ever says.
const MAX_ANSWER: u64 = 64 * 1024;

/// The question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Probe {
    /// Whether the process works.
    Livez,
    /// Whether it can serve now.
    Readyz,
}

/// Asks whoever listens on `admin`. An answer other than 200 is an error that repeats it.
pub async fn ask(probe: Probe, admin: SocketAddr) -> Result<()> {
    if admin.port() == 0 {
        bail!("admin.listen has port 0, so nobody knows where to ask: give it a number");
    }
    let path = match probe {
        Probe::Livez => "/livez",
        Probe::Readyz => "/readyz",
    };
    let admin = reachable(admin);
    let answer = timeout(DEADLINE, get(admin, path))
        .await
        .unwrap_or_else(|_| Err(anyhow!("no answer within {DEADLINE:?}")))
        .with_context(|| format!("asking http://{admin}{path}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split(' ').nth(1) {
        Some("200") => Ok(()),
        _ => bail!("http://{admin}{path}: {} {}", head.lines().next().unwrap_or(""), body.trim()),
    }
}

/// Who listens on every address is asked on loopback.
fn reachable(mut admin: SocketAddr) -> SocketAddr {
    match admin.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => admin.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => admin.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    admin
}

async fn get(admin: SocketAddr, path: &str) -> Result<String> {
    let mut connection = TcpStream::connect(admin).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    connection.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
