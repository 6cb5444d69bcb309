//! `penstock schemas infer`: schemas proposed from sample events.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use schemas::infer::Samples;
use serde_json::Value;

use super::{BYTE_ORDER_MARK, file_of};
use crate::say;

/// Where samples are, and what to make of them.
#[derive(Clone, Debug)]
pub struct InferOptions {
    /// An NDJSON file of events; `-` is standard input.
    pub file: PathBuf,
    /// The only type to look at.
    pub kind: Option<String>,
    /// Whether RFC 3339 strings become timestamps.
    pub timestamps: bool,
    /// A folder to write a file for each type to.
    pub out: Option<PathBuf>,
}

/// Proposes a schema for each type in the file.
pub fn infer(options: &InferOptions) -> Result<()> {
    let name = options.file.display();
    let input: Box<dyn BufRead> = match options.file == Path::new("-") {
        true => Box::new(io::stdin().lock()),
        false => {
            let file = File::open(&options.file).with_context(|| format!("cannot read {name}"))?;
            Box::new(BufReader::new(file))
        }
    };
    let types = samples(input, options.kind.as_deref()).with_context(|| format!("{name}"))?;
    let schema = |kind: &str, of: &Samples| of.schema(kind, options.timestamps);
    match (&options.out, types.len()) {
        (_, 0) => {
            bail!("{name}: no event{}", options.kind.as_ref().map_or("", |_| " of that type"))
        }
        (Some(folder), _) => {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot make the folder {}", folder.display()))?;
            for (kind, samples) in &types {
                let path = file_of(folder, kind);
                std::fs::write(&path, format!("{:#}\n", schema(kind, samples)))
                    .with_context(|| format!("cannot write {}", path.display()))?;
                say!("{kind}: {}", path.display());
            }
        }
        (None, 1) => types.iter().for_each(|(kind, samples)| say!("{:#}", schema(kind, samples))),
        (None, _) => {
            let kinds: Vec<_> = types.keys().map(String::as_str).collect();
            bail!(
                "{name} has events of several types: choose one with --type, or --out FOLDER for all: {}",
                kinds.join(", ")
            )
        }
    }
    Ok(())
}

/// The data of events, by type. Errors name the line and never what is in it.
fn samples(input: impl BufRead, only: Option<&str>) -> Result<BTreeMap<String, Samples>> {
    let mut types: BTreeMap<String, Samples> = BTreeMap::new();
    for (line, text) in input.lines().enumerate() {
        let (line, text) = (line + 1, text?);
        let text = match line {
            1 => text.trim_start_matches(BYTE_ORDER_MARK),
            _ => &text,
        };
        if text.trim().is_empty() {
            continue;
        }
        let event: Value =
            serde_json::from_str(text).with_context(|| format!("line {line} is not JSON"))?;
        let Some(kind) = event.get("type").and_then(Value::as_str) else {
            bail!("line {line} is no event: it has no `type`");
        };
        // data in other forms is not what a schema is for
        if let (Some(data), true) = (event.get("data"), only.is_none_or(|only| only == kind)) {
            types.entry(kind.to_owned()).or_default().add(data);
        }
    }
    Ok(types)
}
