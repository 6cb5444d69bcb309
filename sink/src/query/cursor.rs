//! Cursors: where a list goes on, opaque to who carries them.
//!
//! A cursor holds the key of the last row and the range as it was resolved for the first page,
//! so that `now-1h` means the same on every page. It is bound to its query by a fingerprint, and
//! a checksum catches what was cut or changed on the way. Neither is a secret, and none is needed:
//! a forged cursor can name another place in what its bearer may read anyway, nothing else.
//!
//! Layout, before base64url: version (1), fingerprint (u64 BE), from, to, at (i64 BE each),
//! length of the first name (u32 BE), first name, second name, checksum (u32 BE).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::{
    failure::Failure,
    time::{Asked, Moment, Range, exact},
};

const VERSION: u8 = 1;

/// What a cursor says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The range of the first page.
    pub(super) range: Range,
    /// Time of the last event, or start of the last window; microseconds.
    pub(super) at: i64,
    /// Source of the last event, or the last group.
    pub(super) first: String,
    /// Id of the last event; empty for groups.
    pub(super) second: String,
}

impl Cursor {
    /// The text that a page answers with.
    pub(super) fn encode(&self, query: Fingerprint) -> String {
        let mut bytes = Vec::with_capacity(41 + self.first.len() + self.second.len());
        bytes.push(VERSION);
        bytes.extend(query.0.to_be_bytes());
        for number in [self.range.from, self.range.to, self.at] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend((self.first.len() as u32).to_be_bytes());
        bytes.extend(self.first.as_bytes());
        bytes.extend(self.second.as_bytes());
        bytes.extend(checksum(&bytes));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads such a text back, for the query that made it.
    pub(super) fn decode(text: &str, query: Fingerprint) -> Result<Self, Failure> {
        let broken = || {
            Failure::cursor(
                "It is not one that this server made, or it was cut. Start without one.",
            )
        };
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| broken())?;
        let (body, check) = bytes.split_last_chunk::<4>().ok_or_else(broken)?;
        if checksum(body) != *check {
            return Err(broken());
        }
        let mut rest = body;
        if number::<1>(&mut rest).ok_or_else(broken)? != [VERSION] {
            return Err(broken());
        }
        if number(&mut rest).map(u64::from_be_bytes).ok_or_else(broken)? != query.0 {
            return Err(Failure::cursor(
                "It was made by another query, or the rollup was defined anew since. Use it with \
                 exactly the parameters of its query (only `limit` may change), or start without one.",
            ));
        }
        Self::parse(rest).ok_or_else(broken)
    }

    fn parse(mut rest: &[u8]) -> Option<Self> {
        let mut next = || number(&mut rest).map(i64::from_be_bytes);
        let (from, to, at) = (next()?, next()?, next()?);
        let length = number(&mut rest).map(u32::from_be_bytes)? as usize;
        let (first, second) = rest.split_at_checked(length)?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        Some(Self { range: Range { from, to }, at, first: text(first)?, second: text(second)? })
    }
}

fn number<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (number, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*number)
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..] = xxh3_64(bytes).to_be_bytes();
    [a, b, c, d]
}

/// What a cursor is bound to: everything of a query that decides which rows it has, in which
/// order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint(u64);

/// Gathers the parts of a [`Fingerprint`]; each carries its length, so that parts cannot run
/// into each other.
pub(super) struct FingerprintBuilder(Xxh3);

impl Fingerprint {
    /// Starts with the route and the tenant.
    pub(super) fn of(route: &str, namespace: &str) -> FingerprintBuilder {
        FingerprintBuilder(Xxh3::new()).part(route).part(namespace)
    }
}

impl FingerprintBuilder {
    /// Adds a part.
    pub(super) fn part(mut self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        self.0.update(&(bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
        self
    }

    /// Adds a part that may be absent, which differs from an empty one.
    pub(super) fn optional(self, part: Option<&str>) -> Self {
        match part {
            Some(part) => self.part("+").part(part),
            None => self.part("-"),
        }
    }

    /// Adds the range as it was asked for: relative times stay relative here.
    pub(super) fn asked(self, asked: &Asked) -> Self {
        [&asked.from, &asked.to].into_iter().fold(self, |gathered, moment| match moment {
            None => gathered.part("-"),
            Some(Moment::At(time)) => {
                let (micros, finer) = exact(time);
                gathered.part("=").part([&micros.to_be_bytes(), finer.as_bytes()].concat())
            }
            Some(Moment::Ago { ago, step }) => {
                gathered.part("~").part(ago.to_be_bytes()).part(step.to_be_bytes())
            }
        })
    }

    /// The fingerprint.
    pub(super) fn done(self) -> Fingerprint {
        Fingerprint(self.0.digest())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn some_query() -> Fingerprint {
        Fingerprint::of("events", "default").part("flight.departed").done()
    }

    fn sample() -> Cursor {
        Cursor {
            range: Range { from: i64::MIN, to: 17 },
            at: -3,
            first: "/source é".into(),
            second: "id/1".into(),
        }
    }

    fn code(result: Result<Cursor, Failure>) -> String {
        result.unwrap_err().problem().code.clone()
    }

    #[test]
    fn a_cursor_of_another_query_is_refused() {
        let text = sample().encode(some_query());
        let other = Fingerprint::of("events", "default").part("flight.arrived").done();
        assert_eq!(code(Cursor::decode(&text, other)), "invalid_cursor");
    }

    #[test]
    fn every_changed_character_is_noticed() {
        let text = sample().encode(some_query());
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(code(Cursor::decode(&changed, some_query())), "invalid_cursor", "{at}");
        }
    }

    #[test]
    fn every_cut_is_noticed() {
        let text = sample().encode(some_query());
        for at in 0..text.len() {
            assert_eq!(code(Cursor::decode(&text[..at], some_query())), "invalid_cursor", "{at}");
        }
    }

    #[test]
    fn parts_of_a_fingerprint_do_not_run_into_each_other() {
        let of = |a, b| Fingerprint::of("events", "default").part(a).part(b).done();
        assert_ne!(of("ab", "c"), of("a", "bc"));
        let empty = Fingerprint::of("events", "default").optional(Some("")).done();
        assert_ne!(empty, Fingerprint::of("events", "default").optional(None).done());
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            from: i64, to: i64, at: i64, first: String, second: String,
        ) {
            let cursor = Cursor { range: Range { from, to }, at, first, second };
            let text = cursor.encode(some_query());
            prop_assert_eq!(Cursor::decode(&text, some_query()).unwrap(), cursor);
        }

        #[test]
        fn any_text_is_refused_without_a_panic(text: String) {
            prop_assert!(Cursor::decode(&text, some_query()).is_err());
        }
    }
}
