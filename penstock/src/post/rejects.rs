//! The file of rejects: what was refused and why, in a form that can be corrected and posted.

use std::{
    ffi::OsString,
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::{Value, json, value::RawValue};

use super::poster::Reject;

/// A file that is made with the first reject.
#[derive(Debug)]
pub struct Rejects {
    path: PathBuf,
    file: Option<BufWriter<File>>,
    count: u64,
}

impl Rejects {
    /// The file beside `input`: its name and `.rejects.ndjson`. For standard input, and for what else is
    /// no file (a pipe of the shell, say), it is `stdin.rejects.ndjson` in the current directory.
    pub fn beside(input: &Path) -> Self {
        let piped = input.metadata().is_ok_and(|what| !what.is_file());
        let mut path = match piped || input == Path::new("-") {
            true => OsString::from("stdin"),
            false => input.as_os_str().to_owned(),
        };
        path.push(".rejects.ndjson");
        Self { path: path.into(), file: None, count: 0 }
    }

    /// Writes one line: `line`, `code`, `detail`, `pointer`, and `event` as it was sent (a string
    /// when it is not JSON).
    pub fn write(&mut self, reject: &Reject) -> Result<()> {
        let cannot = || format!("cannot write the rejects to {}", self.path.display());
        let mut file = match self.file.take() {
            Some(file) => file,
            None => BufWriter::new(File::create(&self.path).with_context(cannot)?),
        };
        let text = String::from_utf8_lossy(&reject.event);
        // Kept raw where possible: numbers must come back as they were written.
        let event = match RawValue::from_string(text.clone().into_owned()) {
            Ok(raw) => serde_json::to_string(&raw),
            Err(_) => serde_json::to_string(&Value::from(text.as_ref())),
        }?;
        let mut line = json!({ "line": reject.line, "code": reject.code, "detail": reject.detail });
        if let Some(pointer) = &reject.pointer {
            line["pointer"] = json!(pointer);
        }
        let line = line.to_string();
        let open = line.trim_end_matches('}');
        writeln!(file, "{open},\"event\":{event}}}").with_context(cannot)?;
        self.file = Some(file);
        self.count += 1;
        Ok(())
    }

    /// How many were written, and where; the file is complete then.
    pub fn finish(mut self) -> Result<Option<(u64, PathBuf)>> {
        let Some(mut file) = self.file.take() else { return Ok(None) };
        file.flush().with_context(|| format!("cannot write {}", self.path.display()))?;
        Ok(Some((self.count, self.path)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reject(event: &str) -> Reject {
        Reject {
            line: 7,
            code: "c".into(),
            detail: "ends with }".into(),
            pointer: Some("/id".into()),
            event: event.into(),
        }
    }

    #[test]
    fn rejects_keep_the_event_as_it_was_sent() {
        let dir = tempfile::tempdir().unwrap();
        let mut rejects = Rejects::beside(&dir.path().join("in.ndjson"));
        rejects.write(&reject(r#"{"n":1.0000000000000000001}"#)).unwrap();
        rejects.write(&reject("{broken")).unwrap();
        let (count, path) = rejects.finish().unwrap().unwrap();
        assert_eq!((count, path.file_name().unwrap()), (2, "in.ndjson.rejects.ndjson".as_ref()));
        let text = std::fs::read_to_string(path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].ends_with(r#""event":{"n":1.0000000000000000001}}"#), "{text}");
        let broken: Value = serde_json::from_str(lines[1]).unwrap();
        let expected = json!({ "line": 7, "code": "c", "detail": "ends with }",
            "pointer": "/id", "event": "{broken" });
        assert_eq!(broken, expected);
    }

    #[test]
    fn without_rejects_there_is_no_file() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Rejects::beside(&dir.path().join("in")).finish().unwrap().is_none());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
