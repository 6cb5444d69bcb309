//! Posts one batch until it is answered for good: what a well-behaved client does.
//!
//! The rules are those of the HTTP API: a 2xx never needs a retry; 408, 429, 503 and a broken
//! connection are retried as a whole, which is safe because every event carries its own id;
//! anything else ends the post, with [`TryAgain`] where a later one may do better.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use http::{HeaderMap, StatusCode, header};
use reqwest::Url;
use serde::Deserialize;
use service::fetch::{FetchError, Fetched, Fetcher};
use tokio::time::{Instant, sleep, timeout_at};

use super::{TryAgain, batch::Batch};
use crate::remote::Server;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A server that asks for more patience than this is asked again sooner.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(30);
/// Longer than the server may take by default. An attempt never outlasts the time to give up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes of an answer at most: every event of a batch may be in it with its faults.
const LARGEST_ANSWER: usize = 256 * 1024 * 1024;

/// A client of one server.
#[derive(Clone, Debug)]
pub struct Poster {
    fetcher: Arc<Fetcher>,
    url: Url,
    give_up: Duration,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Posted {
    /// Events that are durable.
    pub accepted: u64,
    /// Events that were refused for good.
    pub rejects: Vec<Reject>,
}

/// An event that was refused for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Its line in the file.
    pub line: u64,
    /// The server's word for the fault.
    pub code: String,
    /// What is wrong.
    pub detail: String,
    /// Where in the event, as a JSON pointer.
    pub pointer: Option<String>,
    /// The event as it was sent; of a line that is too long, its beginning.
    pub event: Vec<u8>,
}

/// What the answers say that matters here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    accepted: u64,
    errors: Vec<EventError>,
    code: String,
    detail: String,
}

#[derive(Debug, Deserialize)]
struct EventError {
    index: usize,
    code: String,
    detail: String,
    pointer: Option<String>,
}

enum Attempt {
    Done(Posted),
    TooLarge(String),
    Retry { why: String, after: Option<Duration> },
}

impl Poster {
    /// A client of that server, which tries each batch for `give_up` at most.
    pub fn new(server: &Server, give_up: Duration) -> Result<Self> {
        let fetcher = Arc::new(server.fetcher(LARGEST_ANSWER, ANSWER_TIMEOUT)?);
        let url = server.url.join("/v1/events").context("the URL has no place for a path")?;
        Ok(Self { fetcher, url, give_up })
    }

    /// Posts a batch. An error means that some of it is not acknowledged: [`TryAgain`], or
    /// something that does not get better by itself.
    pub async fn post(&self, mut batch: Batch) -> Result<Posted> {
        let mut posted = Posted::default();
        let too_long = batch.too_long.take();
        // A batch that is too large is tried in halves, so that one huge event harms only itself.
        let mut open = Vec::from_iter((!batch.is_empty()).then_some(batch));
        while let Some(batch) = open.pop() {
            match self.post_whole(&batch).await? {
                Ok(more) => {
                    posted.accepted += more.accepted;
                    posted.rejects.extend(more.rejects);
                }
                Err(_) if batch.len() > 1 => {
                    let (first, second) = batch.halves();
                    open.extend([second, first]);
                }
                Err(detail) => posted.rejects.extend(too_large(&batch, &detail)),
            }
        }
        posted.rejects.extend(too_long);
        Ok(posted)
    }

    /// Tries until there is an answer for good; the inner error is a batch over a limit.
    async fn post_whole(&self, batch: &Batch) -> Result<Result<Posted, String>> {
        let deadline = Instant::now() + self.give_up;
        let mut pause = FIRST_PAUSE;
        loop {
            let (why, after) = match self.attempt(batch, deadline).await? {
                Attempt::Done(posted) => return Ok(Ok(posted)),
                Attempt::TooLarge(detail) => return Ok(Err(detail)),
                Attempt::Retry { why, after } => (why, after),
            };
            let wait = after.unwrap_or(jittered(pause));
            if Instant::now() + wait > deadline {
                return Err(TryAgain(format!("gave up after {:?}: {why}", self.give_up)).into());
            }
            if wait >= Duration::from_secs(1) {
                tracing::warn!("{why}; trying again");
            }
            sleep(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn attempt(&self, batch: &Batch, deadline: Instant) -> Result<Attempt> {
        let body = batch.body().to_vec().into();
        let sent = self.fetcher.post(self.url.as_str(), "application/x-ndjson", body);
        let sent = timeout_at(deadline, sent).await;
        let late = |_| Err(FetchError::Unanswered("there was none until then".into()));
        let Fetched { status, headers, body } = match sent.unwrap_or_else(late) {
            Ok(fetched) => fetched,
            Err(error) => {
                let why = format!("no answer from {}: {error}", self.url);
                return match error {
                    FetchError::Untrusted(_) => Err(anyhow!(why)),
                    FetchError::Unanswered(_) => Ok(Attempt::Retry { why, after: None }),
                };
            }
        };
        let after = retry_after(&headers);
        let answer: Option<Answer> = serde_json::from_slice(&body).ok();
        match status {
            StatusCode::ACCEPTED | StatusCode::MULTI_STATUS | StatusCode::UNPROCESSABLE_ENTITY => {
                let answer = answer.with_context(|| {
                    format!("{} answered {status} with a body that is not Penstock's", self.url)
                })?;
                let posted = done(batch, answer)?;
                // Another service's answer may be JSON as well, and says nothing of our events.
                let told = posted.accepted + posted.rejects.len() as u64;
                ensure!(
                    told == batch.len() as u64,
                    "{} answered {status} for {told} of {} events: is that Penstock?",
                    self.url,
                    batch.len()
                );
                Ok(Attempt::Done(posted))
            }
            StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::SERVICE_UNAVAILABLE => {
                Ok(Attempt::Retry { why: said(status, answer, &self.url), after })
            }
            StatusCode::PAYLOAD_TOO_LARGE => {
                Ok(Attempt::TooLarge(answer.unwrap_or_default().detail))
            }
            StatusCode::UNAUTHORIZED => {
                let said = said(status, answer, &self.url);
                Err(anyhow!("{said}; the key comes from PENSTOCK_KEY or --key-file"))
            }
            // A gateway's, or a fault within the server: it may have passed by the next time.
            StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::GATEWAY_TIMEOUT => Err(TryAgain(said(status, answer, &self.url)).into()),
            _ => Err(anyhow!(said(status, answer, &self.url))),
        }
    }
}

fn said(status: StatusCode, answer: Option<Answer>, url: &Url) -> String {
    let answer = answer.unwrap_or_default();
    if answer.code.is_empty() {
        return format!("{url} answered {status}: is that Penstock?");
    }
    format!("{url} answered {status}: {} ({})", answer.detail, answer.code)
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(jittered(Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER)))
}

/// Up to a quarter longer, so that clients that failed together do not come back together.
fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(0) % 256;
    pause + pause * u32::try_from(random).unwrap_or(0) / 1024
}

fn done(batch: &Batch, answer: Answer) -> Result<Posted> {
    let mut posted = Posted { accepted: answer.accepted, rejects: Vec::new() };
    for error in answer.errors {
        let (line, event) = batch.event(error.index).with_context(|| {
            format!("the server refused event {} of {}", error.index, batch.len())
        })?;
        posted.rejects.push(Reject {
            line,
            code: error.code,
            detail: error.detail,
            pointer: error.pointer,
            event: event.to_vec(),
        });
    }
    Ok(posted)
}

fn too_large(batch: &Batch, detail: &str) -> Option<Reject> {
    let (line, event) = batch.event(0)?;
    Some(Reject {
        line,
        code: "too_large".into(),
        detail: detail.to_owned(),
        pointer: None,
        event: event.to_vec(),
    })
}
