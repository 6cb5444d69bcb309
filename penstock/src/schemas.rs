//! `penstock schemas`: contracts of event types, seen, checked and registered over HTTP, and proposed
//! from samples.
//!
//! All but `infer` ask a server's `/registry` with the caller's key; `infer` reads files and asks nobody.

mod client;
mod infer;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

pub use self::{
    client::Client,
    infer::{InferOptions, infer},
};
use crate::say;

/// What some editors write at the beginning of a file in UTF-8.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Lists types with their latest versions.
pub async fn list(client: &Client, as_json: bool) -> Result<()> {
    let subjects = client.get(&["subjects"]).await?;
    let mut rows = Vec::new();
    for subject in subjects.as_array().into_iter().flatten().filter_map(Value::as_str) {
        let latest = client.get(&["subjects", subject, "versions", "latest"]).await?;
        rows.push(json!({
            "type": subject, "version": latest["version"], "id": latest["id"]
        }));
    }
    if as_json {
        say!("{}", Value::Array(rows));
        return Ok(());
    }
    if rows.is_empty() {
        say!("no type has a schema: `penstock schemas register FILE --type TYPE` gives it one");
        return Ok(());
    }
    let text = |row: &Value| row["type"].as_str().unwrap_or_default().to_owned();
    let width = rows.iter().map(|row| text(row).chars().count()).max().unwrap_or(0).max(4);
    say!("{:width$}  version  id", "type");
    for row in &rows {
        say!("{:width$}  {:>7}  {}", text(row), row["version"], row["id"]);
    }
    Ok(())
}

/// Prints a version of a type's schema.
pub async fn show(client: &Client, kind: &str, version: &str, as_json: bool) -> Result<()> {
    let found = client.get(&["subjects", kind, "versions", version]).await?;
    if as_json {
        say!("{found}");
        return Ok(());
    }
    let text = found["schema"].as_str().context("the server sent no schema")?;
    let schema: Value = serde_json::from_str(text).context("the server sent no JSON schema")?;
    say!("{schema:#}");
    Ok(())
}

/// Tells whether a schema could be registered; an error when not.
pub async fn check(client: &Client, file: &Path, kind: &str, as_json: bool) -> Result<()> {
    let body = body_of(file)?;
    let path = ["compatibility", "subjects", kind, "versions"];
    let answer = client.post(&path, "verbose=true", &body).await?;
    let fits = answer["is_compatible"].as_bool().context("the server did not say whether")?;
    if as_json {
        say!("{answer}");
    }
    if fits {
        if !as_json {
            say!("{}: compatible with what `{kind}` has", file.display());
        }
        return Ok(());
    }
    let reasons = answer["messages"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let reasons: String = reasons.map(|reason| format!("\n  {reason}")).collect();
    bail!("{}: not compatible with what `{kind}` has{reasons}", file.display())
}

/// Registers a schema as the next version of a type's.
pub async fn register(client: &Client, file: &Path, kind: &str, as_json: bool) -> Result<()> {
    let answer = client.post(&["subjects", kind, "versions"], "", &body_of(file)?).await?;
    if as_json {
        say!("{answer}");
    } else {
        say!("{kind}: version {}, id {}", answer["version"], answer["id"]);
    }
    Ok(())
}

/// The body that offers the schema in a file.
fn body_of(file: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read the schema in {}", file.display()))?;
    Ok(json!({ "schema": text.trim_start_matches(BYTE_ORDER_MARK) }))
}

/// Where a type's schema goes in a folder: its name, without what a file's name cannot hold.
fn file_of(folder: &Path, kind: &str) -> PathBuf {
    let name: String = kind
        .chars()
        .map(|c| if c.is_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' })
        .collect();
    folder.join(format!("{}.avsc", name.trim_start_matches('.')))
}
