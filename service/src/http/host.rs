//! The loopback rule: without authentication only this machine is answered.
//!
//! Two checks make it true. A listener without authentication must be on a loopback address, and
//! a request to it must name a loopback host: otherwise any web page could reach it through a
//! browser on this machine by pointing a name of its own at 127.0.0.1 (DNS rebinding).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, StatusCode, Uri, header, uri::Authority};

use crate::problem::Problem;

/// Whom a listener answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Whoever is on this machine: there is no authentication.
    ThisMachine,
    /// Whoever shows a key.
    Known,
    /// Everybody, because the configuration says `auth = "none"`.
    Everybody,
}

/// Refuses an address that others could reach where only this machine is answered.
pub fn check_listen(addr: SocketAddr, admission: Admission) -> Result<(), String> {
    if addr.ip().is_loopback() || admission != Admission::ThisMachine {
        return Ok(());
    }
    Err(format!(
        "http.listen is {addr}, which other machines can reach, and there are no keys: make one \
         with `penstock keys new`, or listen on 127.0.0.1, or say `auth = \"none\"` under [http] if \
         everyone may write and read"
    ))
}

/// Refuses a request that does not name a loopback host.
pub fn check_host(uri: &Uri, headers: &HeaderMap) -> Result<(), Box<Problem>> {
    let mut named = headers.get_all(header::HOST).iter();
    let host = match (uri.authority(), named.next(), named.next()) {
        // The target of the request goes before its Host header (RFC 9112, 3.2.2).
        (Some(authority), _, None) => Some(authority.clone()),
        (None, Some(value), None) => Authority::try_from(value.as_bytes()).ok(),
        _ => None,
    };
    if host.is_some_and(|host| !host.as_str().contains('@') && is_loopback(host.host())) {
        return Ok(());
    }
    Err(Box::new(Problem::new(
        StatusCode::FORBIDDEN,
        "host_not_allowed",
        "Host not allowed",
        "where no key is asked for only requests to localhost, 127.0.0.0/8 or [::1] are answered: \
         use one of these in the URL",
    )))
}

fn is_loopback(host: &str) -> bool {
    let v6 = || host.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok();
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
        || v6().is_some_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn allowed(uri: &str, hosts: &[&str]) -> bool {
        let values = hosts.iter().map(|h| (header::HOST, HeaderValue::from_str(h).unwrap()));
        let mut headers = HeaderMap::new();
        values.for_each(|(name, value)| {
            headers.append(name, value);
        });
        check_host(&uri.parse().unwrap(), &headers).is_ok()
    }

    #[test]
    fn loopback_names_are_allowed_on_any_port() {
        for host in ["localhost", "LocalHost:1", "127.0.0.1:8080", "127.9.9.9", "[::1]:8080"] {
            assert!(allowed("/", &[host]), "{host}");
        }
    }

    #[test]
    fn other_names_are_refused_even_if_they_look_similar() {
        for host in [
            "example.com",
            "localhost.example.com",
            "127.0.0.1.example.com",
            "127.0.0.1@example.com",
            "example.com@localhost",
            "[::2]",
            "10.0.0.1",
            "2130706433",
            "",
        ] {
            assert!(!allowed("/", &[host]), "{host}");
        }
    }

    #[test]
    fn a_request_that_names_no_host_or_two_is_refused() {
        assert!(!allowed("/", &[]));
        assert!(!allowed("/", &["localhost", "example.com"]));
        assert!(!allowed("http://example.com/", &["localhost"]));
        assert!(allowed("http://localhost/", &["localhost"]));
    }

    #[test]
    fn without_keys_only_loopback_is_listened_on_unless_said_in_so_many_words() {
        let open: SocketAddr = "0.0.0.0:8080".parse().unwrap();
        assert!(check_listen("127.0.0.1:0".parse().unwrap(), Admission::ThisMachine).is_ok());
        assert!(check_listen("[::1]:0".parse().unwrap(), Admission::ThisMachine).is_ok());
        for admission in [Admission::Everybody, Admission::Known] {
            assert!(check_listen(open, admission).is_ok(), "{admission:?}");
        }
        let refused = check_listen(open, Admission::ThisMachine).unwrap_err();
        assert!(refused.contains("penstock keys new") && refused.contains("auth = \"none\""));
    }
}
