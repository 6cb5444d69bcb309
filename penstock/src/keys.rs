//! API keys on the command line: made by `penstock keys new`, and shown by the commands that speak
//! to a server.
//!
//! A key is printed once, when it is made, and is never an argument: other users of a machine see
//! the arguments of its processes.

use std::{fmt, path::Path};

use anyhow::{Context, Result, ensure};
use http::HeaderValue;
use serde_json::json;
use service::{
    auth::{Scope, key},
    config::KeyConfig,
};

use crate::say;

/// The variable that holds the key of commands that speak to a server.
const VARIABLE: &str = "PENSTOCK_KEY";

/// What a new key is to be.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Its name in logs and metrics.
    pub name: String,
    /// Its tenant.
    pub namespace: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// Whether to print JSON.
    pub json: bool,
}

/// A key of the caller. It shows itself to servers only.
#[derive(Clone)]
pub struct SecretKey(String);

/// Makes a key and prints it, with the table for the configuration.
pub fn new(new: NewKey) -> Result<()> {
    let key = key::generate().context("the operating system gives no randomness")?;
    let table = table_of(&new, &key);
    if new.json {
        let KeyConfig { name, hash, namespace, scopes, .. } = &table;
        let all = json!({
            "key": key, "name": name, "hash": hash, "namespace": namespace, "scopes": scopes
        });
        say!("{all}");
        return Ok(());
    }
    let table = toml::to_string(&table).context("a name that TOML cannot write")?;
    say!("The key, shown this once; give it to who is to use it:\n\n  {key}\n");
    say!("For the configuration, which needs no restart:\n\n[[keys]]\n{}", table.trim_end());
    Ok(())
}

fn table_of(new: &NewKey, key: &str) -> KeyConfig {
    let mut scopes: Vec<String> = Vec::new();
    for scope in &new.scopes {
        if !scopes.iter().any(|known| known == scope.name()) {
            scopes.push(scope.name().to_owned());
        }
    }
    KeyConfig {
        name: new.name.clone(),
        hash: key::write_hash(&key::hash(key)),
        namespace: new.namespace.clone(),
        scopes,
        rate: None,
    }
}

/// The key of who runs this command: from a file, or from the environment.
pub fn of_caller(file: Option<&Path>) -> Result<Option<SecretKey>> {
    let text = match file {
        Some(file) => Some(
            std::fs::read_to_string(file)
                .with_context(|| format!("cannot read the key in {}", file.display()))?,
        ),
        None => std::env::var(VARIABLE).ok(),
    };
    let key = text.map(|text| text.trim().to_owned());
    match (key, file) {
        (Some(key), Some(file)) if key.is_empty() => {
            anyhow::bail!("{} holds no key: it is empty", file.display())
        }
        (key, _) => Ok(key.filter(|key| !key.is_empty()).map(SecretKey)),
    }
}

impl SecretKey {
    /// The value of the `Authorization` header.
    pub(crate) fn as_header(&self) -> Result<HeaderValue> {
        let visible = self.0.bytes().all(|byte| byte.is_ascii_graphic());
        ensure!(visible, "the key has characters that no key has: is it another file's content?");
        let mut value = HeaderValue::try_from(format!("Bearer {}", self.0))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl From<String> for SecretKey {
    fn from(key: String) -> Self {
        Self(key)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey")
    }
}
