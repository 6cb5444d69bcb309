//! Why a whole request was refused: nothing of it was stored.
//!
//! This is the only place that gives such an error its status, code and words. Faults of single
//! events are not here; see [`crate::check`] and [`crate::answer`].

use axum::response::{IntoResponse, Response};
use http::{
    HeaderValue, StatusCode,
    header::{ACCEPT, ACCEPT_ENCODING, RETRY_AFTER},
};
use serde::Serialize;
use service::{auth::OverLimit, problem::Problem};

use crate::{
    budget::Spent,
    form::{CONTENT_TYPES, ENCODINGS, MAX_KEY_BYTES},
};

/// Where a body stops making sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Position {
    /// From 1.
    pub line: usize,
    /// In bytes, from 1.
    pub column: usize,
    /// From 0, in the decompressed body.
    pub byte: usize,
}

/// Why a request was refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A caller without the scope.
    #[error("{}", .0.detail)]
    Forbidden(Box<Problem>),
    /// More than the caller's key may post.
    #[error(transparent)]
    OverLimit(OverLimit),
    /// No content type.
    #[error("the request has no Content-Type; known are {}", CONTENT_TYPES.join(", "))]
    MissingContentType,
    /// A content type that is none of ours.
    #[error(
        "the content type {0:?} is not known; known are {known}, and any other one in binary mode, with \
         the attributes of the event in headers: ce-specversion, ce-id, ce-source, ce-type",
        known = CONTENT_TYPES.join(", ")
    )]
    UnknownContentType(String),
    /// A character set other than UTF-8.
    #[error("the charset {0:?} is not known; events are UTF-8")]
    UnknownCharset(String),
    /// A content encoding that is none of ours.
    #[error("the content encoding {0:?} is not known; known are {known}", known = ENCODINGS.join(", "))]
    UnknownEncoding(String),
    /// More content encodings than anybody needs.
    #[error("the body is encoded more than {0} times")]
    TooManyEncodings(usize),
    /// An `Idempotency-Key` that cannot be one.
    #[error("Idempotency-Key is given once, with 1 to {MAX_KEY_BYTES} visible characters")]
    IdempotencyKey,
    /// Not JSON.
    #[error("the body is not JSON: {what} at line {}, column {} (byte {})", at.line, at.column, at.byte)]
    Malformed {
        /// What the parser says; never a part of the body.
        what: String,
        /// Where.
        at: Position,
    },
    /// JSON, but not an array where one is due.
    #[error("a batch is a JSON array of events; send a single event as {}", CONTENT_TYPES[0])]
    NotAnArray,
    /// A compressed stream ends too early.
    #[error(
        "the body ({codings}) is incomplete: it ends at byte {at}, before the end of its encoding"
    )]
    EncodingTruncated {
        /// The encodings of the body.
        codings: String,
        /// Its length as sent.
        at: usize,
    },
    /// Not what its encoding says, or damaged.
    #[error("the body is not {codings} or is damaged, after {after} decoded bytes")]
    EncodingDamaged {
        /// The encodings of the body.
        codings: String,
        /// How much of it could be decoded.
        after: usize,
    },
    /// The connection ended or broke before the body did.
    #[error("the body ended before its announced length, or its framing is broken")]
    BodyCutShort,
    /// The body as sent is too large.
    #[error("the body is larger than max_body_bytes, {0} bytes; send smaller batches")]
    BodyTooLarge(usize),
    /// The body is too large once decompressed.
    #[error(
        "the decompressed body is larger than max_decompressed_bytes, {0} bytes; send smaller batches"
    )]
    DecompressedTooLarge(usize),
    /// Too many events.
    #[error("the request has more events than max_batch_events, {0}; send smaller batches")]
    TooManyEvents(usize),
    /// The byte budget of all requests is spent, or the key's part of it.
    #[error("too many bytes are in flight now; retry the whole request")]
    OverBudget,
    /// The body did not arrive in time.
    #[error(
        "the body did not arrive within the timeout of the request, {0:?}; retry the whole request"
    )]
    TooSlow(std::time::Duration),
    /// Nothing of the body arrived for a while.
    #[error("nothing of the body arrived for body_idle_timeout, {0:?}; retry the whole request")]
    Stalled(std::time::Duration),
    /// A bug of ours.
    #[error("the request could not be processed; the log of the server says why")]
    Internal,
}

/// When to retry a request that met a spent budget: it is spent for moments only.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

impl From<Spent> for Refusal {
    fn from(Spent: Spent) -> Self {
        Self::OverBudget
    }
}

impl From<OverLimit> for Refusal {
    fn from(over: OverLimit) -> Self {
        Self::OverLimit(over)
    }
}

impl From<Problem> for Refusal {
    fn from(lacks_scope: Problem) -> Self {
        Self::Forbidden(Box::new(lacks_scope))
    }
}

impl Refusal {
    /// Status, code and title.
    fn kind(&self) -> (StatusCode, &'static str, &'static str) {
        use Refusal as R;
        match self {
            R::Forbidden(_) => (StatusCode::FORBIDDEN, "forbidden", "Forbidden"),
            R::OverLimit(OverLimit::Rate { .. }) => {
                (StatusCode::TOO_MANY_REQUESTS, "rate_limited", "The key posts too much")
            }
            R::OverLimit(OverLimit::Burst { .. }) => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "larger_than_burst",
                "The request is larger than the key may send at once",
            ),
            R::MissingContentType | R::UnknownContentType(_) => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unknown_content_type",
                "The content type is not known",
            ),
            R::UnknownCharset(_) => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unknown_charset",
                "The character set is not known",
            ),
            R::UnknownEncoding(_) | R::TooManyEncodings(_) => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unknown_encoding",
                "The content encoding is not known",
            ),
            R::Malformed { .. } => {
                (StatusCode::BAD_REQUEST, "malformed_json", "The body is not JSON")
            }
            R::NotAnArray => (StatusCode::BAD_REQUEST, "not_an_array", "The batch is not an array"),
            R::EncodingTruncated { .. } | R::EncodingDamaged { .. } => {
                (StatusCode::BAD_REQUEST, "malformed_encoding", "The body cannot be decompressed")
            }
            R::IdempotencyKey => (
                StatusCode::BAD_REQUEST,
                "invalid_idempotency_key",
                "The Idempotency-Key cannot be used",
            ),
            R::BodyCutShort => {
                (StatusCode::BAD_REQUEST, "incomplete_body", "The body is incomplete")
            }
            R::BodyTooLarge(_) => {
                (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "The body is too large")
            }
            R::DecompressedTooLarge(_) => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "decompressed_body_too_large",
                "The decompressed body is too large",
            ),
            R::TooManyEvents(_) => {
                (StatusCode::PAYLOAD_TOO_LARGE, "too_many_events", "The batch has too many events")
            }
            R::OverBudget => {
                (StatusCode::SERVICE_UNAVAILABLE, "overloaded", "Too much is in flight")
            }
            R::TooSlow(_) | R::Stalled(_) => {
                (StatusCode::REQUEST_TIMEOUT, "slow_body", "The body came too slowly")
            }
            R::Internal => {
                (StatusCode::INTERNAL_SERVER_ERROR, "internal", "The server has a defect")
            }
        }
    }

    /// The status it is answered with.
    pub fn status(&self) -> StatusCode {
        self.kind().0
    }

    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        self.kind().1
    }

    fn limit(&self) -> Option<(&'static str, usize)> {
        let whole = |limit: &u64| usize::try_from(*limit).unwrap_or(usize::MAX);
        match self {
            Self::OverLimit(OverLimit::Rate { unit, per_second, .. }) => {
                Some((unit, whole(per_second)))
            }
            Self::OverLimit(OverLimit::Burst { unit, burst, .. }) => Some((unit, whole(burst))),
            Self::BodyTooLarge(limit) => Some(("max_body_bytes", *limit)),
            Self::DecompressedTooLarge(limit) => Some(("max_decompressed_bytes", *limit)),
            Self::TooManyEvents(limit) => Some(("max_batch_events", *limit)),
            _ => None,
        }
    }

    fn problem(&self) -> Problem {
        let (status, code, title) = self.kind();
        let problem = Problem::new(status, code, title, self.to_string());
        let problem = match self {
            Self::Forbidden(problem) => return *problem.clone(),
            Self::Malformed { at, .. } => problem.with("position", at),
            Self::EncodingTruncated { at, .. } => {
                problem.with("position", serde_json::json!({ "byte": at }))
            }
            _ => problem,
        };
        let problem = match self.limit() {
            Some((name, value)) => problem.with("limit", name).with("limit_value", value),
            None => problem,
        };
        let problem = match status {
            StatusCode::UNSUPPORTED_MEDIA_TYPE => problem.with(
                "known",
                match code {
                    "unknown_encoding" => &ENCODINGS[..],
                    "unknown_charset" => &["utf-8"],
                    _ => &CONTENT_TYPES[..],
                },
            ),
            _ => problem,
        };
        match status {
            // A client reads the same members of every answer that asks for a retry.
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => problem
                .with("accepted", 0)
                .with("rejected", 0)
                .with("errors", serde_json::Value::Array(Vec::new())),
            _ => problem,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = self.problem().into_response();
        let (name, value) = match self {
            Self::UnknownEncoding(_) | Self::TooManyEncodings(_) => {
                (ACCEPT_ENCODING, ENCODINGS.join(", ").parse())
            }
            _ if self.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                (ACCEPT, CONTENT_TYPES.join(", ").parse())
            }
            _ if self.status() == StatusCode::SERVICE_UNAVAILABLE => {
                (RETRY_AFTER, Ok(RETRY_AFTER_SECONDS))
            }
            // In whole seconds (RFC 9110, 10.2.3), so never too early.
            Self::OverLimit(OverLimit::Rate { wait, .. }) => {
                (RETRY_AFTER, Ok(HeaderValue::from(wait.as_secs() + 1)))
            }
            _ => return response,
        };
        if let Ok(value) = value {
            response.headers_mut().insert(name, value);
        }
        response
    }
}
