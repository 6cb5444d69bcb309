//! The HTTP listener that every service stands behind: who is let in, and how it says goodbye.
//!
//! It knows nothing of routes or bodies; those are the router's. What it promises is that **no
//! request is cut off unanswered** when the process is told to stop: see [`serve`]. Two orders keep
//! that promise. The listener is emptied and closed before clients are asked to go away, or those
//! who come back at once would be the ones that are cut off. And connections that look idle are
//! closed last, after a grace: a request may be under way on them.

mod host;
mod manners;
mod metrics;
pub mod request_id;
mod routes;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use self::manners::Manners;
use crate::auth::{Caller, Gate};

pub use self::{
    host::{Admission, check_listen},
    metrics::Metrics,
    routes::Routes,
};

/// How a listener behaves.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// Whether only requests to loopback hosts are answered while the gate is open; see
    /// [`check_listen`].
    pub check_host: bool,
    /// Who is let in.
    pub gate: Gate,
    /// How long requests may take to finish once the service is told to stop; then they are cut.
    pub drain: Duration,
    /// How long connections without a request are kept open once the service is told to stop.
    pub grace: Duration,
    /// How long a client may take to send a request's head, or be silent between two requests.
    pub header_timeout: Duration,
    /// Connections at once; more are answered with 503. Never above half of what the process may
    /// open as files, so that the log and the store always have theirs.
    pub max_connections: usize,
    /// What is counted.
    pub metrics: Metrics,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            check_host: true,
            gate: Gate::open_to(Caller::anyone()),
            drain: Duration::from_secs(20),
            grace: Duration::from_secs(1),
            header_timeout: Duration::from_secs(30),
            max_connections: 4096,
            metrics: Metrics::default(),
        }
    }
}

/// Serves until `shutdown`, then drains, and returns when every connection is closed.
///
/// The drain: take in whoever has connected already, close the listener, answer every request
/// with `Connection: close`, close connections that stay idle for `options.grace`, wait for
/// answers under way up to `options.drain`.
pub async fn serve(
    listener: TcpListener,
    routes: impl Into<Routes>,
    options: HttpOptions,
    shutdown: CancellationToken,
) {
    let closing = Arc::new(AtomicBool::new(false));
    let mut connections = Connections {
        open: JoinSet::new(),
        shedding: JoinSet::new(),
        limit: options.max_connections.min(open_file_limit() / 2).max(1),
        manners: Manners {
            routes: routes.into(),
            check_host: options.check_host,
            gate: options.gate,
            metrics: options.metrics.clone(),
            closing: closing.clone(),
        },
        idle_end: CancellationToken::new(),
        header_timeout: options.header_timeout,
    };

    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(_) = connections.open.join_next() => connections.count(),
            Some(_) = connections.shedding.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => connections.admit(stream),
                Err(error) => recover(error).await,
            },
        }
    }

    while let Some(Ok((stream, _))) = listener.accept().now_or_never() {
        connections.admit(stream);
    }
    drop(listener);
    closing.store(true, Ordering::Release);
    connections.drain(options.drain, options.grace.min(options.drain)).await;
}

/// One failed accept must not end the service, nor turn into a busy loop.
async fn recover(error: io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        return; // That client left again; the listener is fine.
    }
    tracing::warn!(%error, "cannot accept connections; trying again");
    sleep(Duration::from_millis(100)).await;
}

struct Connections {
    open: JoinSet<()>,
    shedding: JoinSet<()>,
    limit: usize,
    manners: Manners,
    /// Cancelled when idle connections are to be closed.
    idle_end: CancellationToken,
    header_timeout: Duration,
}

impl Connections {
    fn admit(&mut self, stream: TcpStream) {
        if self.open.len() < self.limit {
            // Answers are small and written whole; waiting to fill a packet only delays them.
            let _ = stream.set_nodelay(true);
            let serve = connection(
                stream,
                self.manners.clone(),
                self.header_timeout,
                self.idle_end.clone(),
            );
            self.open.spawn(serve);
            self.count();
        } else {
            self.manners.metrics.shed.inc();
            // Even saying no costs a descriptor for a moment; beyond this many it is not said.
            if self.shedding.len() < 64 {
                self.shedding.spawn(shed(stream));
            }
        }
    }

    fn count(&self) {
        let open = i64::try_from(self.open.len()).unwrap_or(i64::MAX);
        self.manners.metrics.connections.set(open);
    }

    async fn drain(mut self, deadline: Duration, grace: Duration) {
        let idle_end = self.idle_end.clone();
        let all_closed = async {
            let grace_over = sleep(grace);
            tokio::pin!(grace_over);
            loop {
                tokio::select! {
                    closed = self.open.join_next() => if closed.is_none() { break },
                    () = &mut grace_over, if !idle_end.is_cancelled() => idle_end.cancel(),
                }
            }
        };
        if timeout(deadline, all_closed).await.is_err() {
            tracing::warn!(
                connections = self.open.len(),
                "requests were still under way at the drain deadline and are cut off"
            );
        }
        self.open.shutdown().await;
        self.count();
    }
}

async fn connection(
    stream: TcpStream,
    manners: Manners,
    header_timeout: Duration,
    idle_end: CancellationToken,
) {
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .serve_connection(TokioIo::new(stream), manners);
    tokio::pin!(serving);
    let result = tokio::select! {
        result = serving.as_mut() => result,
        () = idle_end.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = result {
        // The client's doing (it left, was silent too long, spoke no HTTP): no matter for a warning.
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Tells a client that there are too many, without spending a place on it.
async fn shed(mut stream: TcpStream) {
    let body = crate::problem::Problem::new(
        http::StatusCode::SERVICE_UNAVAILABLE,
        "too_many_connections",
        "Too many connections",
        "the server has as many connections as it takes: retry later, or keep connections open \
         and reuse them",
    )
    .to_json();
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: {}\r\ncontent-length: {}\r\n\
         retry-after: 1\r\nconnection: close\r\n\r\n",
        crate::problem::PROBLEM_JSON,
        body.len()
    );
    let answer = async {
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&body).await?;
        stream.shutdown().await?;
        // Closing with unread bytes would reset the connection and take the answer away.
        let mut unread = [0; 4096];
        while stream.read(&mut unread).await? > 0 {}
        io::Result::Ok(())
    };
    let _ = timeout(Duration::from_secs(1), answer).await;
}

/// How many files the process may open: the soft limit, or a cautious guess where it is not told.
fn open_file_limit() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|rest| rest.split_whitespace().next());
    match soft {
        Some("unlimited") => usize::MAX,
        soft => soft.and_then(|n| n.parse().ok()).unwrap_or(1024),
    }
}

/// Binds a listener, with an error that says what to do.
pub async fn bind(addr: SocketAddr, setting: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(addr).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "{setting}: {addr} is in use by another process: stop it, or choose another port (0 \
             picks a free one)"
        ),
        _ => anyhow::anyhow!("{setting}: cannot listen on {addr}: {error}"),
    })
}
