//! haproxy in front of ingest and query, as an installation has it.

use std::{
    fmt::Write,
    net::SocketAddr,
    path::Path,
    process::{Child, Stdio},
};

use anyhow::{Context, Result};

use super::member::{free_port, guarded};

/// A running load balancer.
pub struct Proxy {
    child: Child,
    /// Where it answers.
    pub address: SocketAddr,
}

impl Proxy {
    /// Sends requests that write, and those of the schema registry, to `ingest` and others to `query`, each given as its HTTP and
    /// its admin address, while their `/readyz` says so.
    pub fn start(
        dir: &Path,
        ingest: &[(SocketAddr, SocketAddr)],
        query: &[(SocketAddr, SocketAddr)],
    ) -> Result<Self> {
        let address = free_port()?;
        let config = dir.join("haproxy.cfg");
        let mut text = format!(
            "defaults\n\
             \x20 mode http\n\
             \x20 timeout connect 2s\n  timeout client 60s\n  timeout server 60s\n\
             \x20 option redispatch\n\
             \x20 option httpchk\n\
             \x20 http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host localhost\n\
             \x20 default-server inter 500ms fall 2 rise 1\n\
             \x20 http-error status 503 content-type application/problem+json hdr Retry-After 1 \
             string '{{\"title\":\"Nobody serves\",\"status\":503}}'\n\
             frontend all\n\
             \x20 bind {address}\n\
             \x20 use_backend ingest if METH_POST or {{ path_beg /registry }}\n\
             \x20 default_backend query\n"
        );
        for (name, members) in [("ingest", ingest), ("query", query)] {
            writeln!(text, "backend {name}\n  balance roundrobin")?;
            for (number, (http, admin)) in members.iter().enumerate() {
                writeln!(text, "  server {name}{number} {http} check port {}", admin.port())?;
            }
        }
        std::fs::write(&config, text)?;
        let log = std::fs::File::create(dir.join("haproxy.log"))?;
        let child = guarded(Path::new("haproxy"))
            .arg("-db")
            .arg("-f")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("haproxy is needed")?;
        Ok(Self { child, address })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended by itself
        let _ = self.child.wait();
    }
}
