//! One request from its head to its answer: the order of the steps, and the waiting.
//!
//! Every wait has the request's deadline. Two things are [finished](crate::finish) whoever leaves. From
//! the moment its body is whole, a request is [`Door::decide`]d: a client that goes away does not leave
//! events behind whose outcome nobody counted. And the append holds the request's share of the byte
//! budget to its end: a log that hangs past the deadline still has the records, so it must not make
//! room for more.

mod examine;

use std::{
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use eventlog::{AppendError, Appended, Record};
use http::{HeaderMap, StatusCode};
use schemas::{
    shapes::{CloudEvent, PlainEvent},
    topics,
};
use service::{
    auth::{Caller, Scope},
    http::{Allowance, discard, expects_continue, request_id},
    problem::Problem,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use self::examine::Posted;
use crate::{
    Ingest,
    answer::{Accepted, Outcome, Unstored},
    body,
    budget::{Budget, Share},
    check::Checked,
    finish::finish,
    form::Head,
    refusal::Refusal,
};

/// The door and its budget.
pub struct Door {
    ingest: Arc<Ingest>,
    budget: Budget,
    /// Turns for bodies that are parsed on threads of their own: as many as there are cores, so that
    /// however many are large, small ones find a core.
    large: Arc<Semaphore>,
    /// When a failure of the log or the registry was last reported, in seconds since the Unix epoch.
    reported: AtomicU64,
}

/// The body of `application/json`.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it only describes")]
enum OneOrMany {
    /// One event.
    One(PlainEvent),
    /// Several.
    Many(Vec<PlainEvent>),
}

/// Post events
///
/// Each event gets its own result, and a 2xx means that what it accepts is durable. On 408, 429 and 503
/// the whole request may be sent again. In binary mode (any content type with `ce-` headers) the body is
/// the data of one event.
#[utoipa::path(
    post, path = "/v1/events", tag = "writing",
    request_body(content(
        (CloudEvent = "application/cloudevents+json"),
        (Vec<CloudEvent> = "application/cloudevents-batch+json", example = json!([
            { "specversion": "1.0", "id": "2", "source": "/shop", "type": "order.placed" }
        ])),
        (String = "application/x-ndjson", example = json!(
            "{\"specversion\":\"1.0\",\"id\":\"3\",\"source\":\"/shop\",\"type\":\"order.placed\"}\n"
        )),
        (OneOrMany = "application/json", example = json!([
            { "source": "/shop", "type": "order.placed", "data": { "amount": 3 } }
        ]))
    )),
    params(
        ("ce-specversion" = Option<String>, Header, description = "Binary mode: `1.0`"),
        ("ce-id" = Option<String>, Header, description = "Binary mode: the id"),
        ("ce-source" = Option<String>, Header, description = "Binary mode: the source"),
        ("ce-type" = Option<String>, Header, description = "Binary mode: the type"),
        ("Prefer" = Option<String>, Header,
            description = "`handling=strict` stores nothing when any event is invalid"),
        ("Idempotency-Key" = Option<String>, Header, pattern = "^[!-~]([ -~]{0,253}[!-~])?$", nullable = false,
            description = "Makes the ids that are filled in the same when the request comes again"),
        ("Content-Encoding" = Option<String>, Header, nullable = false,
            description = "`gzip`, `zstd`, `br` or `deflate`, up to four on top of each other"),
    ),
    responses(
        (status = 202, description = "Every event is durable", body = Accepted,
            content_type = "application/json"),
        (status = 207, description = "Some were refused for good, the others are durable",
            body = Accepted, content_type = "application/json",
            headers(("penstock-rejected" = usize, description = "How many were refused"))),
        (status = 400, description = "Not parseable as a whole", body = Problem,
            content_type = "application/problem+json"),
        (status = 401, description = "No key, or one that is not known", body = Problem,
            content_type = "application/problem+json"),
        (status = 403, description = "The key lacks the scope `write`", body = Problem,
            content_type = "application/problem+json"),
        (status = 408, description = "The body came too slowly", body = Problem,
            content_type = "application/problem+json"),
        (status = 413, description = "The body or the batch is over a limit, which is named",
            body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Content type, charset or encoding not known; the known are named",
            body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "No event was valid, or one was not in a strict request",
            body = Unstored, content_type = "application/problem+json"),
        (status = 429, description = "Over the key's rate: nothing was stored", body = Problem,
            content_type = "application/problem+json",
            headers(("retry-after" = u32, description = "Seconds"))),
        (status = 503, description = "At least one event could not be stored now: retry the request",
            body = Problem, content_type = "application/problem+json",
            headers(("retry-after" = u32, description = "Seconds"))),
    )
)]
pub async fn post_events(
    State(door): State<Arc<Door>>,
    caller: Caller,
    request: Request,
) -> Response {
    let started = Instant::now();
    let payer = (caller.namespace.clone(), caller.name.clone());
    let share = door.budget.share(&payer);
    let response = match door.receive(caller, request, share, started).await {
        Ok(outcome) => outcome.response(|body| door.budget.hold(&payer, body)),
        Err(refusal) => {
            tracing::debug!(
                request_id = request_id::current().unwrap_or_default(),
                status = refusal.status().as_u16(),
                code = refusal.code(),
                "request refused"
            );
            refusal.into_response()
        }
    };
    door.ingest.metrics.answered(response.status(), started.elapsed());
    response
}

impl Door {
    /// A door with nothing in flight.
    pub fn new(ingest: Arc<Ingest>) -> Self {
        let gauge = ingest.metrics.in_flight_bytes.clone();
        let budget = Budget::new(ingest.config.max_in_flight_bytes, gauge);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let large = Arc::new(Semaphore::new(cores));
        Self { ingest, budget, large, reported: AtomicU64::new(0) }
    }

    async fn receive(
        self: &Arc<Self>,
        caller: Caller,
        request: Request,
        mut share: Share,
        started: Instant,
    ) -> Result<Outcome, Refusal> {
        let deadline = started + self.ingest.config.timeout;
        let (parts, mut body) = request.into_parts();
        let head = match self.admit(&caller, &parts.headers, &body, &share) {
            Ok(head) => head,
            Err(refusal) => {
                // Polling the body would tell a client that asked first to go on sending it.
                if !expects_continue(&parts.headers) {
                    Box::pin(discard(&mut body, Allowance::CALLER)).await; // rare
                }
                return Err(refusal);
            }
        };
        let bytes = self.read(&mut body, &mut share, deadline).await?;
        drop(body);
        let posted =
            Posted { caller, head, headers: parts.headers, bytes: bytes.into(), charged: false };
        let decided = Arc::clone(self).decide(posted, share, deadline);
        let request_id = request_id::current().unwrap_or_default();
        finish(request_id::scope(request_id, decided)).await.unwrap_or_else(internal)
    }

    /// From a whole body to the outcome of its events, counted.
    async fn decide(
        self: Arc<Self>,
        posted: Posted,
        share: Share,
        deadline: Instant,
    ) -> Result<Outcome, Refusal> {
        let strict = posted.head.strict;
        let key = posted.caller.name.clone();
        let (checked, share) = self.check(posted, share, deadline).await?;
        let valid = checked.rejected.is_empty() && checked.undecided.is_empty();
        let outcome = if strict && !valid {
            Outcome::withheld(checked)
        } else {
            self.append(checked, strict, share, deadline).await
        };
        self.ingest.metrics.decided(&key, &outcome);
        self.report(&outcome);
        Ok(outcome)
    }

    /// What can be decided before the body is read.
    fn admit(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
        body: &Body,
        share: &Share,
    ) -> Result<Head, Refusal> {
        caller.require(Scope::Write)?;
        let head = Head::read(headers)?;
        let declared = body::declared(body).unwrap_or(0);
        let limit = self.ingest.config.max_body_bytes;
        if declared > limit {
            return Err(Refusal::BodyTooLarge(limit));
        }
        if let Some(limits) = caller.limits() {
            // Its events are not counted yet; what cannot pass in any case is not even read.
            let bytes = if head.codings.is_empty() { declared } else { 0 };
            limits.would_take(1, bytes.max(1))?;
        }
        if !share.has(declared) {
            return Err(Refusal::OverBudget);
        }
        Ok(head)
    }

    async fn read(
        &self,
        body: &mut Body,
        share: &mut Share,
        deadline: Instant,
    ) -> Result<Vec<u8>, Refusal> {
        let config = &self.ingest.config;
        let declared = body::declared(body);
        let read =
            body::read(body, declared, config.max_body_bytes, config.body_idle_timeout, share);
        match timeout_at(deadline, read).await {
            Ok(Ok(bytes)) => {
                self.ingest.metrics.body_bytes.inc_by(bytes.len() as u64);
                Ok(bytes)
            }
            Ok(Err(refusal @ Refusal::Stalled(_))) => Err(refusal),
            Ok(Err(refusal)) => {
                share.shrink(usize::MAX);
                Box::pin(discard(body, Allowance::CALLER)).await; // rare
                Err(refusal)
            }
            Err(_) => Err(Refusal::TooSlow(config.timeout)),
        }
    }

    async fn append(
        &self,
        mut checked: Checked,
        strict: bool,
        share: Share,
        deadline: Instant,
    ) -> Outcome {
        let records = std::mem::take(&mut checked.records);
        let results = match records.is_empty() {
            true => Vec::new(),
            false => self.append_records(records, share, deadline).await,
        };
        Outcome::appended(checked, results, strict)
    }

    /// The one append of a request. What has no answer by the deadline has an unknown fate.
    async fn append_records(
        &self,
        records: Vec<Record>,
        share: Share,
        deadline: Instant,
    ) -> Vec<Result<Appended, AppendError>> {
        let started = Instant::now();
        let log = self.ingest.log.clone();
        let append = finish(async move {
            let results = log.append(topics::RAW, records).await;
            drop(share);
            results
        });
        let results = timeout_at(deadline, append).await;
        self.ingest.metrics.append_seconds.observe(started.elapsed().as_secs_f64());
        let failed = match results {
            Ok(Ok(results)) => {
                if let Some(error) = results.iter().find_map(|result| result.as_ref().err()) {
                    self.report_log(error);
                }
                return results;
            }
            Ok(Err(error)) => format!("the append ended early: {error}"),
            Err(_) => format!("no answer within {:?}", self.ingest.config.timeout),
        };
        self.report_log(&AppendError::Unknown(failed));
        Vec::new()
    }

    /// A log that fails, fails for every request: one line a second is enough.
    fn report_log(&self, error: &AppendError) {
        if self.first_of_this_second() {
            tracing::warn!(
                request_id = request_id::current().unwrap_or_default(),
                %error,
                "an append failed"
            );
        }
    }

    /// Whether no failure was reported in this second yet.
    fn first_of_this_second(&self) -> bool {
        let second = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        self.reported.swap(second, Relaxed) != second
    }

    fn report(&self, outcome: &Outcome) {
        if outcome.status() != StatusCode::ACCEPTED {
            tracing::debug!(
                request_id = request_id::current().unwrap_or_default(),
                status = outcome.status().as_u16(),
                accepted = outcome.accepted,
                rejected = outcome.rejected.len(),
                unavailable = outcome.unavailable.len(),
                withheld = outcome.withheld,
                "not every event was accepted"
            );
        }
    }
}

/// Work of ours that panicked.
fn internal<T>(error: impl Display) -> Result<T, Refusal> {
    tracing::error!(
        request_id = request_id::current().unwrap_or_default(),
        %error,
        "a request could not be processed"
    );
    Err(Refusal::Internal)
}

fn unix_micros() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| i64::try_from(now.as_micros()).unwrap_or(i64::MAX))
}
