//! URLs of log and store: which kinds there are, and what can be said of one without asking anyone.
//!
//! A URL may hold what a person took for the place of a password, so no message repeats more of
//! it than a host or a keyspace.

use super::Config;

/// What a URL names besides a path.
struct Kind {
    scheme: &'static str,
    port: u16,
    /// Whether a keyspace comes after the hosts.
    keyspace: bool,
    /// Where credentials belong.
    credentials: &'static str,
}

const KAFKA: Kind = Kind {
    scheme: "kafka",
    port: 9092,
    keyspace: false,
    credentials: "`\"sasl.username\"` and `\"sasl.password\"` in [log.properties]",
};
const SCYLLA: Kind = Kind {
    scheme: "scylla",
    port: 9042,
    keyspace: true,
    credentials: "`user` and `password` in [store]",
};

/// Says what is wrong with `log.url`.
pub fn check_log_url(url: &str) -> Result<(), String> {
    check(url, &KAFKA)
}

/// Says what is wrong with `store.url`.
pub fn check_store_url(url: &str) -> Result<(), String> {
    check(url, &SCYLLA)
}

/// `scheme://user:password@host/path?name=value` without what stands before the host, and without
/// the values of its query.
pub fn masked_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    // What has spaces before a question mark is a program rather than a URL with a query.
    let query_at = rest.find(['?', '#']).filter(|&at| !rest[..at].contains(char::is_whitespace));
    let (place, query) = rest.split_at(query_at.unwrap_or(rest.len()));
    if query.contains('@') {
        // A password with a question mark, or a query with an at sign: nobody can tell.
        return format!("{scheme}://***");
    }
    // The last one: a password may hold anything.
    let place = match place.rsplit_once('@') {
        Some((_, host)) => format!("***@{host}"),
        None => place.to_owned(),
    };
    let masked = |parameter: &str| match parameter.split_once('=') {
        Some((name, _)) => format!("{name}=***"),
        None => "***".to_owned(),
    };
    match query.split_at_checked(1) {
        None => format!("{scheme}://{place}"),
        Some((mark, query)) => {
            let parameters: Vec<String> = query.split('&').map(masked).collect();
            format!("{scheme}://{place}{mark}{}", parameters.join("&"))
        }
    }
}

/// What a service shares with those in other processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shared {
    /// The log.
    Log,
    /// The store.
    Store,
}

impl Config {
    /// Refuses an embedded log or store to a service of its own process: nobody else could open
    /// what it writes, and it could not open what others have.
    pub fn require_shared(&self, service: &str, needs: &[Shared]) -> anyhow::Result<()> {
        for need in needs {
            let (setting, url, what, instead) = match need {
                Shared::Log => ("log.url", &self.log.url, "log", "kafka://HOST:9092"),
                Shared::Store => {
                    ("store.url", &self.store.url, "store", "scylla://HOST:9042/KEYSPACE")
                }
            };
            anyhow::ensure!(
                !url.starts_with("file:"),
                "{setting} is {url}, an embedded {what}, which one process has for itself, and \
                 {service} is one service among several: run them all in one process with \
                 `penstock run`, or set {setting} = \"{instead}\""
            );
        }
        Ok(())
    }
}

fn check(url: &str, kind: &Kind) -> Result<(), String> {
    let Kind { scheme, .. } = kind;
    match url.split_once(':') {
        Some(("file", "")) => return Err("has no path: write file:PATH".into()),
        Some(("file", _)) => return Ok(()),
        _ => {}
    }
    let Some(rest) = url.strip_prefix(scheme).and_then(|rest| rest.strip_prefix("://")) else {
        let form = kind.form();
        let close = url.split(':').next().is_some_and(|given| {
            let synonym = ["cql", "cassandra", "scylladb"].contains(&given) && kind.keyspace;
            synonym || strsim::jaro_winkler(&given.to_lowercase(), scheme) > 0.85
        });
        // The URL itself may hold a password, so it is not repeated.
        return Err(match close {
            true => format!("is neither file:PATH nor {scheme}://...; did you mean `{form}`?"),
            false => format!("is neither file:PATH nor {scheme}://...: write {form}"),
        });
    };
    let (hosts, path) = match rest.split_once('/') {
        Some((hosts, path)) => (hosts, Some(path)),
        None => (rest, None),
    };
    // Anywhere: a password may hold a slash.
    if rest.contains('@') {
        let credentials = kind.credentials;
        return Err(format!("holds a user or password: those are {credentials}"));
    }
    // Nor is what a client's own library might take in one.
    if rest.contains(['?', '#']) {
        let form = kind.form();
        return Err(format!("has a query or a fragment, which are not known here: write {form}"));
    }
    for host in hosts.split(',') {
        check_host(host, kind)?;
    }
    match (kind.keyspace, path) {
        (true, path) => check_keyspace(path.unwrap_or_default(), kind),
        (false, None | Some("")) => Ok(()),
        (false, Some(_)) => Err(format!("has something after the hosts: write {}", kind.form())),
    }
}

impl Kind {
    fn form(&self) -> String {
        let Self { scheme, port, keyspace, .. } = self;
        let keyspace = if *keyspace { "/KEYSPACE" } else { "" };
        format!("{scheme}://HOST:{port},HOST:{port}{keyspace}")
    }
}

fn check_host(text: &str, kind: &Kind) -> Result<(), String> {
    if text.is_empty() {
        return Err(format!("names no host, or has a comma too many: write {}", kind.form()));
    }
    let port = kind.port;
    // An IPv6 address has its colons in brackets. Without a port it is the usual one.
    let (host, given) = match text.rsplit_once(':') {
        Some((host, given)) if !given.contains(']') => (host, Some(given)),
        _ => (text, None),
    };
    let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let good = match v6 {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        }
    };
    if !good {
        // With a colon it may be a user and a password.
        return Err(match v6.is_some() || !host.contains(':') {
            true => format!("`{host}` is not a host's name or address"),
            false => format!("names something that is no host: write {}", kind.form()),
        });
    }
    match given.map(|given| (given, given.parse::<u16>())) {
        None | Some((_, Ok(1..))) => Ok(()),
        // Anything else than a number may be a password.
        Some((given, _)) if given.bytes().all(|b| b.is_ascii_digit()) => {
            Err(format!("`{given}` is not a port: write {host}:{port}"))
        }
        Some(_) => Err(format!("what stands behind the colon is not a port: write {host}:{port}")),
    }
}

/// What needs no quotes in CQL, on both databases.
fn check_keyspace(keyspace: &str, kind: &Kind) -> Result<(), String> {
    if keyspace.is_empty() {
        return Err(format!("names no keyspace: write {}", kind.form()));
    }
    let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    let good = keyspace.len() <= 48
        && keyspace.as_bytes()[0].is_ascii_lowercase()
        && keyspace.bytes().all(lower);
    if !good {
        return Err(format!(
            "`{keyspace}` is not a keyspace's name: use 1 to 48 lower-case letters, digits and `_`, \
             beginning with a letter"
        ));
    }
    if keyspace == "system" || keyspace.starts_with("system_") {
        return Err(format!("`{keyspace}` belongs to the database: name one of your own"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_can_be_opened_pass() {
        for url in
            ["file:x", "file:/x", "kafka://a:1", "kafka://a.b-c:9092,[::1]:9092", "kafka://a:1/"]
        {
            assert_eq!(check_log_url(url), Ok(()), "{url}");
        }
        for url in ["file:./x", "scylla://a:9042/penstock", "scylla://a,10.0.0.1:2/my_events2"] {
            assert_eq!(check_store_url(url), Ok(()), "{url}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_log_url_is_said_with_what_to_write() {
        for (url, says) in [
            ("kafka://", "names no host"),
            ("kafka://a:1,,b:2", "comma too many"),
            ("kafka://a:1,", "comma too many"),
            ("kafka://broker:", "`` is not a port: write broker:9092"),
            ("kafka://broker:0", "`0` is not a port"),
            ("kafka://me:s3cret:9092", "something that is no host"),
            ("kafka://a?sasl.password=s3cret", "a query or a fragment"),
            ("kafka://me:s3cret", "what stands behind the colon is not a port"),
            ("kafka://broker:99999", "`99999` is not a port"),
            ("kafka://[::g]:1", "is not a host"),
            ("kafka://a b:1", "`a b` is not a host"),
            ("kafka://:9092", "is not a host"),
            ("kafka://a:1/topic", "after the hosts"),
            ("kafka:a:9092", "did you mean `kafka://HOST:9092,HOST:9092`?"),
            ("kakfa://a:9092", "did you mean `kafka://"),
            ("http://a:9092", "is neither file:PATH nor kafka://...: write kafka://HOST"),
            ("penstock-data", "is neither file:PATH"),
            ("", "is neither file:PATH"),
        ] {
            let said = check_log_url(url).unwrap_err();
            assert!(said.contains(says), "{url}: {said}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_store_url_is_said_with_what_to_write() {
        for (url, says) in [
            ("scylla://a:9042", "names no keyspace: write scylla://HOST:9042,HOST:9042/KEYSPACE"),
            ("scylla://a:9042/", "names no keyspace"),
            ("scylla://a:9042/Events", "`Events` is not a keyspace"),
            ("scylla://a:9042/a-b", "is not a keyspace"),
            ("scylla://a:9042/a/b", "is not a keyspace"),
            ("scylla://a:9042/1a", "beginning with a letter"),
            ("scylla://a:9042/system_auth", "belongs to the database"),
            ("cassandra://a:9042/k", "did you mean `scylla://"),
            ("cql://a:9042/k", "did you mean `scylla://"),
        ] {
            let said = check_store_url(url).unwrap_err();
            assert!(said.contains(says), "{url}: {said}");
        }
    }

    #[test]
    fn credentials_in_a_url_are_refused_without_repeating_them() {
        let log = check_log_url("kafka://me:s3cret@a:9092").unwrap_err();
        assert!(log.contains("sasl.password") && !log.contains("s3cret"), "{log}");
        let store = check_store_url("scylla://me:s3cret@a:9042/k").unwrap_err();
        assert!(store.contains("[store]") && !store.contains("s3cret"), "{store}");
        let slash = check_store_url("scylla://me:s3/cret@a:9042/k").unwrap_err();
        assert!(slash.contains("[store]") && !slash.contains("s3"), "{slash}");
    }

    #[test]
    fn a_url_is_shown_without_what_stands_before_its_host() {
        assert_eq!(masked_url("kafka://me:s3cret@a:1,b:2"), "kafka://***@a:1,b:2");
        assert_eq!(masked_url("scylla://me:s3/cr@t@a:1/k"), "scylla://***@a:1/k");
        assert_eq!(masked_url("file:/a@b"), "file:/a@b");
    }

    #[test]
    fn a_url_is_shown_without_the_values_of_its_query() {
        for (url, shown) in [
            ("https://me:pw@x/y?token=s3cret&v=1", "https://***@x/y?token=***&v=***"),
            ("https://x/y?s3cret", "https://x/y?***"),
            ("https://x/y?a=s3=cret#s3cret", "https://x/y?a=***"),
            ("https://x/y#s3cret", "https://x/y#***"),
            ("https://x/y?a=s3@cret", "https://***"),
            ("https://me:s3?cret@x/y", "https://***"),
            ("file:/a?b", "file:/a?b"),
        ] {
            assert_eq!(masked_url(url), shown, "{url}");
        }
        let program = "# see https://example.com\n.a = .b ?? \"c\"";
        assert_eq!(masked_url(program), program);
    }

    #[test]
    fn an_embedded_log_or_store_is_for_one_process() {
        let mut config = Config::default();
        let error = config.require_shared("penstock-sink", &[Shared::Log]).unwrap_err().to_string();
        assert!(error.contains("log.url is file:") && error.contains("`penstock run`"), "{error}");
        config.log.url = "kafka://a:1".into();
        config.require_shared("penstock-ingest", &[Shared::Log]).unwrap();
        let error = config.require_shared("penstock-sink", &[Shared::Log, Shared::Store]);
        assert!(error.unwrap_err().to_string().contains("scylla://HOST:9042/KEYSPACE"));
    }
}
