//! Problem details (RFC 9457): the body of every HTTP error.

use serde::Serialize;

/// Media type of a problem.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// An error as its receiver sees it. `detail` names settings, fields and positions, never values
/// of events or secrets.
#[derive(Clone, Debug, Serialize)]
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
    /// The request it answers.
    pub request_id: String,
    /// Further members, such as `accepted` and `errors`.
    #[serde(flatten)]
    pub more: serde_json::Map<String, serde_json::Value>,
}
