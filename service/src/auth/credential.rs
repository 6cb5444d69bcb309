//! What a request shows to prove who sends it: the `Authorization` header, read and not judged.
//!
//! A key comes as a Bearer token (RFC 6750), or as the password of Basic authentication (RFC 7617)
//! under any user name, which is what registry clients and browsers can send.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, header::AUTHORIZATION};

/// Nobody's key or token is longer; what is longer is not even hashed.
const LONGEST: usize = 16 * 1024;

/// Why there is nothing to judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// No header.
    Absent,
    /// A header that is neither Bearer nor Basic, or there twice.
    Malformed,
}

/// What the request shows as its key or token.
pub fn of(headers: &HeaderMap) -> Result<Cow<'_, str>, Unreadable> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let value = match (given.next(), given.next()) {
        (None, _) => return Err(Unreadable::Absent),
        (Some(value), None) if value.len() <= LONGEST => value,
        _ => return Err(Unreadable::Malformed),
    };
    read(value.as_bytes()).filter(|shown| !shown.is_empty()).ok_or(Unreadable::Malformed)
}

fn read(value: &[u8]) -> Option<Cow<'_, str>> {
    let (scheme, shown) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    let shown = shown.trim_matches(' ');
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(shown.into());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(shown).ok()?).ok()?;
    let (_user, password) = pair.split_once(':')?;
    Some(password.to_owned().into())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn shown(values: &[&str]) -> Result<String, Unreadable> {
        let headers = values.iter().map(|v| (AUTHORIZATION, HeaderValue::from_str(v).unwrap()));
        let mut map = HeaderMap::new();
        headers.for_each(|(name, value)| {
            map.append(name, value);
        });
        of(&map).map(Cow::into_owned)
    }

    #[test]
    fn a_key_is_a_bearer_token_or_the_password_of_any_user() {
        for (value, key) in [
            ("Bearer abc", "abc"),
            ("bEARER  abc ", "abc"),
            ("Basic YW55Ym9keTphYmM=", "abc"), // anybody:abc
            ("basic OmE6Yg==", "a:b"),         // :a:b
        ] {
            assert_eq!(shown(&[value]).as_deref(), Ok(key), "{value}");
        }
    }

    #[test]
    fn what_is_neither_is_told_from_nothing() {
        assert_eq!(shown(&[]), Err(Unreadable::Absent));
        let long = format!("Bearer {}", "a".repeat(LONGEST));
        for value in ["abc", "Bearer", "Bearer ", "Digest abc", "Basic !", "Basic YWJj", &long] {
            assert_eq!(shown(&[value]), Err(Unreadable::Malformed), "{value}");
        }
        assert_eq!(shown(&["Bearer a", "Bearer a"]), Err(Unreadable::Malformed));
    }
}
