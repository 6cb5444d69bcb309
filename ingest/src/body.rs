//! Reading a body: within its limit, within the budget of all requests, decompressed.
//!
//! Every byte that is kept is charged to the request's [`Share`] when it arrives. A body that is
//! refused is read to its end and thrown away, within bounds: a client that is still sending
//! would otherwise meet a reset connection instead of its answer.

use std::{io::Read, time::Duration};

use axum::body::{Body, HttpBody};
use flate2::bufread::MultiGzDecoder;
use http_body_util::BodyExt;

use crate::{budget::Share, refusal::Refusal};

/// How much of a refused body is thrown away before the connection is given up.
const DISCARD_BYTES: usize = 256 * 1024 * 1024;
/// How long that may take.
const DISCARD_TIME: Duration = Duration::from_secs(10);

/// The announced length of a body.
pub fn declared(body: &Body) -> Option<usize> {
    body.size_hint().exact().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// Reads a body of at most `limit` bytes; `declared`, its announced length, is no larger.
pub async fn read(
    body: &mut Body,
    declared: Option<usize>,
    limit: usize,
    share: &mut Share,
) -> Result<Vec<u8>, Refusal> {
    // Pages that were not written yet hold no memory, so this costs nothing before the bytes come.
    let mut bytes = Vec::with_capacity(declared.unwrap_or(0).min(limit));
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Refusal::BodyCutShort)?.into_data() else { continue };
        if data.len() > limit - bytes.len() {
            return Err(Refusal::BodyTooLarge(limit));
        }
        share.grow(data.len())?;
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// Reads and forgets the rest of a body, up to 256 MiB or 10 s.
pub async fn discard(body: &mut Body) {
    let all = async {
        let mut left = DISCARD_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            let bytes = frame.into_data().map_or(0, |data| data.len());
            match left.checked_sub(bytes) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    // Whether it was all of it does not matter: the answer is sent in any case.
    let _ = tokio::time::timeout(DISCARD_TIME, all).await;
}

/// Decompresses gzip (of one or more members) to at most `limit` bytes.
pub fn inflate(compressed: &[u8], limit: usize, share: &mut Share) -> Result<Vec<u8>, Refusal> {
    let mut decoder = MultiGzDecoder::new(compressed);
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        match decoder.read(&mut chunk) {
            Ok(0) => return Ok(bytes),
            Ok(read) if read > limit - bytes.len() => {
                return Err(Refusal::DecompressedTooLarge(limit));
            }
            Ok(read) => {
                share.grow(read)?;
                bytes.extend_from_slice(&chunk[..read]);
            }
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(Refusal::GzipTruncated(compressed.len()));
            }
            Err(_) => return Err(Refusal::GzipDamaged(bytes.len())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use prometheus_client::metrics::gauge::Gauge;

    use super::*;
    use crate::budget::Budget;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn inflated(compressed: &[u8], limit: usize) -> Result<Vec<u8>, Refusal> {
        inflate(compressed, limit, &mut Budget::new(1 << 30, Gauge::default()).share())
    }

    #[test]
    fn members_that_follow_each_other_are_one_body() {
        let both = [gzip(b"one "), gzip(b"two")].concat();
        assert_eq!(inflated(&both, 7).unwrap(), b"one two");
    }

    #[test]
    fn every_truncation_is_noticed() {
        let whole = gzip(b"a body of some length, long enough to be cut anywhere");
        for length in 0..whole.len() {
            let refusal = inflated(&whole[..length], 1000).unwrap_err();
            assert_eq!(refusal, Refusal::GzipTruncated(length), "cut at {length}");
        }
    }

    #[test]
    fn a_flipped_bit_of_the_checksum_is_noticed() {
        let mut damaged = gzip(b"a body");
        let checksum = damaged.len() - 8;
        damaged[checksum] ^= 1;
        assert!(matches!(inflated(&damaged, 1000), Err(Refusal::GzipDamaged(_))));
    }

    #[test]
    fn bytes_after_the_last_member_are_noticed() {
        let trailing = [gzip(b"a body"), b"garbage that is no member".to_vec()].concat();
        assert!(matches!(inflated(&trailing, 1000), Err(Refusal::GzipDamaged(_))));
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit_and_charged_for_no_more() {
        let bomb = gzip(&vec![0; 10_000_000]);
        let budget = Budget::new(1 << 30, Gauge::default());
        let mut share = budget.share();
        let refusal = inflate(&bomb, 1_000_000, &mut share).unwrap_err();
        assert_eq!(refusal, Refusal::DecompressedTooLarge(1_000_000));
        assert!(budget.has((1 << 30) - 1_000_000));
    }

    #[test]
    fn decompressed_bytes_are_charged_to_the_budget() {
        let budget = Budget::new(100_000, Gauge::default());
        let refusal = inflate(&gzip(&vec![0; 200_000]), 1 << 20, &mut budget.share()).unwrap_err();
        assert_eq!(refusal, Refusal::OverBudget);
    }

    #[tokio::test]
    async fn a_body_is_refused_at_the_first_byte_over_its_limit() {
        let budget = Budget::new(1000, Gauge::default());
        let mut share = budget.share();
        let exact = read(&mut Body::from("12345"), None, 5, &mut share).await;
        assert_eq!(exact.unwrap(), b"12345");
        let over = read(&mut Body::from("123456"), None, 5, &mut share).await;
        assert_eq!(over, Err(Refusal::BodyTooLarge(5)));
    }
}
