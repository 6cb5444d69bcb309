//! The log that tests of this crate run on: the real embedded one, in a folder of its own.

use std::ops::Deref;

use eventlog::Log;
use tempfile::TempDir;

/// A log whose folder goes when it is dropped.
pub(crate) struct TestLog(Log, #[expect(dead_code, reason = "held for its drop")] TempDir);

impl Deref for TestLog {
    type Target = Log;
    fn deref(&self) -> &Log {
        &self.0
    }
}

/// An empty log.
pub(crate) async fn test_log() -> TestLog {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file:{}", folder.path().display());
    TestLog(eventlog::open(&url, eventlog::Options::default()).await.unwrap(), folder)
}
