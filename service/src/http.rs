//! The HTTP listener that every service stands behind: who is let in, and how it says goodbye.
//!
//! It knows nothing of routes or bodies; those are the router's. It speaks HTTP/1.1 and HTTP/2. What
//! it promises is that **no request is cut off unanswered** when the process is told to stop: see
//! [`serve`]. Two orders keep that promise. The listener is emptied and closed before clients are
//! asked to go away, or those who come back at once would be the ones that are cut off. And
//! connections that look idle are closed last, after a grace: a request may be under way on them.

mod access;
mod connection;
mod discard;
mod host;
mod manners;
mod metrics;
pub mod request_id;
mod routes;
mod stream;
pub mod tls;
mod traffic;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use self::{
    access::AccessLog,
    connection::{Protocols, shed},
    manners::{Manners, Rules},
    tls::Tls,
};
pub use self::{
    discard::{Allowance, discard, expects_continue, turn_away},
    host::{Admission, check_listen},
    metrics::Metrics,
    routes::Routes,
};
use crate::auth::{Caller, Gate};

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
    /// Bytes of a request's head; a larger one is answered with 431.
    pub max_header_bytes: u32,
    /// Connections at once, and requests at once on all of them; more are answered with 503. Never
    /// above half of what the process may open as files, so that the log and the store always
    /// have theirs.
    pub max_connections: usize,
    /// TLS; without it, clients speak in the clear.
    pub tls: Option<Tls>,
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
            max_header_bytes: 64 * 1024,
            max_connections: 4096,
            tls: None,
            metrics: Metrics::default(),
        }
    }
}

/// Serves until `shutdown`, then drains, and returns when every connection is closed.
///
/// The drain: take in whoever has connected already, close the listener, ask clients to go away
/// (HTTP/1.1: `Connection: close` on every answer; HTTP/2: GOAWAY, which still takes requests that
/// cross it), close connections that stay idle for `options.grace`, wait for answers under way up
/// to `options.drain`.
pub async fn serve(
    listener: TcpListener,
    routes: impl Into<Routes>,
    options: HttpOptions,
    shutdown: CancellationToken,
) {
    let limit = options.max_connections.min(open_file_limit() / 2).max(1);
    let goodbye = Goodbye::default();
    let rules = Rules {
        routes: routes.into(),
        check_host: options.check_host,
        gate: options.gate,
        metrics: options.metrics,
        closing: goodbye.closing.clone(),
        log: AccessLog::default(),
        places: Semaphore::new(limit.min(Semaphore::MAX_PERMITS)),
    };
    let mut connections = Connections {
        open: JoinSet::new(),
        shedding: JoinSet::new(),
        limit,
        rules: Arc::new(rules),
        protocols: Protocols::new(options.header_timeout, options.max_header_bytes),
        tls: options.tls.clone(),
        goodbye,
    };
    let mut upkeep = JoinSet::new(); // ends with this function
    if let Some(tls) = options.tls {
        upkeep.spawn(tls.watch());
    }

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

    // Closing a listener resets whoever waits behind it, also those of whom the runtime was not told yet.
    if let Ok(listener) = listener.into_std() {
        for stream in listener.incoming().take(limit).map_while(Result::ok) {
            let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
            if let Ok(stream) = stream {
                connections.admit(stream); // else it has left again
            }
        }
    }
    connections.goodbye.closing.cancel();
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

/// The two steps of a drain, each cancelled when it comes.
#[derive(Clone, Debug, Default)]
struct Goodbye {
    /// Clients are asked to go away.
    closing: CancellationToken,
    /// Idle connections are closed.
    idle_end: CancellationToken,
}

struct Connections {
    open: JoinSet<()>,
    shedding: JoinSet<()>,
    limit: usize,
    rules: Arc<Rules>,
    protocols: Protocols,
    tls: Option<Tls>,
    goodbye: Goodbye,
}

impl Connections {
    fn admit(&mut self, stream: TcpStream) {
        if self.open.len() < self.limit {
            // Answers are small and written whole; waiting to fill a packet only delays them.
            let _ = stream.set_nodelay(true);
            let protocols = self.protocols.clone();
            let manners = Manners { rules: self.rules.clone(), traffic: Arc::default() };
            let tls = self.tls.as_ref().map(Tls::acceptor);
            self.open.spawn(protocols.serve(stream, tls, manners, self.goodbye.clone()));
            self.count();
        } else {
            self.rules.metrics.shed.inc();
            // Even saying no costs a descriptor for a moment; beyond this many it is not said. Nor
            // is it on TLS, where it would take a handshake.
            if self.tls.is_none() && self.shedding.len() < 64 {
                self.shedding.spawn(shed(stream));
            }
        }
    }

    fn count(&self) {
        let open = i64::try_from(self.open.len()).unwrap_or(i64::MAX);
        self.rules.metrics.connections.set(open);
    }

    async fn drain(mut self, deadline: Duration, grace: Duration) {
        let idle_end = self.goodbye.idle_end.clone();
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
