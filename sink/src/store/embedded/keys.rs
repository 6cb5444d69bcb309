//! Keys of the embedded tables: bytes whose order is the order that lists are read in.
//!
//! A text that something follows is escaped and ended by a zero byte: `0x00` becomes `01 01`,
//! `0x01` becomes `01 02`. Whatever the text, its end sorts below every continuation of it, so
//! the order of keys is the order of the texts, and no text can reach into the next component.
//! The last text of a key needs neither. Changing any of this orphans the rows on disk; raise
//! `LAYOUT` in `tables` with it.

use crate::store::{EventKey, Identity, RollupKey, RollupQuery, VersionId};

/// Bytes that a key holds at most (the engine's limit).
pub(super) const MAX_KEY: usize = 65_535;

/// Appends a text that another component follows.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    if bytes.iter().all(|byte| *byte > 1) {
        out.extend_from_slice(bytes);
    } else {
        for byte in bytes {
            match byte {
                0 => out.extend_from_slice(&[1, 1]),
                1 => out.extend_from_slice(&[1, 2]),
                other => out.push(*other),
            }
        }
    }
    out.push(0);
}

/// Appends a signed number so that negative ones sort first.
pub(super) fn put_signed(out: &mut Vec<u8>, number: i64) {
    out.extend_from_slice(&flip(number).to_be_bytes());
}

fn flip(number: i64) -> u64 {
    (number as u64) ^ (1 << 63)
}

/// Splits off what [`put_text`] appended.
pub(super) fn take_text(key: &[u8]) -> Option<(String, &[u8])> {
    let end = key.iter().position(|byte| *byte == 0)?;
    let (text, rest) = (&key[..end], &key[end + 1..]);
    if !text.contains(&1) {
        return Some((std::str::from_utf8(text).ok()?.to_owned(), rest));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            1 => bytes.next()?.checked_sub(1)?,
            other => *other,
        });
    }
    Some((String::from_utf8(out).ok()?, rest))
}

/// Splits off what [`put_signed`] appended.
pub(super) fn take_signed(key: &[u8]) -> Option<(i64, &[u8])> {
    let (bytes, rest) = key.split_first_chunk::<8>()?;
    Some(((u64::from_be_bytes(*bytes) ^ (1 << 63)) as i64, rest))
}

fn take_u64(key: &[u8]) -> Option<(u64, &[u8])> {
    let (bytes, rest) = key.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*bytes), rest))
}

fn take_u32(key: &[u8]) -> Option<(u32, &[u8])> {
    let (bytes, rest) = key.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*bytes), rest))
}

/// What all keys of one list begin with: of one type, or of one subject.
pub(super) fn list_prefix(out: &mut Vec<u8>, namespace: &str, name: &str) {
    put_text(out, namespace);
    put_text(out, name);
}

/// What follows the prefix: the order within the list.
pub(super) fn list_rest(out: &mut Vec<u8>, time: i64, source: &str, id: &str) {
    put_signed(out, time);
    put_text(out, source);
    out.extend_from_slice(id.as_bytes());
}

/// The order within the list, from what follows the prefix.
pub(super) fn parse_list_rest(rest: &[u8]) -> Option<EventKey> {
    let (time, rest) = take_signed(rest)?;
    let (source, id) = take_text(rest)?;
    Some(EventKey { time, source, id: std::str::from_utf8(id).ok()?.to_owned() })
}

/// A row's own list: namespace, type or subject, and the order within it.
pub(super) fn parse_list_key(key: &[u8]) -> Option<(String, String, EventKey)> {
    let (namespace, rest) = take_text(key)?;
    let (name, rest) = take_text(rest)?;
    Some((namespace, name, parse_list_rest(rest)?))
}

/// The key of a locator.
pub(super) fn identity(out: &mut Vec<u8>, namespace: &str, source: &str, id: &str) {
    put_text(out, namespace);
    put_text(out, source);
    out.extend_from_slice(id.as_bytes());
}

/// As [`identity`], in a key of its own.
pub(super) fn identity_key(identity_of: &Identity) -> Vec<u8> {
    let Identity { namespace, source, id } = identity_of;
    let mut key = Vec::with_capacity(namespace.len() + source.len() + id.len() + 2);
    identity(&mut key, namespace, source, id);
    key
}

/// What all rows of one rollup, version and window length begin with.
pub(super) fn rollup_prefix(query: &RollupQuery) -> Vec<u8> {
    let mut out = Vec::with_capacity(query.namespace.len() + query.rollup.len() + 18);
    put_rollup_prefix(&mut out, &query.namespace, &query.rollup, query.version, query.window);
    out
}

fn put_rollup_prefix(out: &mut Vec<u8>, ns: &str, rollup: &str, version: VersionId, window: i64) {
    put_text(out, ns);
    put_text(out, rollup);
    out.extend_from_slice(&version.0.to_be_bytes());
    put_signed(out, window);
}

/// The key of a rollup row: ordered by (start, group, epoch, partition) within its prefix.
pub(super) fn rollup(key: &RollupKey) -> Vec<u8> {
    let texts = key.namespace.len() + key.rollup.len() + key.group.len();
    let mut out = Vec::with_capacity(texts + 35);
    put_rollup_prefix(&mut out, &key.namespace, &key.rollup, key.version, key.window);
    put_signed(&mut out, key.start);
    put_text(&mut out, &key.group);
    out.extend_from_slice(&key.epoch.to_be_bytes());
    out.extend_from_slice(&key.partition.to_be_bytes());
    out
}

/// A rollup row's key from its bytes.
pub(super) fn parse_rollup(key: &[u8]) -> Option<RollupKey> {
    let (namespace, rest) = take_text(key)?;
    let (rollup, rest) = take_text(rest)?;
    let (version, rest) = take_u64(rest)?;
    let (window, rest) = take_signed(rest)?;
    let (start, rest) = take_signed(rest)?;
    let (group, rest) = take_text(rest)?;
    let (epoch, rest) = take_u32(rest)?;
    let (partition, _) = take_u32(rest)?;
    Some(RollupKey {
        namespace: namespace.into(),
        rollup: rollup.into(),
        version: VersionId(version),
        window,
        start,
        group,
        epoch,
        partition,
    })
}

/// Keys of the `meta` table.
pub(super) mod meta {
    use super::{put_text, take_u32, take_u64};
    use crate::store::VersionId;

    pub(in crate::store::embedded) const LAYOUT: &[u8] = b"layout";
    pub(in crate::store::embedded) const EXPIRY: &[u8] = b"expiry";
    pub(in crate::store::embedded) const DEFINITIONS: &[u8] = b"definition/";

    /// A topic's current epoch.
    pub(in crate::store::embedded) fn epoch(topic: &str) -> Vec<u8> {
        [b"epoch/", topic.as_bytes()].concat()
    }

    /// How far a partition is stored.
    pub(in crate::store::embedded) fn stored(topic: &str, epoch: u32, partition: u32) -> Vec<u8> {
        let mut key = b"stored/".to_vec();
        put_text(&mut key, topic);
        key.extend_from_slice(&epoch.to_be_bytes());
        key.extend_from_slice(&partition.to_be_bytes());
        key
    }

    /// What the marks of a topic's epoch begin with.
    pub(in crate::store::embedded) fn marks(topic: &str, epoch: u32) -> Vec<u8> {
        let mut key = b"mark/".to_vec();
        put_text(&mut key, topic);
        key.extend_from_slice(&epoch.to_be_bytes());
        key
    }

    /// How far a version is folded in a partition.
    pub(in crate::store::embedded) fn mark(
        topic: &str,
        epoch: u32,
        version: VersionId,
        partition: u32,
    ) -> Vec<u8> {
        let mut key = marks(topic, epoch);
        key.extend_from_slice(&version.0.to_be_bytes());
        key.extend_from_slice(&partition.to_be_bytes());
        key
    }

    /// Version and partition from what follows [`marks`].
    pub(in crate::store::embedded) fn parse_mark(rest: &[u8]) -> Option<(VersionId, u32)> {
        let (version, rest) = take_u64(rest)?;
        let (partition, _) = take_u32(rest)?;
        Some((VersionId(version), partition))
    }

    /// The definition that was registered as the nth.
    pub(in crate::store::embedded) fn definition(nth: u64) -> Vec<u8> {
        [DEFINITIONS, &nth.to_be_bytes()].concat()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Short texts over an alphabet that holds what escaping is about.
    fn text() -> impl Strategy<Value = String> {
        prop::collection::vec(
            prop_oneof![
                Just('\0'),
                Just('\u{1}'),
                Just('\u{2}'),
                Just('a'),
                Just('/'),
                Just('é'),
                Just('\u{10ffff}')
            ],
            0..5,
        )
        .prop_map(|chars| chars.into_iter().collect())
    }

    fn time() -> impl Strategy<Value = i64> {
        prop_oneof![Just(i64::MIN), Just(-1), Just(0), Just(1), Just(i64::MAX), any::<i64>()]
    }

    fn list_key((ns, name, time, source, id): &(String, String, i64, String, String)) -> Vec<u8> {
        let mut key = Vec::new();
        list_prefix(&mut key, ns, name);
        list_rest(&mut key, *time, source, id);
        key
    }

    proptest! {
        #[test]
        fn list_keys_sort_as_their_parts_do(
            a in (text(), text(), time(), text(), text()),
            b in (text(), text(), time(), text(), text()),
        ) {
            prop_assert_eq!(list_key(&a).cmp(&list_key(&b)), a.cmp(&b));
        }

        #[test]
        fn a_list_key_gives_back_its_parts(a in (text(), text(), time(), text(), text())) {
            let (ns, name, key) = parse_list_key(&list_key(&a)).unwrap();
            prop_assert_eq!((ns, name, key.time, key.source, key.id), a);
        }

        #[test]
        fn two_identities_never_share_a_key(
            a in (text(), text(), text()),
            b in (text(), text(), text()),
        ) {
            let key = |(ns, source, id): &(String, String, String)| {
                identity_key(&Identity {
                    namespace: ns.as_str().into(),
                    source: source.clone(),
                    id: id.clone(),
                })
            };
            prop_assert_eq!(key(&a) == key(&b), a == b);
        }

        #[test]
        fn rollup_keys_sort_by_start_group_epoch_and_partition_and_round_trip(
            a in (time(), text(), any::<u32>(), any::<u32>()),
            b in (time(), text(), any::<u32>(), any::<u32>()),
        ) {
            let key = |(start, group, epoch, partition): &(i64, String, u32, u32)| RollupKey {
                namespace: "n\0s".into(),
                rollup: "r".into(),
                version: VersionId(u64::MAX),
                window: 3_600_000_000,
                start: *start,
                group: group.clone(),
                epoch: *epoch,
                partition: *partition,
            };
            prop_assert_eq!(rollup(&key(&a)).cmp(&rollup(&key(&b))), a.cmp(&b));
            prop_assert_eq!(parse_rollup(&rollup(&key(&a))), Some(key(&a)));
        }
    }
}
