//! Records to and from Kafka's messages.
//!
//! A record that was read lives in one buffer of its own: key, value and headers are slices of it.
//! Kafka has headers without a value; here they read as empty ones, as most clients show them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::{BufMut, Bytes, BytesMut};
use rdkafka::{
    Message,
    message::{BorrowedHeaders, BorrowedMessage, Header, Headers as _, OwnedHeaders},
};

use crate::{AppendError, Headers, Record, Stored};

/// So many fit without librdkafka making room for more.
const USUAL_HEADERS: usize = 8;

/// The headers as librdkafka takes them; a name it cannot carry is refused.
pub(super) fn outgoing(headers: &Headers) -> Result<Option<OwnedHeaders>, AppendError> {
    if headers.as_bytes().is_empty() {
        return Ok(None);
    }
    let mut owned = OwnedHeaders::new_with_capacity(USUAL_HEADERS);
    for (key, value) in headers.iter() {
        if key.contains('\0') {
            return Err(AppendError::Refused("a header's name contains a NUL byte".into()));
        }
        owned = owned.insert(Header { key, value: Some(value) });
    }
    Ok(Some(owned))
}

/// A message as it was read, with bytes of its own.
pub(super) fn stored(message: &BorrowedMessage<'_>) -> Stored {
    let (key, value, headers) = (message.key(), message.payload(), message.headers());
    let (key_len, value_len) = (key.map_or(0, <[u8]>::len), value.map_or(0, <[u8]>::len));
    let guess = headers.map_or(0, |headers| headers.count() * 64);
    let mut buffer = BytesMut::with_capacity(key_len + value_len + guess);
    buffer.put_slice(key.unwrap_or_default());
    buffer.put_slice(value.unwrap_or_default());
    if let Some(headers) = headers {
        copy_headers(headers, &mut buffer);
    }
    let all = buffer.freeze();
    let record = Record {
        key: key.map(|_| all.slice(..key_len)),
        value: value.map(|_| all.slice(key_len..key_len + value_len)),
        headers: incoming(all.slice(key_len + value_len..)),
    };
    Stored {
        offset: u64::try_from(message.offset()).unwrap_or_default(),
        appended_at: appended_at(message),
        record,
    }
}

/// When the log took a message, in microseconds.
pub(super) fn appended_at(message: &BorrowedMessage<'_>) -> i64 {
    message.timestamp().to_millis().unwrap_or_default().saturating_mul(1000)
}

fn incoming(encoded: Bytes) -> Headers {
    Headers::from_bytes(encoded).unwrap_or_default()
}

/// Writes headers as [`Headers`] holds them.
pub(super) fn copy_headers(headers: &BorrowedHeaders, buffer: &mut BytesMut) {
    for index in 0..headers.count() {
        // A name that is not UTF-8, which other clients can write, makes rdkafka panic.
        let header = catch_unwind(AssertUnwindSafe(|| headers.try_get(index)));
        let (name, value) = match header {
            Ok(Some(header)) => (header.key, header.value.unwrap_or_default()),
            Ok(None) => continue,
            Err(_) => ("\u{fffd}", &[][..]),
        };
        Headers::encode(name, value, buffer);
    }
}
