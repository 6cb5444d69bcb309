//! Gets the text of a key set, within a size and a deadline.

use std::{path::Path, time::Duration};

use http::StatusCode;
use tokio::time::timeout;

use crate::fetch::Fetcher;

const LARGEST: usize = 1 << 20;
const DEADLINE: Duration = Duration::from_secs(5);

/// The text of a file.
pub(super) async fn file(path: &Path) -> Result<Vec<u8>, String> {
    let read = timeout(DEADLINE, tokio::fs::read(path)).await;
    match read {
        Ok(Ok(text)) if text.len() <= LARGEST => Ok(text),
        Ok(Ok(_)) => Err(format!("{} is larger than {LARGEST} bytes", path.display())),
        Ok(Err(error)) => Err(format!("{}: {error}", path.display())),
        Err(_) => Err(format!("{} could not be read within {DEADLINE:?}", path.display())),
    }
}

/// The text behind an `http` or `https` URL.
pub(super) async fn url(url: &str) -> Result<Vec<u8>, String> {
    // A new one each time: whom the operating system trusts may have changed.
    let fetched = Fetcher::new(LARGEST, DEADLINE).get(url).await?;
    match fetched.status {
        StatusCode::OK => Ok(fetched.body.into()),
        status => Err(format!("it answered {status}")),
    }
}
