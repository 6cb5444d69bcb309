//! Any record, as anyone may have put it into a topic: `name: value` lines, an empty line and the
//! value. What is an event keeps being that one when it is written again, as a record and as JSON, and
//! its dead letter holds all of it.
#![no_main]

use std::cell::LazyCell;

use bytes::Bytes;
use eventlog::{Headers, Record, Stored};
use harness::{Memory, codec, head};
use libfuzzer_sys::fuzz_target;
use schemas::{Codec, Data, dead_letter, identity_of};

thread_local! {
    static CODEC: LazyCell<Codec> = LazyCell::new(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(codec(&Memory::default()))
    });
}

fuzz_target!(|input: &[u8]| {
    // The encoded list as it lies on the disk, which may be anything.
    if let Some(headers) = Headers::from_bytes(Bytes::copy_from_slice(input)) {
        assert_eq!(headers.iter().fold(Headers::builder(), add).build(), headers);
    }
    let Some(record) = record(input) else { return };
    CODEC.with(|codec| check(codec, &record));
});

fn add(mut to: eventlog::HeadersBuilder, (name, value): (&str, &[u8])) -> eventlog::HeadersBuilder {
    to.push(name, value);
    to
}

fn record(text: &[u8]) -> Option<Record> {
    let mut headers = Headers::builder();
    let value = head(text, |name, value| {
        headers.push(std::str::from_utf8(name).ok()?, value);
        Some(())
    })?;
    let value = Some(Bytes::copy_from_slice(value));
    Some(Record { key: None, value, headers: headers.build() })
}

fn check(codec: &Codec, record: &Record) {
    let stored = Stored { offset: 7, appended_at: 0, record: record.clone() };
    let letter = dead_letter(&stored, "events.raw", 0, "p", "s", "r", "d");
    assert_eq!((&letter.key, &letter.value), (&record.key, &record.value));
    assert!(letter.headers.as_bytes().starts_with(record.headers.as_bytes()));
    let Ok(event) = codec.decode(record) else { return };
    assert_eq!(codec.decode(&letter).as_ref(), Ok(&event), "a letter is still the event");
    let identity = (&*event.namespace, &*event.source, &*event.id);
    assert_eq!(identity_of(record), Some(identity));
    if let Ok(again) = codec.encode(&event) {
        let mut back = codec.decode(&again).expect("what was encoded can be decoded");
        if matches!((&back.data, &event.data), (Data::Json(_), Data::Json(_))) {
            // With a schema the text may be another one for the same value.
            back.data = event.data.clone();
        }
        assert_eq!(back, event);
    }
    let mut json = Vec::new();
    schemas::event_to_json(&event, &mut json);
    serde_json::from_slice::<&serde_json::value::RawValue>(&json).expect("an event is JSON");
}
