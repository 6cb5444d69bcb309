//! The server that a command speaks to: where it is, whom to trust there, and the caller's key.

use std::{path::PathBuf, time::Duration};

use anyhow::{Error, Result};
use reqwest::Url;
use service::fetch::Fetcher;

use crate::keys::SecretKey;

/// A server.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its address, such as `http://127.0.0.1:8080`.
    pub url: Url,
    /// The API key to show, if any.
    pub key: Option<SecretKey>,
    /// Authorities to trust behind `https`, a PEM file; without, those of the operating system.
    pub authorities: Option<PathBuf>,
}

impl Server {
    /// What asks it, for answers of at most so many bytes, within that time.
    pub(crate) fn fetcher(&self, largest: usize, deadline: Duration) -> Result<Fetcher> {
        let mut fetcher = Fetcher::new(largest, deadline);
        if let Some(authorities) = &self.authorities {
            fetcher = fetcher.trusting(authorities).map_err(Error::msg)?;
        }
        Ok(match &self.key {
            Some(key) => fetcher.with_authorization(key.as_header()?),
            None => fetcher,
        })
    }
}
