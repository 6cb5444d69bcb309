//! Gathers messages of one partition into a batch.
//!
//! All bytes of a batch are in one buffer that its records share, so that reading a record allocates
//! nothing of ours. Who keeps one record for long keeps the whole batch: copy what is kept.

use bytes::{BufMut, BytesMut};
use rdkafka::{Message, message::BorrowedMessage};

use super::record;
use crate::{Headers, Record, Stored};

/// A batch in the making.
#[derive(Default)]
pub(super) struct Builder {
    buffer: BytesMut,
    records: Vec<Raw>,
    /// How large the last batch was: the next is likely to be alike.
    usual: usize,
}

/// Lengths of a record's parts, which follow each other in the buffer.
struct Raw {
    offset: u64,
    appended_at: i64,
    key: Option<usize>,
    value: Option<usize>,
    headers: usize,
}

impl Builder {
    /// Adds a message; answers how many bytes it took.
    pub fn add(&mut self, message: &BorrowedMessage<'_>, offset: u64) -> usize {
        if self.records.is_empty() {
            self.buffer = BytesMut::with_capacity(self.usual.max(1024));
        }
        let begin = self.buffer.len();
        let key = message.key();
        let value = message.payload();
        self.buffer.put_slice(key.unwrap_or_default());
        self.buffer.put_slice(value.unwrap_or_default());
        let before = self.buffer.len();
        if let Some(headers) = message.headers() {
            record::copy_headers(headers, &mut self.buffer);
        }
        self.records.push(Raw {
            offset,
            appended_at: record::appended_at(message),
            key: key.map(<[u8]>::len),
            value: value.map(<[u8]>::len),
            headers: self.buffer.len() - before,
        });
        self.buffer.len() - begin
    }

    /// The records so far, and what they take in memory.
    pub fn take(&mut self) -> (Vec<Stored>, usize) {
        self.usual = self.buffer.len();
        let mut rest = std::mem::take(&mut self.buffer).freeze();
        let size = rest.len() + self.records.len() * size_of::<Stored>();
        let stored = |raw: Raw| Stored {
            offset: raw.offset,
            appended_at: raw.appended_at,
            record: Record {
                key: raw.key.map(|len| rest.split_to(len)),
                value: raw.value.map(|len| rest.split_to(len)),
                headers: Headers::encoded(rest.split_to(raw.headers)),
            },
        };
        (self.records.drain(..).map(stored).collect(), size)
    }
}
