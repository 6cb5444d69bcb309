//! One connection: which protocol it speaks, its bounds, and its goodbye.
//!
//! HTTP/2 is known by ALPN on TLS, else by its first bytes (prior knowledge, RFC 9113, 3.3). What a connection can hold in
//! memory is bounded before any handler asks for a body: one head, and the window that its peer
//! may fill unasked. Bodies that a handler reads are charged to its own budget.

use std::{
    io::{self, Cursor},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::extract::Request;
use hyper::{
    body::Incoming,
    rt::{Read, Write},
    server::conn::{http1, http2},
    service::Service,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, join},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{Goodbye, manners::Manners};

/// What every HTTP/2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Requests at once on one HTTP/2 connection. RFC 9113 asks for 100 at least.
const STREAMS: u32 = 100;
/// What a peer may send on one HTTP/2 connection before anybody reads it. An HTTP/1.1 connection
/// buffers up to about 400 KiB; this much at 20 ms there and back still fills 100 Mbit/s.
const WINDOW: u32 = 256 * 1024;
/// How often a quiet HTTP/2 peer is asked whether it is there, and how long it may take to answer.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may take to agree on TLS.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Both protocols with their bounds; clones share nothing that changes.
#[derive(Clone)]
pub(super) struct Protocols {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    header_timeout: Duration,
}

impl Protocols {
    /// A head takes at most `header_bytes`, and so long to arrive.
    pub(super) fn new(header_timeout: Duration, header_bytes: u32) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(header_timeout)
            .max_header_size(usize::try_from(header_bytes).unwrap_or(usize::MAX));
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        // Against rapid resets hyper's own bounds stand: 20 streams that were reset before they
        // were taken in, and 1,024 that were reset for the peer's mistakes.
        http2
            .timer(TokioTimer::new())
            .max_header_list_size(header_bytes)
            .max_concurrent_streams(STREAMS)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_send_buf_size(WINDOW as usize)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT);
        Self { http1, http2, header_timeout }
    }

    /// Serves a connection to its end.
    pub(super) async fn serve(
        self,
        stream: TcpStream,
        tls: Option<TlsAcceptor>,
        manners: Manners,
        goodbye: Goodbye,
    ) {
        let ended = match tls {
            None => self.speak(stream, manners, goodbye).await,
            Some(tls) => self.speak_secretly(stream, tls, manners, goodbye).await,
        };
        if let Err(error) = ended {
            // The client's doing (it left, was silent too long, spoke no HTTP): no matter for a
            // warning.
            tracing::debug!(%error, "a connection ended early");
        }
    }

    /// Serves the protocol that was agreed on with the client (ALPN), HTTP/1.1 without any.
    async fn speak_secretly(
        self,
        stream: TcpStream,
        tls: TlsAcceptor,
        manners: Manners,
        goodbye: Goodbye,
    ) -> Result<(), Ended> {
        let patience = self.header_timeout.min(HANDSHAKE_TIMEOUT);
        let stream = tokio::select! {
            biased;
            shaken = timeout(patience, tls.accept(stream)) => match shaken {
                Ok(Ok(stream)) => stream,
                failed => {
                    manners.metrics.handshakes_failed.inc();
                    failed??
                }
            },
            () = goodbye.idle_end.cancelled() => return Ok(()),
        };
        let two = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        match two {
            true => self.http2(TokioIo::new(stream), manners, goodbye).await,
            false => self.http1(TokioIo::new(stream), manners, goodbye).await,
        }
    }

    /// Serves whichever protocol the first bytes are of.
    async fn speak(
        self,
        mut stream: TcpStream,
        manners: Manners,
        goodbye: Goodbye,
    ) -> Result<(), Ended> {
        let mut begun = [0; PREFACE.len()];
        let first = tokio::select! {
            biased;
            read = timeout(self.header_timeout, stream.read(&mut begun)) => read??,
            () = goodbye.idle_end.cancelled() => return Ok(()),
        };
        let mut length = first;
        while (1..PREFACE.len()).contains(&length) && PREFACE.starts_with(&begun[..length]) {
            match timeout(self.header_timeout, stream.read(&mut begun[length..])).await?? {
                0 => break,
                read => length += read,
            }
        }
        if length == 0 {
            return Ok(());
        }
        let two = begun == PREFACE;
        let (read, write) = stream.into_split();
        let begun = Cursor::new(begun[..length].to_vec());
        let io = TokioIo::new(join(begun.chain(read), write));
        match two {
            true => self.http2(io, manners, goodbye).await,
            false => self.http1(io, manners, goodbye).await,
        }
    }

    async fn http1(
        self,
        io: impl Read + Write + Unpin + Send + 'static,
        manners: Manners,
        goodbye: Goodbye,
    ) -> Result<(), Ended> {
        let serving = self.http1.serve_connection(io, manners);
        tokio::pin!(serving);
        tokio::select! {
            // First, so that what was read is taken in before hyper judges it idle.
            biased;
            result = serving.as_mut() => return Ok(result?),
            () = goodbye.idle_end.cancelled() => {}
        }
        serving.as_mut().graceful_shutdown();
        Ok(serving.await?)
    }

    async fn http2(
        self,
        io: impl Read + Write + Unpin + Send + 'static,
        manners: Manners,
        goodbye: Goodbye,
    ) -> Result<(), Ended> {
        let traffic = Arc::new(Traffic::default());
        let watched = Watched { manners, traffic: traffic.clone() };
        let serving = self.http2.serve_connection(io, watched);
        tokio::pin!(serving);
        tokio::select! {
            biased;
            result = serving.as_mut() => return Ok(result?),
            () = goodbye.closing.cancelled() => {}
            () = traffic.idle_for(self.header_timeout) => {}
        }
        // Goes away in two steps, so that requests that cross the first are taken (RFC 9113, 6.8).
        serving.as_mut().graceful_shutdown();
        tokio::select! {
            biased;
            result = serving.as_mut() => Ok(result?),
            // Whoever does not even answer the ping between the two steps is cut off.
            () = traffic.idle_for(self.header_timeout) => Err(Ended::Silent),
        }
    }
}

/// Why a connection ended early.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("it did not begin in time")]
    Late(#[from] tokio::time::error::Elapsed),
    #[error("it was silent for too long")]
    Silent,
}

/// The requests of one HTTP/2 connection.
#[derive(Debug, Default)]
struct Traffic {
    begun: AtomicUsize,
    ended: AtomicUsize,
}

impl Traffic {
    /// Returns when no request was there for this long, or twice as long at most.
    async fn idle_for(&self, time: Duration) {
        loop {
            let begun = self.begun.load(Relaxed);
            sleep(time).await;
            if self.begun.load(Relaxed) == begun && self.ended.load(Relaxed) == begun {
                return;
            }
        }
    }
}

/// The manners of one connection, watched for traffic.
struct Watched {
    manners: Manners,
    traffic: Arc<Traffic>,
}

impl Service<Request<Incoming>> for Watched {
    type Response = <Manners as Service<Request<Incoming>>>::Response;
    type Error = <Manners as Service<Request<Incoming>>>::Error;
    type Future = Under<<Manners as Service<Request<Incoming>>>::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.traffic.begun.fetch_add(1, Relaxed);
        let guard = Begun(self.traffic.clone());
        let answer = self.manners.call(request);
        Box::pin(async move {
            let _guard = guard;
            answer.await
        })
    }
}

type Under<F> = std::pin::Pin<Box<dyn Future<Output = <F as Future>::Output> + Send>>;

/// A request under way; dropped when it is answered or given up.
struct Begun(Arc<Traffic>);

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Relaxed);
    }
}

/// Tells a client that there are too many, without spending a place on it.
pub(super) async fn shed(mut stream: TcpStream) {
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
