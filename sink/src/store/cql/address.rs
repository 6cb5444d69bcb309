//! Which cluster and keyspace a URL names. Credentials are settings of their own, never part of it.

use crate::store::StoreError;

const DEFAULT_PORT: u16 = 9042;

/// CQL's limit.
const MAX_KEYSPACE: usize = 48;

/// `scylla://HOST[:PORT],HOST[:PORT]/KEYSPACE`, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// Each `host:port`.
    pub(super) nodes: Vec<String>,
    pub(super) keyspace: String,
}

impl Address {
    /// Takes apart what follows `scylla:`.
    pub(super) fn parse(rest: &str) -> Result<Self, StoreError> {
        let Some(rest) = rest.strip_prefix("//") else {
            return Err(refused("it needs `//` after `scylla:`"));
        };
        if rest.contains('@') {
            return Err(refused(
                "credentials are not part of it: set store.user and store.password",
            ));
        }
        let Some((nodes, keyspace)) = rest.split_once('/') else {
            return Err(refused("it names no keyspace"));
        };
        let nodes = nodes.split(',').map(node).collect::<Result<_, _>>()?;
        Ok(Self { nodes, keyspace: checked(keyspace)? })
    }

    /// The nodes as a message shows them.
    pub(super) fn shown(&self) -> String {
        self.nodes.join(", ")
    }
}

fn node(text: &str) -> Result<String, StoreError> {
    // An IPv6 address is in brackets, so its colons are not mistaken for the port's.
    let (host, port) = match text.rfind(':') {
        Some(colon) if !text[colon..].contains(']') => {
            let port = text[colon + 1..].parse::<u16>().ok().filter(|port| *port != 0);
            let port = port.ok_or_else(|| refused(&format!("`{text}` has no valid port")))?;
            (&text[..colon], port)
        }
        _ => (text, DEFAULT_PORT),
    };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let plain = !host.is_empty()
        && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    if bracketed || plain {
        return Ok(format!("{host}:{port}"));
    }
    Err(refused(&format!("`{text}` is not a host, or a host and a port")))
}

/// The keyspace goes into statements as it is, so nothing but a plain name is let through.
fn checked(keyspace: &str) -> Result<String, StoreError> {
    let mut chars = keyspace.chars();
    let begins = chars.next().is_some_and(|first| first.is_ascii_lowercase());
    let goes_on = chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if begins && goes_on && keyspace.len() <= MAX_KEYSPACE {
        return Ok(keyspace.to_owned());
    }
    Err(refused(&format!(
        "`{keyspace}` is not a keyspace it may use: a small letter, then small letters, digits and \
         `_`, {MAX_KEYSPACE} at most"
    )))
}

fn refused(why: &str) -> StoreError {
    StoreError::Fatal(format!(
        "store.url cannot be used: {why}. Write it like `scylla://a:9042,b:9042/penstock`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(rest: &str) -> String {
        Address::parse(rest).expect_err("it is refused").to_string()
    }

    #[test]
    fn nodes_have_the_default_port_unless_they_name_one() {
        let address = Address::parse("//a,b.c:29042,[::1],[::1]:77/penstock").unwrap();
        assert_eq!(address.nodes, ["a:9042", "b.c:29042", "[::1]:9042", "[::1]:77"]);
        assert_eq!(address.keyspace, "penstock");
    }

    #[test]
    fn a_keyspace_that_is_not_a_plain_name_is_refused() {
        let long = "k".repeat(49);
        for keyspace in ["", "Penstock", "1a", "a-b", "a;drop", "a b", "a/b", &long] {
            assert!(why(&format!("//a/{keyspace}")).contains("keyspace"), "{keyspace}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        assert!(why("a/k").contains("`//`"));
        assert!(why("//a").contains("no keyspace"));
        assert!(why("///k").contains("not a host"));
        assert!(why("//a:x/k").contains("no valid port"));
        assert!(why("//a:0/k").contains("no valid port"));
    }

    #[test]
    fn credentials_are_refused_and_not_repeated() {
        let why = why("//me:secret@a/k");
        assert!(why.contains("store.password") && !why.contains("secret"), "{why}");
    }
}
