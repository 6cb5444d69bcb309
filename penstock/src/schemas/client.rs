//! A client of one server's `/registry`.

use std::{error::Error as _, time::Duration};

use anyhow::{Context, Result, anyhow, bail};
use http::{
    StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use reqwest::{RequestBuilder, Url};
use serde_json::Value;

use crate::keys::SecretKey;

/// Longer than the server may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of an answer at most.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// A client of one server, with the key of who runs the command.
pub struct Client {
    http: reqwest::Client,
    base: Url,
    key: Option<SecretKey>,
}

impl Client {
    /// A client of the server at `base`, such as `http://127.0.0.1:8080`.
    ///
    /// # Errors
    /// The HTTP client cannot be set up.
    pub fn new(base: &Url, key: Option<SecretKey>) -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build();
        let http = http.context("cannot set up the HTTP client")?;
        Ok(Self { http, base: base.clone(), key })
    }

    pub(super) async fn get(&self, path: &[&str]) -> Result<Value> {
        self.send(self.http.get(self.url(path, "")?)).await
    }

    pub(super) async fn post(&self, path: &[&str], query: &str, body: &Value) -> Result<Value> {
        let request = self.http.post(self.url(path, query)?);
        let request = request.header(CONTENT_TYPE, "application/vnd.schemaregistry.v1+json");
        self.send(request.body(body.to_string())).await
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

    async fn send(&self, mut request: RequestBuilder) -> Result<Value> {
        if let Some(key) = &self.key {
            request = request.header(AUTHORIZATION, key.as_header()?);
        }
        let unreachable = |error: reqwest::Error| {
            let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            anyhow!("no answer from {}: {why}; is the server there (--url)?", self.base)
        };
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if bytes.len() + chunk.len() > MAX_ANSWER {
                bail!("the answer of {} is too large to be one of a registry", self.base);
            }
            bytes.extend_from_slice(&chunk);
        }
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if status.is_success() {
            return Ok(answer);
        }
        // the registry's own words, or those of a problem
        let said = answer["message"].as_str().or(answer["detail"].as_str());
        let hint = match status {
            StatusCode::UNAUTHORIZED => ": give a key in PENSTOCK_KEY or with --key-file",
            StatusCode::FORBIDDEN => {
                ": the key needs the scope admin to change, write or read to look"
            }
            _ => "",
        };
        bail!("{} answered {status}: {}{hint}", self.base, said.unwrap_or("no reason given"))
    }
}
