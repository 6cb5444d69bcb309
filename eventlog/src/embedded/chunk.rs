//! The unit of storage: the records that one append brought to one partition, in one value.
//!
//! The key holds where the chunk begins and where the next one must begin, so that a walk over
//! keys alone proves that nothing is missing. The value holds a header and the records; a checksum
//! covers key, header and records. A record read back is slices of the chunk, never a copy.
//!
//! ```text
//! key    topic u32 | partition u32 | base u64 | next u64                    (big-endian)
//! value  version u8, 3 zeros | count u32 | time i64 | bytes before u64 | checksum u64 | records
//! record key length u32 | value length u32 | headers length u32 | key | value | headers
//! ```
//!
//! A length of `u32::MAX` means that the key or value is absent, which is not the same as empty.
//! The format is what users have on disk: a change needs a new version, and the old one read on.

use bytes::{BufMut, Bytes};
use xxhash_rust::xxh3::Xxh3;

use crate::{Headers, Position, Record, Stored};

/// Chunks are closed at about this size.
pub(crate) const CHUNK_BYTES: usize = 256 * 1024;

const VERSION: u8 = 1;
const HEADER: usize = 32;
const ABSENT: u32 = u32::MAX;

/// Where a chunk stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkKey {
    pub topic: u32,
    pub partition: u32,
    /// Offset of its first record.
    pub base: Position,
    /// The position after it, past any hole.
    pub next: Position,
}

impl ChunkKey {
    pub fn to_bytes(self) -> [u8; 24] {
        let mut key = [0; 24];
        key[..4].copy_from_slice(&self.topic.to_be_bytes());
        key[4..8].copy_from_slice(&self.partition.to_be_bytes());
        key[8..16].copy_from_slice(&self.base.to_be_bytes());
        key[16..].copy_from_slice(&self.next.to_be_bytes());
        key
    }

    pub fn from_bytes(key: &[u8]) -> Option<Self> {
        let key: &[u8; 24] = key.try_into().ok()?;
        let (topic, rest) = key.split_first_chunk::<4>()?;
        let (partition, rest) = rest.split_first_chunk::<4>()?;
        let (base, rest) = rest.split_first_chunk::<8>()?;
        Some(Self {
            topic: u32::from_be_bytes(*topic),
            partition: u32::from_be_bytes(*partition),
            base: u64::from_be_bytes(*base),
            next: u64::from_be_bytes(*rest.first_chunk::<8>()?),
        })
    }

    /// The first key a chunk of this partition with that base or a later one can have.
    pub fn lower(topic: u32, partition: u32, base: Position) -> [u8; 24] {
        Self { topic, partition, base, next: 0 }.to_bytes()
    }

    /// The last key a chunk of this partition with that base or an earlier one can have.
    pub fn upper(topic: u32, partition: u32, base: Position) -> [u8; 24] {
        Self { topic, partition, base, next: u64::MAX }.to_bytes()
    }
}

/// Records on their way into a chunk.
#[derive(Debug, Default)]
pub(crate) struct Segment {
    pub payload: Vec<u8>,
    pub count: u32,
}

impl Segment {
    pub fn push(&mut self, record: &Record) {
        let headers = record.headers.as_bytes();
        self.payload.reserve(12 + record.size());
        self.payload.put_u32(record.key.as_ref().map_or(ABSENT, |k| k.len() as u32));
        self.payload.put_u32(record.value.as_ref().map_or(ABSENT, |v| v.len() as u32));
        self.payload.put_u32(headers.len() as u32);
        self.payload.put_slice(record.key.as_deref().unwrap_or_default());
        self.payload.put_slice(record.value.as_deref().unwrap_or_default());
        self.payload.put_slice(headers);
        self.count += 1;
    }
}

/// What a chunk's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkHeader {
    pub count: u32,
    /// Append time of its records, microseconds.
    pub time: i64,
    /// How many bytes of chunks the partition had taken before this one, ever.
    pub bytes_before: u64,
}

/// Puts a chunk's value together.
pub(crate) fn encode(key: &ChunkKey, header: ChunkHeader, segments: &[Segment]) -> Bytes {
    let size: usize = segments.iter().map(|s| s.payload.len()).sum();
    let mut value = Vec::with_capacity(HEADER + size);
    value.put_u8(VERSION);
    value.put_bytes(0, 3);
    value.put_u32(header.count);
    value.put_i64(header.time);
    value.put_u64(header.bytes_before);
    value.put_u64(0);
    for segment in segments {
        value.put_slice(&segment.payload);
    }
    let checksum = checksum(key, &value);
    value[24..HEADER].copy_from_slice(&checksum.to_be_bytes());
    Bytes::from(value)
}

fn checksum(key: &ChunkKey, value: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&key.to_bytes());
    hash.update(&value[..24]);
    hash.update(&value[HEADER..]);
    hash.digest()
}

/// A chunk as it was read or as it stays in memory.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    pub key: ChunkKey,
    pub header: ChunkHeader,
    value: Bytes,
}

impl Chunk {
    /// A chunk just encoded here.
    pub fn fresh(key: ChunkKey, header: ChunkHeader, value: Bytes) -> Self {
        Self { key, header, value }
    }

    /// Takes a chunk that came from the disk apart; the error says what is wrong with it.
    pub fn decode(key: &[u8], value: Bytes) -> Result<Self, String> {
        let Some(key) = ChunkKey::from_bytes(key) else {
            return Err(format!("a chunk key has {} bytes instead of 24", key.len()));
        };
        let Some(head) = value.first_chunk::<HEADER>() else {
            return Err(format!("the chunk at {} has only {} bytes", key.base, value.len()));
        };
        if head[0] != VERSION {
            return Err(format!(
                "the chunk at {} has format {}; this version reads {VERSION}",
                key.base, head[0]
            ));
        }
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&head[at..at + 8]);
            u64::from_be_bytes(word)
        };
        if word(24) != checksum(&key, &value) {
            return Err(format!("the checksum of the chunk at {} is wrong", key.base));
        }
        let header = ChunkHeader {
            count: (word(0) & u64::from(u32::MAX)) as u32,
            time: word(8) as i64,
            bytes_before: word(16),
        };
        if key.next < key.base.saturating_add(u64::from(header.count)) {
            return Err(format!(
                "the chunk at {} ends at {} but holds {} records",
                key.base, key.next, header.count
            ));
        }
        Ok(Self { key, header, value })
    }

    /// Bytes it takes.
    pub fn len(&self) -> usize {
        self.value.len()
    }

    /// Appends the records at `from` or later and before `to` to `out`, as long as `out` stays
    /// within `most` records. Answers the position after what it read.
    pub fn read(
        &self,
        from: Position,
        to: Position,
        most: usize,
        out: &mut Vec<Stored>,
    ) -> Result<Position, String> {
        let mut at = HEADER;
        for offset in self.key.base..self.key.base + u64::from(self.header.count) {
            if offset >= to {
                return Ok(to);
            }
            if out.len() >= most {
                return Ok(offset.max(from));
            }
            let (Some(key), Some(value), Some(headers)) =
                (self.word(at), self.word(at + 4), self.word(at + 8))
            else {
                return Err(self.torn(offset));
            };
            let length = |n: u32| if n == ABSENT { 0 } else { n as usize };
            let key_at = at + 12;
            let value_at = key_at + length(key);
            let headers_at = value_at + length(value);
            at = headers_at + headers as usize;
            if at > self.value.len() {
                return Err(self.torn(offset));
            }
            if offset < from {
                continue;
            }
            let Some(headers) = Headers::from_bytes(self.value.slice(headers_at..at)) else {
                return Err(self.torn(offset));
            };
            out.push(Stored {
                offset,
                appended_at: self.header.time,
                record: Record {
                    key: (key != ABSENT).then(|| self.value.slice(key_at..value_at)),
                    value: (value != ABSENT).then(|| self.value.slice(value_at..headers_at)),
                    headers,
                },
            });
        }
        Ok(self.key.next.min(to))
    }

    fn word(&self, at: usize) -> Option<u32> {
        let bytes = self.value.get(at..at + 4)?;
        Some(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn torn(&self, offset: Position) -> String {
        format!("the record at {offset} does not fit its chunk")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_record() -> impl Strategy<Value = Record> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
        let headers = proptest::collection::vec(("[a-z_]{0,8}", bytes()), 0..4);
        (proptest::option::of(bytes()), proptest::option::of(bytes()), headers).prop_map(
            |(key, value, headers)| {
                let mut builder = Headers::builder();
                for (name, value) in headers {
                    builder.push(&name, value);
                }
                Record { key, value, headers: builder.build() }
            },
        )
    }

    fn chunk_of(records: &[Record], base: u64, hole: u64) -> (ChunkKey, Bytes) {
        let mut segments = vec![Segment::default(), Segment::default()];
        for (i, record) in records.iter().enumerate() {
            segments[usize::from(i * 2 >= records.len())].push(record);
        }
        let count = records.len() as u32;
        let next = base + u64::from(count) + hole;
        let key = ChunkKey { topic: 3, partition: 1, base, next };
        let header = ChunkHeader { count, time: -5, bytes_before: 77 };
        (key, encode(&key, header, &segments))
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_read_back(
            records in proptest::collection::vec(any_record(), 0..20),
            base in 0..u64::MAX / 2,
            hole in 0..3u64,
        ) {
            let (key, value) = chunk_of(&records, base, hole);
            let chunk = Chunk::decode(&key.to_bytes(), value).unwrap();
            let mut out = Vec::new();
            let next = chunk.read(0, u64::MAX, usize::MAX, &mut out).unwrap();
            prop_assert_eq!(next, key.next);
            let back: Vec<Record> = out.iter().map(|s| s.record.clone()).collect();
            prop_assert_eq!(back, records);
            prop_assert!(out.iter().enumerate().all(|(i, s)| s.offset == base + i as u64));
        }

        #[test]
        fn any_changed_byte_is_noticed(
            records in proptest::collection::vec(any_record(), 0..5),
            at in any::<proptest::sample::Index>(),
            flip in 1..=255u8,
        ) {
            let (key, value) = chunk_of(&records, 9, 1);
            let mut damaged = value.to_vec();
            let at = at.index(damaged.len());
            damaged[at] ^= flip;
            prop_assert!(Chunk::decode(&key.to_bytes(), Bytes::from(damaged)).is_err());
        }

        #[test]
        fn reading_in_pieces_gives_the_same(
            records in proptest::collection::vec(any_record(), 1..20),
            most in 1..5usize,
        ) {
            let (key, value) = chunk_of(&records, 100, 1);
            let chunk = Chunk::decode(&key.to_bytes(), value).unwrap();
            let (mut at, mut all) = (100, Vec::new());
            while at < key.next {
                let mut piece = Vec::new();
                at = chunk.read(at, u64::MAX, most, &mut piece).unwrap();
                prop_assert!(piece.len() <= most);
                all.extend(piece.into_iter().map(|s| s.record));
            }
            prop_assert_eq!(all, records);
        }
    }

    #[test]
    fn a_chunk_under_another_key_is_refused() {
        let (key, value) = chunk_of(&[Record::default()], 4, 0);
        let elsewhere = ChunkKey { partition: 2, ..key };
        assert!(Chunk::decode(&elsewhere.to_bytes(), value).is_err());
    }

    #[test]
    fn reading_stops_at_the_end_asked_for() {
        let (key, value) = chunk_of(&vec![Record::default(); 5], 10, 0);
        let chunk = Chunk::decode(&key.to_bytes(), value).unwrap();
        let mut out = Vec::new();
        assert_eq!(chunk.read(11, 13, usize::MAX, &mut out).unwrap(), 13);
        assert_eq!(out.iter().map(|s| s.offset).collect::<Vec<_>>(), [11, 12]);
    }
}
