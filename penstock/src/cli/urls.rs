//! URLs as arguments.
//!
//! One may hold what a person took for the place of a password, so an error does not repeat it,
//! as clap's own would.

use std::ffi::OsStr;

use clap::{Arg, Command, Error, builder::TypedValueParser, error::ErrorKind};
use reqwest::Url;
use service::config::{check_log_url, check_store_url};

/// A parser of arguments whose errors are words that follow the argument's name.
#[derive(Clone, Copy)]
pub(super) struct Unrepeated<T>(pub fn(&str) -> Result<T, String>);

impl<T: Clone + Send + Sync + 'static> TypedValueParser for Unrepeated<T> {
    type Value = T;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<T, Error> {
        let parsed = value.to_str().ok_or_else(|| "is not UTF-8".to_owned()).and_then(self.0);
        parsed.map_err(|why| {
            let name = arg.map(Arg::to_string).unwrap_or_default();
            Error::raw(ErrorKind::ValueValidation, format!("'{name}' {why}\n")).with_cmd(command)
        })
    }
}

/// A log in place of an embedded one.
pub(super) fn log(text: &str) -> Result<String, String> {
    check_log_url(text).map(|()| text.to_owned())
}

/// A store in place of an embedded one.
pub(super) fn store(text: &str) -> Result<String, String> {
    check_store_url(text).map(|()| text.to_owned())
}

/// A server: its scheme, host and port. Commands know the paths, and nothing else is accepted in
/// their place, because it would not be asked for.
pub(super) fn server(text: &str) -> Result<Url, String> {
    const FORM: &str = "write http://HOST:PORT or https://HOST";
    let url: Url = text.parse().map_err(|error| format!("is no URL ({error}): {FORM}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("is neither over http nor over https: {FORM}"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user or password: \
                    the key comes from the environment's PENSTOCK_KEY or from --key-file"
            .into());
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(format!("has something after the host: {FORM}"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_scheme_a_host_and_a_port() {
        for url in ["http://h", "https://h:8443/", "http://[::1]:8080"] {
            assert!(server(url).is_ok(), "{url}");
        }
        for (url, says) in [
            ("http://user:s3cret@h", "PENSTOCK_KEY"),
            ("https://s3cret@h/v1/events", "--key-file"),
            ("http://h/nowhere", "after the host"),
            ("http://h/?s3cret=1", "after the host"),
            ("http://h#s3cret", "after the host"),
            ("ftp://h", "neither over http"),
            ("s3cret:h@h", "neither over http"),
            ("h", "is no URL"),
            ("http://u:s3/cret@h", "is no URL"),
        ] {
            let said = server(url).unwrap_err();
            assert!(said.contains(says) && !said.contains("s3"), "{url}: {said}");
        }
    }
}
