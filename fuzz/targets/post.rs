//! Any request to `POST /v1/events`: its input is a head of `name: value` lines, an empty line and a
//! body, in every form. Whatever comes, each event has one outcome, and what was accepted can be read.
#![no_main]

use std::cell::LazyCell;

use harness::{Door, Limits, message};
use libfuzzer_sys::fuzz_target;

thread_local! {
    static DOOR: LazyCell<Door> =
        LazyCell::new(|| Door::new(Limits { decompressed: 1 << 20, in_flight: 64 << 20 }));
}

fuzz_target!(|input: &[u8]| {
    if let Some((headers, body)) = message(input) {
        DOOR.with(|door| door.post(headers, body));
    }
});
