//! Problem details (RFC 9457): the body of every HTTP error.
//!
//! Which error becomes which status is decided by the crate that knows the error; this module only
//! writes it down. A problem never carries values of events or secrets: it goes to the client and
//! into logs.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::request_id;

/// Media type of a problem.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// An error as its receiver sees it. `detail` names settings, fields and positions, never values
/// of events or secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// A URI that identifies the kind of problem: `urn:penstock:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in a few words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What went wrong this time and what to do.
    pub detail: String,
    /// A stable word for programs, such as `unknown_parameter`.
    pub code: String,
    /// The request it answers; filled in when the problem becomes a response.
    pub request_id: String,
    /// Further members, such as `accepted` and `errors`.
    #[serde(flatten)]
    #[schema(ignore)]
    pub more: serde_json::Map<String, serde_json::Value>,
}

impl Problem {
    /// A problem of the kind that `code` names.
    pub fn new(status: StatusCode, code: &str, title: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:penstock:problem:{code}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            code: code.to_owned(),
            request_id: String::new(),
            more: serde_json::Map::new(),
        }
    }

    /// Adds a member. One that cannot be written as JSON (a map with keys that are no strings) is
    /// left out: the problem itself matters more.
    #[must_use]
    pub fn with(mut self, member: &str, value: impl Serialize) -> Self {
        if let Ok(value) = serde_json::to_value(value) {
            self.more.insert(member.to_owned(), value);
        }
        self
    }

    /// The same, which names the request that is being answered.
    #[must_use]
    pub fn of_this_request(mut self) -> Self {
        if self.request_id.is_empty() {
            self.request_id = request_id::current().unwrap_or_default();
        }
        self
    }

    /// A response of its status, whose body is it, maybe with more members.
    pub fn response(&self, body: impl Into<Body>) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let content_type = (header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        (status, [content_type], body.into()).into_response()
    }

    /// The body, as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_else(|_| b"{}".to_vec())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let problem = self.of_this_request();
        problem.response(problem.to_json())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_every_member_of_the_contract() {
        let problem = Problem::new(StatusCode::BAD_REQUEST, "bad_json", "Not JSON", "at line 3")
            .with("accepted", 0);
        let json: serde_json::Value = serde_json::from_slice(&problem.to_json()).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "type": "urn:penstock:problem:bad_json", "title": "Not JSON", "status": 400,
                "detail": "at line 3", "code": "bad_json", "request_id": "", "accepted": 0
            })
        );
    }

    #[tokio::test]
    async fn a_problem_answered_within_a_request_names_the_request() {
        let response = request_id::scope("abc".into(), async {
            Problem::new(StatusCode::NOT_FOUND, "x", "X", "x").into_response()
        })
        .await;
        assert_eq!(response.headers()[header::CONTENT_TYPE], PROBLEM_JSON);
        let body = axum::body::to_bytes(response.into_body(), 1000).await.unwrap();
        assert!(String::from_utf8_lossy(&body).contains(r#""request_id":"abc""#));
    }
}
