//! A line of the log for each request, under the id that its answer has: at `info` where not all was accepted,
//! a bounded number of them a second, and at `debug` else.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{HeaderValue, Method, StatusCode, Uri};

/// Lines at `info` in a second: callers that are refused, however often, fill no disk.
const MOST: u64 = 20;

/// Bytes of a path and of a method that are told: no route is longer, and a stranger may send anything.
const MOST_BYTES: usize = 256;

/// How many lines this second had: its number since the Unix epoch, then 16 bits that count.
#[derive(Debug, Default)]
pub(super) struct AccessLog(AtomicU64);

impl AccessLog {
    /// Notes an answer. The query of the URL is left out, because it may name events and tokens.
    pub(super) fn answered(
        &self,
        id: Option<&HeaderValue>,
        method: &Method,
        uri: &Uri,
        status: StatusCode,
        took: Duration,
    ) {
        let told = status == StatusCode::MULTI_STATUS || status.as_u16() >= 400;
        let request_id = || id.and_then(|id| id.to_str().ok()).unwrap_or_default();
        let (method, path) = (cut(method.as_str()), cut(uri.path()));
        let (status, ms) = (status.as_u16(), took.as_secs_f64() * 1e3);
        if told && self.has_room(seconds()) {
            tracing::info!(
                request_id = request_id(),
                method,
                path,
                status,
                ms,
                "request not accepted"
            );
        } else {
            tracing::debug!(request_id = request_id(), method, path, status, ms, "request");
        }
    }

    fn has_room(&self, second: u64) -> bool {
        let next = |held: u64| match (held >> 16 == second, held & 0xFFFF) {
            (false, _) => Some(second << 16 | 1),
            (true, lines) if lines < MOST => Some(held + 1),
            (true, _) => None,
        };
        self.0.fetch_update(Relaxed, Relaxed, next).is_ok()
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MOST_BYTES)]
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_sends_is_cut_between_characters() {
        assert_eq!(cut("/v1/events"), "/v1/events");
        assert_eq!(cut(&format!("/{}", "é".repeat(4_000))).len(), 255);
    }

    #[test]
    fn each_second_has_its_own_lines() {
        let log = AccessLog::default();
        let lines = |second| (0..100).filter(|_| log.has_room(second)).count() as u64;
        assert_eq!((lines(7), lines(7), lines(8)), (MOST, 0, MOST));
    }
}
