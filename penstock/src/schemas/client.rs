//! A client of one server's `/registry`.

use std::time::Duration;

use anyhow::{Result, anyhow, bail, ensure};
use http::StatusCode;
use reqwest::Url;
use serde_json::Value;
use service::fetch::{FetchError, Fetched, Fetcher};

use crate::remote::Server;

/// Longer than the server may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of an answer at most.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// A client of one server, with the key of who runs the command.
pub struct Client {
    fetcher: Fetcher,
    base: Url,
}

impl Client {
    /// A client of that server.
    ///
    /// # Errors
    /// The key cannot be one, or the authorities to trust cannot be read.
    pub fn new(server: Server) -> Result<Self> {
        let fetcher = server.fetcher(MAX_ANSWER, TIMEOUT)?;
        Ok(Self { fetcher, base: server.url })
    }

    pub(super) async fn get(&self, path: &[&str]) -> Result<Value> {
        self.told(self.fetcher.get(self.url(path, "")?.as_str()).await)
    }

    pub(super) async fn post(&self, path: &[&str], query: &str, body: &Value) -> Result<Value> {
        let (url, body) = (self.url(path, query)?, body.to_string().into());
        let kind = "application/vnd.schemaregistry.v1+json";
        self.told(self.fetcher.post(url.as_str(), kind, body).await)
    }

    /// Segments are encoded: event types may hold slashes.
    fn url(&self, path: &[&str], query: &str) -> Result<Url> {
        path.iter().try_for_each(|segment| check(segment))?;
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| anyhow!("the URL has no place for a path"))?
            .pop_if_empty()
            .push("registry")
            .extend(path);
        url.set_query(Some(query).filter(|query| !query.is_empty()));
        Ok(url)
    }

    fn told(&self, answer: Result<Fetched, FetchError>) -> Result<Value> {
        let Fetched { status, body, .. } = answer.map_err(|error| {
            let hint = match error {
                FetchError::Untrusted(_) => "",
                FetchError::Unanswered(_) => "; is the server there (--url)?",
            };
            anyhow!("no answer from {}: {error}{hint}", self.base)
        })?;
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status.is_success() {
            return Ok(answer);
        }
        // the registry's own words, or those of a problem
        let said = answer["message"].as_str().or(answer["detail"].as_str());
        let hint = match status {
            StatusCode::UNAUTHORIZED => ": give a key in PENSTOCK_KEY or with --key-file",
            StatusCode::FORBIDDEN => ": the key needs the scope admin to change, any to look",
            _ => "",
        };
        bail!("{} answered {status}: {}{hint}", self.base, said.unwrap_or("no reason given"))
    }
}

/// Refuses what would not arrive as it is: URLs leave out some control characters, and take dots
/// for steps in a path. The server's rule is the same but for the dots.
fn check(segment: &str) -> Result<()> {
    let shown = segment.escape_debug();
    ensure!(
        (1..=1024).contains(&segment.len()) && !segment.chars().any(char::is_control),
        "`{shown}` cannot be asked for: a name has 1 to 1024 bytes and no control characters"
    );
    ensure!(
        !matches!(segment, "." | ".."),
        "`{shown}` cannot be asked for: in the path of a URL it leads elsewhere"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_one_segment_of_a_path_as_it_is_or_refused() {
        let server = Server { url: "http://h".parse().unwrap(), key: None, authorities: None };
        let client = Client::new(server).unwrap();
        let url = |kind| client.url(&["subjects", kind], "");
        for (kind, segment) in
            [("a/b c", "a%2Fb%20c"), ("..a\\", "..a%5C"), ("%2e?#é", "%252e%3F%23%C3%A9")]
        {
            assert_eq!(url(kind).unwrap().path(), format!("/registry/subjects/{segment}"));
        }
        for (kind, says) in [
            (".", "leads elsewhere"),
            ("..", "leads elsewhere"),
            ("new\tty\npe", "`new\\tty\\npe` cannot be asked for: a name has"),
            ("a\u{85}", "no control characters"),
            ("", "1 to 1024 bytes"),
        ] {
            let said = url(kind).unwrap_err().to_string();
            assert!(said.contains(says), "{kind:?}: {said}");
        }
    }
}
