//! Records and their headers, as every log carries them.

use bytes::{BufMut, Bytes, BytesMut};

/// What a producer appends: a key, a value and headers, each owning its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Decides the partition (murmur2, as Java producers do); without one the record is spread.
    pub key: Option<Bytes>,
    /// The payload; `None` is a tombstone in a compacted topic.
    pub value: Option<Bytes>,
    /// Named values beside the payload, in order; a name may appear more than once.
    pub headers: Headers,
}

impl Record {
    /// Bytes of key, value and headers together: what budgets and limits count.
    pub fn size(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len)
            + self.value.as_ref().map_or(0, Bytes::len)
            + self.headers.0.len()
    }
}

/// A record as it was read back: where it stands and when the log took it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The record's offset in its partition.
    pub offset: u64,
    /// Append time in microseconds since the Unix epoch, set by the log.
    pub appended_at: i64,
    /// What the producer appended.
    pub record: Record,
}

/// An immutable list of headers in one buffer, so that reading a record allocates nothing.
///
/// Encoding, per header: name length (u16 BE), name (UTF-8), value length (u32 BE), value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Bytes);

impl Headers {
    /// Starts a list of headers.
    pub fn builder() -> HeadersBuilder {
        HeadersBuilder(BytesMut::new())
    }

    /// As [`Headers::builder`], with room for so many bytes of encoded headers: 6 for each, with
    /// its name and value.
    pub fn with_capacity(bytes: usize) -> HeadersBuilder {
        HeadersBuilder(BytesMut::with_capacity(bytes))
    }

    /// Takes back what [`Headers::as_bytes`] gave; `None` when the bytes are not whole headers.
    pub fn from_bytes(bytes: Bytes) -> Option<Self> {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            (_, _, rest) = split_header(rest)?;
        }
        Some(Self(bytes))
    }

    /// What [`Headers::encode`] wrote.
    #[cfg(feature = "kafka")]
    pub(crate) fn encoded(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The encoded list.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The headers in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let (name, value, after) = split_header(rest)?;
            rest = after;
            Some((name, value))
        })
    }

    /// The value of the last header of that name (Kafka's `lastHeader`).
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().filter(|(n, _)| *n == name).last().map(|(_, v)| v)
    }

    /// As [`Headers::get`], when the value is UTF-8.
    pub fn get_str(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|v| std::str::from_utf8(v).ok())
    }

    /// Adds one header to a buffer of encoded ones.
    pub(crate) fn encode(name: &str, value: &[u8], buffer: &mut BytesMut) {
        let name = &name[..name.floor_char_boundary(usize::from(u16::MAX))];
        buffer.reserve(6 + name.len() + value.len());
        buffer.put_u16(name.len() as u16);
        buffer.put_slice(name.as_bytes());
        buffer.put_u32(value.len() as u32);
        buffer.put_slice(value);
    }

    /// A copy of this list to add to.
    pub fn to_builder(&self) -> HeadersBuilder {
        HeadersBuilder(BytesMut::from(&self.0[..]))
    }
}

/// Builds [`Headers`].
#[derive(Debug, Default)]
pub struct HeadersBuilder(BytesMut);

impl HeadersBuilder {
    /// Adds one header. Of a name longer than 65,535 bytes, which only others write, as many whole
    /// characters are kept as fit.
    pub fn push(&mut self, name: &str, value: impl AsRef<[u8]>) -> &mut Self {
        Headers::encode(name, value.as_ref(), &mut self.0);
        self
    }

    /// The finished list.
    pub fn build(self) -> Headers {
        Headers(self.0.freeze())
    }
}

fn split_header(rest: &[u8]) -> Option<(&str, &[u8], &[u8])> {
    let (len, rest) = rest.split_first_chunk::<2>()?;
    let (name, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let (value, rest) = rest.split_at_checked(u32::from_be_bytes(*len) as usize)?;
    Some((std::str::from_utf8(name).ok()?, value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_too_long_is_cut_between_characters_and_hides_nothing() {
        let long = "é".repeat(40_000);
        let mut headers = Headers::builder();
        headers.push(&long, "1").push("after", "2");
        let headers = headers.build();
        let names: Vec<_> = headers.iter().map(|(name, _)| name.len()).collect();
        assert_eq!(names, [65_534, 5]);
        assert_eq!(headers.get_str("after"), Some("2"));
    }
}
