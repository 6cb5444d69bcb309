//! A client of one server's `/registry`.

use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use http::StatusCode;
use reqwest::Url;
use serde_json::Value;
use service::fetch::{Fetched, Fetcher};

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
    /// The key cannot be one.
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
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| anyhow!("the URL has no place for a path"))?
            .pop_if_empty()
            .push("registry")
            .extend(path);
        url.set_query(Some(query).filter(|query| !query.is_empty()));
        Ok(url)
    }

    fn told(&self, answer: Result<Fetched, String>) -> Result<Value> {
        let Fetched { status, body, .. } = answer.map_err(|why| {
            anyhow!("no answer from {}: {why}; is the server there (--url)?", self.base)
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
