//! Reading what nobody wants: closing a connection with unread bytes resets it (RFC 9112, 9.6), and a
//! client that is still sending would not see its answer.

use std::{
    pin::pin,
    sync::{LazyLock, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Version, header::EXPECT};
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::time::{Instant, sleep_until, timeout};

/// What is read of one body, and how long that may take, before its client loses its answer.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    bytes: usize,
    time: Duration,
    strange: bool,
}

impl Allowance {
    /// For whoever did not show a key, or asked for what is not there.
    pub const STRANGER: Self =
        Self { bytes: 16 << 20, time: Duration::from_secs(2), strange: true };
    /// For whoever may post.
    pub const CALLER: Self =
        Self { bytes: 256 << 20, time: Duration::from_secs(10), strange: false };
}

/// Bytes a second of all bodies of the process: a part of a core. Those who send more are slowed down
/// by the flow control of TCP, and the cores are for those whose bodies are wanted.
const PACE: u32 = 256 << 20;
/// How far ahead of the pace one may be; a timer knows milliseconds.
const AHEAD: Duration = Duration::from_millis(4);
/// How long a body waits for its turn at most. Only very many bodies at once would make that longer.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// When what was read would have been read at that pace.
static PAID_UNTIL: LazyLock<Mutex<Instant>> = LazyLock::new(|| Mutex::new(Instant::now()));

/// Discards the body of a request that its head alone is reason enough to refuse, where that has a use. A
/// client that asked first whether to send it (RFC 9110, 10.1.1) would be told to by reading it. And a
/// stranger's stream of HTTP/2 ends without harm to the connection (RFC 9113, 8.1): waiting for
/// its body would let few connections hold the place of many requests.
pub async fn turn_away<B: Body<Data = Bytes>>(request: Request<B>, allowance: Allowance) {
    let stream = allowance.strange && request.version() >= Version::HTTP_2;
    if !stream && !expects_continue(request.headers()) {
        discard(request.into_body(), allowance).await;
    }
}

/// Whether a client waits to be told to send its body.
pub fn expects_continue(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Reads and forgets what is left of a body, within the allowance. Whether that was all of it does not
/// matter: the answer is sent in any case.
pub async fn discard<B: Body<Data = Bytes>>(body: B, allowance: Allowance) {
    let mut body = pin!(body);
    let all = async {
        let mut left = allowance.bytes;
        while let Some(Ok(frame)) = body.frame().await {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(bytes) {
                Some(rest) => left = rest,
                None => return,
            }
            if body.is_end_stream() {
                return; // nobody waits for the pace who has sent all
            }
            keep_pace(bytes).await;
        }
    };
    let _ = timeout(allowance.time, all).await;
}

async fn keep_pace(bytes: usize) {
    let cost = Duration::from_secs_f64(bytes as f64 / f64::from(PACE));
    let now = Instant::now();
    let paid_until = {
        let mut paid_until = PAID_UNTIL.lock().unwrap_or_else(PoisonError::into_inner);
        *paid_until = ((*paid_until).max(now) + cost).min(now + LONGEST_WAIT);
        *paid_until
    };
    if paid_until > now + AHEAD {
        sleep_until(paid_until).await;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
    };

    use futures_util::stream;
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;

    /// Kibibytes in frames of 64, counted as they are read.
    fn body(kib: usize, read: &AtomicUsize) -> impl Body<Data = Bytes> {
        StreamBody::new(stream::iter((0..kib / 64).map(move |_| {
            read.fetch_add(64, Relaxed);
            Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[0; 64 * 1024])))
        })))
    }

    #[tokio::test]
    async fn a_body_is_read_to_its_end_at_a_pace() {
        let (begun, read) = (Instant::now(), AtomicUsize::new(0));
        discard(body(64 * 1024, &read), Allowance::CALLER).await;
        assert_eq!(read.into_inner(), 64 * 1024);
        assert!(begun.elapsed() >= Duration::from_millis(240));
    }

    #[tokio::test]
    async fn no_more_is_read_than_is_allowed() {
        let read = AtomicUsize::new(0);
        discard(body(100 * 1024, &read), Allowance::STRANGER).await;
        assert!((16 * 1024..17 * 1024).contains(&read.into_inner()));
    }
}
