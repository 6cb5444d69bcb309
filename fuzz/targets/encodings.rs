//! Any bytes as a compressed body: its first byte chooses up to four encodings on top of each other.
//! A small limit and the fuzzer's own limit of memory show that what comes out is bounded.
#![no_main]

use std::cell::LazyCell;

use harness::{Door, Limits};
use http::{HeaderMap, HeaderValue, header};
use libfuzzer_sys::fuzz_target;

const ENCODINGS: [&str; 4] = ["gzip", "zstd", "br", "deflate"];

thread_local! {
    static DOOR: LazyCell<Door> =
        LazyCell::new(|| Door::new(Limits { decompressed: 64 << 10, in_flight: 72 << 20 }));
}

fuzz_target!(|input: &[u8]| {
    let Some(([shape, chosen], body)) = input.split_first_chunk() else { return };
    let codings: Vec<_> =
        (0..=shape & 3).map(|place| ENCODINGS[usize::from(chosen >> (2 * place) & 3)]).collect();
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    let codings = HeaderValue::from_str(&codings.join(", ")).expect("they are words");
    headers.insert(header::CONTENT_ENCODING, codings);
    DOOR.with(|door| door.post(headers, body));
});
