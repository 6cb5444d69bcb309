//! The id of a request: taken from the client when it sent a sane one, else made here.
//!
//! It lives in a task-local so that an error deep inside a handler can name it without every
//! function passing it on. A handler that answers from a task it spawned has none there.

use std::sync::{
    LazyLock,
    atomic::{AtomicU64, Ordering},
};

use http::{HeaderMap, HeaderName};

/// The header that carries it, both ways.
pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");

const LONGEST: usize = 128;

tokio::task_local! {
    static CURRENT: String;
}

/// The id of the request that this task answers.
pub fn current() -> Option<String> {
    CURRENT.try_with(Clone::clone).ok()
}

/// Runs a future as the answer to that request.
pub fn scope<F: Future>(id: String, answer: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(id, answer)
}

/// The client's id if it has one that is safe to log and send back, else a new one.
pub fn of(headers: &HeaderMap) -> String {
    let sane = |id: &&str| {
        (1..=LONGEST).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:/+=".contains(&b))
    };
    let sent = headers.get(HEADER).and_then(|v| v.to_str().ok()).filter(sane);
    sent.map_or_else(fresh, str::to_owned)
}

/// Unique across processes by a random part, within one by a counter: no entropy per request.
pub(super) fn fresh() -> String {
    static PROCESS: LazyLock<u64> = LazyLock::new(|| uuid::Uuid::new_v4().as_u64_pair().0);
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{:016x}-{:x}", *PROCESS, NEXT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn an_id_that_could_forge_a_log_line_is_replaced() {
        let of_value =
            |v: &[u8]| of(&HeaderMap::from_iter([(HEADER, HeaderValue::from_bytes(v).unwrap())]));
        assert_eq!(of_value(b"shop-7/a"), "shop-7/a");
        assert_ne!(of_value(b"a b"), "a b");
        assert_ne!(of_value(&[b'a'; 129]), "a".repeat(129));
        assert_ne!(of(&HeaderMap::new()), of(&HeaderMap::new()));
    }
}
