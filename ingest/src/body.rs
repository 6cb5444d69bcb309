//! Reading a body: within its limit and the budget of all requests.
//!
//! Every byte that is kept is charged to the request's [`Share`] when it arrives. A body that is
//! refused is left to whoever refuses it, to be [discarded](service::http::discard).

use std::time::Duration;

use axum::body::{Body, HttpBody};
use http_body_util::BodyExt;
use tokio::time::timeout;

use crate::{budget::Share, refusal::Refusal};

/// The announced length of a body.
pub fn declared(body: &Body) -> Option<usize> {
    body.size_hint().exact().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// Reads a body of at most `limit` bytes; `declared`, its announced length, is no larger. Its client
/// may pause for `idle` at most.
pub async fn read(
    body: &mut Body,
    declared: Option<usize>,
    limit: usize,
    idle: Duration,
    share: &mut Share,
) -> Result<Vec<u8>, Refusal> {
    // Pages that were not written yet hold no memory, so this costs nothing before the bytes come.
    let mut bytes = Vec::with_capacity(declared.unwrap_or(0).min(limit));
    let next = async |body: &mut Body| {
        timeout(idle, body.frame()).await.map_err(|_| Refusal::Stalled(idle))
    };
    while let Some(frame) = next(body).await? {
        let Ok(data) = frame.map_err(|_| Refusal::BodyCutShort)?.into_data() else { continue };
        if data.len() > limit - bytes.len() {
            return Err(Refusal::BodyTooLarge(limit));
        }
        if declared.is_some() {
            share.grow(data.len())?;
            bytes.extend_from_slice(&data);
        } else {
            share.extend(&mut bytes, &data, limit)?;
        }
    }
    if declared.is_none() {
        share.fit(&mut bytes);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::gauge::Gauge;

    use super::*;
    use crate::budget::Budget;

    #[tokio::test]
    async fn a_body_is_refused_at_the_first_byte_over_its_limit() {
        let budget = Budget::new(1000, Gauge::default());
        let mut share = budget.share(&("default".into(), "key".into()));
        let exact = read(&mut Body::from("12345"), None, 5, Duration::MAX, &mut share).await;
        assert_eq!(exact.unwrap(), b"12345");
        let over = read(&mut Body::from("123456"), None, 5, Duration::MAX, &mut share).await;
        assert_eq!(over, Err(Refusal::BodyTooLarge(5)));
    }
}
