//! Every way a read can fail, as the problem its caller sees. The only place that maps a
//! failure to a status.

use std::time::Duration;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use service::{http::request_id, problem::Problem};

use crate::store::StoreError;

/// Seconds after which a caller is told to try again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// A problem to answer with.
#[derive(Debug)]
pub(super) struct Failure {
    problem: Box<Problem>,
    retry: bool,
}

impl Failure {
    fn new(status: StatusCode, code: &str, title: &str, detail: impl Into<String>) -> Self {
        let retry = status == StatusCode::SERVICE_UNAVAILABLE;
        Self { problem: Box::new(Problem::new(status, code, title, detail)), retry }
    }

    /// The request is wrong; it will be wrong again.
    pub(super) fn bad(code: &str, title: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, title, detail)
    }

    /// One parameter is wrong.
    pub(super) fn parameter(name: &str, detail: impl std::fmt::Display) -> Self {
        Self::bad(
            "invalid_parameter",
            "A parameter cannot be used",
            format!("Parameter `{name}`: {detail}"),
        )
        .with("parameter", name)
    }

    /// A cursor that this query did not make.
    pub(super) fn cursor(detail: &str) -> Self {
        Self::bad("invalid_cursor", "The cursor cannot be used", detail).with("parameter", "cursor")
    }

    /// What was asked for is not there.
    pub(super) fn missing(code: &str, title: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, title, detail)
    }

    /// The caller takes nothing that is made here.
    pub(super) fn not_acceptable() -> Self {
        Self::new(
            StatusCode::NOT_ACCEPTABLE,
            "not_acceptable",
            "Only JSON is served",
            "The `Accept` header leaves out `application/json`, which is all that is served here.",
        )
    }

    /// Not now, although the request is right.
    pub(super) fn later(code: &str, title: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, title, detail)
    }

    /// All slots are taken.
    pub(super) fn busy() -> Self {
        Self::later(
            "busy",
            "Too many queries at once",
            "As many queries run as this server allows at once, or as it allows this key. Try again.",
        )
    }

    /// The deadline passed first.
    pub(super) fn deadline(deadline: Duration) -> Self {
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "deadline",
            "The query took too long",
            format!(
                "There was no answer within {} s. Ask for a shorter range or a longer window.",
                deadline.as_secs_f64()
            ),
        )
    }

    /// What is stored cannot be read back. The reason is for the operator's log.
    pub(super) fn internal(reason: &str) -> Self {
        let request_id = request_id::current();
        tracing::error!(reason, request_id, "a query failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "store_failed",
            "The store cannot be read",
            "The server's log says why. A retry will not help.",
        )
    }

    /// Adds a member to the problem.
    pub(super) fn with(self, member: &str, value: impl Serialize) -> Self {
        Self { problem: Box::new(self.problem.with(member, value)), ..self }
    }

    #[cfg(test)]
    pub(super) fn problem(&self) -> &Problem {
        &self.problem
    }
}

impl From<Problem> for Failure {
    /// What the caller may not do.
    fn from(problem: Problem) -> Self {
        Self { problem: Box::new(problem), retry: false }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Retry(reason) => {
                let request_id = request_id::current();
                tracing::warn!(reason, request_id, "the store cannot answer a query now");
                Self::later(
                    "store_unavailable",
                    "The store cannot answer now",
                    "Nothing is wrong with the request. Try again.",
                )
            }
            StoreError::Fatal(reason) | StoreError::Locked(reason) => Self::internal(&reason),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = self.problem.into_response();
        if self.retry {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        response
    }
}
