//! One connection: which protocol it speaks, its bounds, and its goodbye.
//!
//! HTTP/2 is known by ALPN on TLS, else by its first bytes (prior knowledge, RFC 9113, 3.3). What a connection can hold in
//! memory is bounded before any handler asks for a body: one head, and the window that its peer
//! may fill unasked. Bodies that a handler reads are charged to its own budget.

use std::{io, pin::Pin, time::Duration};

use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::{Goodbye, manners::Manners, request_id, stream::Stream};

/// What every HTTP/2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Requests at once on one HTTP/2 connection. RFC 9113 asks for 100 at least.
const STREAMS: u32 = 100;
/// What a peer may send on one HTTP/2 connection before anybody reads it: at 20 ms there and back it
/// still fills 100 Mbit/s.
const WINDOW: u32 = 256 * 1024;
/// What an HTTP/1.1 connection buffers at most, if its heads may not be larger.
const BUFFER: usize = 64 * 1024;
/// How often a quiet HTTP/2 peer is asked whether it is there, and how long it may take to answer.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// How long nothing goes on on an HTTP/1.1 connection before it is at rest; twice that at most.
const REST: Duration = Duration::from_secs(1);

/// How many times as long as for its head is waited for a client that takes nothing of its answer. The kernel
/// asks for more only when a third of what it holds, which may be 4 MiB, has left.
const UNREAD: u32 = 4;

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
        let head = usize::try_from(header_bytes).unwrap_or(usize::MAX);
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(header_timeout)
            .max_header_size(head)
            .max_buf_size(head.max(BUFFER));
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

    /// Serves a connection to its end. What it speaks is boxed, so that each holds the memory of its own
    /// protocol only and not of the largest.
    pub(super) async fn serve(
        self,
        stream: TcpStream,
        tls: Option<TlsAcceptor>,
        manners: Manners,
        goodbye: Goodbye,
    ) {
        let ended = match tls {
            None => self.speak(stream, manners, goodbye).await,
            Some(tls) => Box::pin(self.speak_secretly(stream, tls, manners, goodbye)).await,
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
                    manners.rules.metrics.handshakes_failed.inc();
                    failed??
                }
            },
            () = goodbye.idle_end.cancelled() => return Ok(()),
        };
        let two = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let stream = Stream::new(stream, manners.traffic.clone());
        match two {
            true => Box::pin(self.http2(stream, manners, goodbye)).await,
            false => self.http1(stream, manners, goodbye).await,
        }
    }

    /// Serves whichever protocol the first bytes are of.
    async fn speak(
        self,
        stream: TcpStream,
        manners: Manners,
        goodbye: Goodbye,
    ) -> Result<(), Ended> {
        let mut stream = Stream::new(stream, manners.traffic.clone());
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
        stream.unread(&begun[..length]);
        match begun == PREFACE {
            true => Box::pin(self.http2(stream, manners, goodbye)).await,
            false => self.http1(stream, manners, goodbye).await,
        }
    }

    /// Serves requests, and between them, when it is at rest, keeps the stream only: hyper's buffers are
    /// ten times as large as all else of a connection.
    async fn http1(
        self,
        mut stream: Stream<impl AsyncRead + AsyncWrite + Unpin + Send + 'static>,
        manners: Manners,
        goodbye: Goodbye,
    ) -> Result<(), Ended> {
        loop {
            let awake = Box::pin(self.http1_until_rest(stream, manners.clone(), &goodbye));
            match awake.await? {
                Some(at_rest) => stream = at_rest,
                None => return Ok(()),
            }
            let silence = self.header_timeout.saturating_sub(REST);
            let begins = tokio::select! {
                biased;
                begins = timeout(silence, stream.begins()) => begins??,
                () = goodbye.idle_end.cancelled() => false,
            };
            if !begins {
                // With TLS that is a message, which may not be taken off our hands.
                let _ = timeout(REST, stream.shutdown()).await;
                return Ok(());
            }
        }
    }

    /// Serves a connection to its end, or until it is at rest: then it is the answer.
    async fn http1_until_rest<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        stream: Stream<S>,
        manners: Manners,
        goodbye: &Goodbye,
    ) -> Result<Option<Stream<S>>, Ended> {
        let traffic = manners.traffic.clone();
        let mut serving = self.http1.serve_connection(TokioIo::new(stream), manners);
        tokio::select! {
            // First, so that what was read is taken in before hyper judges it idle.
            biased;
            result = &mut serving => return Ok(result.map(|()| None)?),
            () = goodbye.idle_end.cancelled() => {}
            () = traffic.stuck_for(UNREAD * self.header_timeout) => return Err(Ended::Unread),
            () = traffic.at_rest_for(REST) => {
                let parts = serving.into_parts();
                let mut stream = parts.io.into_inner();
                stream.unread(&parts.read_buf);
                return Ok(Some(stream));
            }
        }
        Pin::new(&mut serving).graceful_shutdown();
        Ok(serving.await.map(|()| None)?)
    }

    async fn http2(
        self,
        stream: Stream<impl AsyncRead + AsyncWrite + Unpin + Send + 'static>,
        manners: Manners,
        goodbye: Goodbye,
    ) -> Result<(), Ended> {
        let traffic = manners.traffic.clone();
        let serving = self.http2.serve_connection(TokioIo::new(stream.lingering()), manners);
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
    #[error("it took nothing of its answer for too long")]
    Unread,
}

/// Tells a client that there are too many, without spending a place on it.
pub(super) async fn shed(mut stream: TcpStream) {
    let mut problem = crate::problem::Problem::new(
        http::StatusCode::SERVICE_UNAVAILABLE,
        "too_many_connections",
        "Too many connections",
        "the server has as many connections as it takes: retry later, or keep connections open \
         and reuse them",
    );
    problem.request_id = request_id::fresh();
    let body = problem.to_json();
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: {}\r\ncontent-length: {}\r\n\
         retry-after: 1\r\n{}: {}\r\nconnection: close\r\n\r\n",
        crate::problem::PROBLEM_JSON,
        body.len(),
        request_id::HEADER,
        problem.request_id,
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
