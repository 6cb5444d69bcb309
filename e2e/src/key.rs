//! API keys, made as operators make them.

use std::process::Command;

use anyhow::{Context, Result};

use crate::process::binary;

/// A key that `penstock keys new` made.
pub struct Made {
    /// What to show.
    pub secret: String,
    /// Its table for the configuration; what is appended to it belongs to it.
    pub table: String,
}

/// Makes a key with one scope.
///
/// # Errors
/// The command fails.
pub fn made(name: &str, namespace: &str, scope: &str) -> Result<Made> {
    let new = ["keys", "new", "--json", "--name", name, "--namespace", namespace, "--scope", scope];
    let output = Command::new(binary()).args(new).output()?;
    let key: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let text = |member: &str| key[member].as_str().context("no such member").map(str::to_owned);
    let table = format!(
        "[[keys]]\nname = \"{name}\"\nnamespace = \"{namespace}\"\nscopes = [\"{scope}\"]\n\
         hash = \"{}\"\n",
        text("hash")?
    );
    Ok(Made { secret: text("key")?, table })
}
