//! `penstock post`: files of events to a server, in batches, until each has its answer.
//!
//! Nothing is remembered between runs, and nothing needs to be: every event carries its own id,
//! so that posting a file again, whole or in part, has no further effect. That is what makes an
//! interrupted post resumable: run it again.

mod batch;
mod poster;
mod progress;
mod rejects;

use std::{
    fs::{File, FileType},
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{remote::Server, say};

pub use self::{
    batch::{Batch, Batches},
    poster::{Posted, Poster, Reject},
    progress::Progress,
    rejects::Rejects,
};

/// Not everything is posted, and posting it again may help as it is.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct TryAgain(pub String);

/// What to post, and how.
#[derive(Clone, Debug)]
pub struct PostOptions {
    /// NDJSON files; `-` is standard input.
    pub files: Vec<PathBuf>,
    /// The server.
    pub server: Server,
    /// Events in a request.
    pub batch: usize,
    /// Requests at once.
    pub concurrency: usize,
    /// How long a batch is tried until the post gives up.
    pub give_up: Duration,
}

/// Posts the files one after the other; an error when any event is not stored.
pub async fn post(options: PostOptions) -> Result<()> {
    let poster = Poster::new(&options.server, options.give_up)?;
    let mut rejected = 0;
    for file in &options.files {
        rejected += post_file(&poster, file, &options).await?;
    }
    if rejected > 0 {
        bail!("rejected: {rejected}; correct these events and post them again");
    }
    Ok(())
}

async fn post_file(poster: &Poster, path: &Path, options: &PostOptions) -> Result<u64> {
    let name = path.display().to_string();
    let (input, total) = open(path)?;
    let mut progress = Progress::new(&name, total);
    let mut rejects = Rejects::beside(path);
    let mut accepted = 0;
    let batches = Batches::new(input, options.batch);
    let outcome = post_all(poster, batches, options.concurrency, |posted| {
        accepted += posted.accepted;
        progress.add(posted.accepted + posted.rejects.len() as u64);
        posted.rejects.iter().try_for_each(|reject| rejects.write(reject))
    })
    .await;
    progress.finish();
    say!("{name}: {accepted} accepted, {} events/s", progress.rate());
    let rejected = match rejects.finish()? {
        Some((count, path)) => {
            say!("{name}: {count} rejected, see {}", path.display());
            count
        }
        None => 0,
    };
    outcome.map_err(|error| {
        let then = match error.is::<TryAgain>() {
            true => "run it again, what is there already has no further effect",
            false => "correct this first",
        };
        error.context(format!("{name}: not all is posted; {then}"))
    })?;
    Ok(rejected)
}

type Input = Box<dyn BufRead + Send>;

/// The input, and how many lines it has if that can be known.
fn open(path: &Path) -> Result<(Input, Option<u64>)> {
    if path == Path::new("-") {
        return Ok((Box::new(BufReader::new(io::stdin())), None));
    }
    let open = || File::open(path).with_context(|| format!("cannot read {}", path.display()));
    let file = open()?;
    let kind = file.metadata().map(|meta| meta.file_type());
    if kind.as_ref().is_ok_and(FileType::is_dir) {
        bail!("cannot read {}: it is a folder", path.display());
    }
    let regular = kind.is_ok_and(|kind| kind.is_file());
    let lines = if regular { count_lines(open()?).ok() } else { None };
    Ok((Box::new(BufReader::with_capacity(256 * 1024, file)), lines))
}

fn count_lines(file: File) -> io::Result<u64> {
    let mut reader = BufReader::with_capacity(256 * 1024, file);
    let mut lines = 0;
    loop {
        let chunk = reader.fill_buf()?;
        if chunk.is_empty() {
            return Ok(lines);
        }
        lines += chunk.iter().filter(|byte| **byte == b'\n').count() as u64;
        let length = chunk.len();
        reader.consume(length);
    }
}

/// Posts batches, `concurrency` at once, and hands over each outcome. At the first error no more
/// are started; those under way are finished.
pub async fn post_all(
    poster: &Poster,
    batches: impl Iterator<Item = io::Result<Batch>> + Send + 'static,
    concurrency: usize,
    mut each: impl FnMut(Posted) -> Result<()>,
) -> Result<()> {
    let (send, mut receive) = mpsc::channel(concurrency.max(1));
    let reading = tokio::task::spawn_blocking(move || {
        // A receiver that is gone has met an error; there is nothing left to read for.
        for batch in batches {
            if send.blocking_send(batch).is_err() {
                break;
            }
        }
    });
    let mut under_way = JoinSet::new();
    let mut first_error = None;
    let mut open = true;
    while open || !under_way.is_empty() {
        tokio::select! {
            batch = receive.recv(), if open && under_way.len() < concurrency.max(1) => match batch {
                Some(Ok(batch)) => {
                    let poster = poster.clone();
                    under_way.spawn(async move { poster.post(batch).await });
                }
                Some(Err(error)) => {
                    let error = TryAgain(format!("the input could not be read on: {error}"));
                    first_error.get_or_insert(error.into());
                    open = false;
                }
                None => open = false,
            },
            Some(joined) = under_way.join_next() => {
                let handed = joined.context("a post ended early").flatten().and_then(&mut each);
                if let Err(error) = handed {
                    first_error.get_or_insert(error);
                    open = false;
                }
            }
        }
    }
    drop(receive);
    match first_error {
        // Standard input may never end; the process does.
        Some(error) => Err(error),
        None => reading.await.context("reading the input"),
    }
}
