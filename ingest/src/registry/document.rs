//! What the document of the API says of more than one route: refusals.
//!
//! Statuses that only some routes answer with, and what they mean there, stand beside the handlers.

use std::collections::BTreeMap;

use http::StatusCode;
use service::problem::{PROBLEM_JSON, Problem};
use utoipa::{
    IntoResponses, ToSchema,
    openapi::{
        ContentBuilder, HeaderBuilder, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder, Type,
    },
};

use super::answer::{MEDIA_TYPE_NAME, Refused};

/// Why any route of the registry may not answer.
pub(super) struct Always;

impl IntoResponses for Always {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let later = "`50001`, `50002`: the log cannot answer now, or not in time. Or a problem: not now, \
                     although the request is right";
        let seconds = HeaderBuilder::new()
            .schema(Some(ObjectBuilder::new().schema_type(Type::Integer)))
            .description(Some("Seconds"));
        BTreeMap::from([
            refused(
                StatusCode::BAD_REQUEST,
                refusal("`400`: a parameter, the path or the body cannot be read"),
            ),
            refused(
                StatusCode::INTERNAL_SERVER_ERROR,
                or_problem("`500`, or a problem: the server made a mistake"),
            ),
            refused(
                StatusCode::SERVICE_UNAVAILABLE,
                or_problem(later).header("retry-after", seconds.build()),
            ),
        ])
    }
}

/// Why a body may not be taken, whatever is in it.
pub(super) struct Unread;

impl IntoResponses for Unread {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        BTreeMap::from([
            refused(
                StatusCode::PAYLOAD_TOO_LARGE,
                refusal("`413`: the body has more than 512 KiB"),
            ),
            refused(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                refusal("`415`: the body is not said to be JSON"),
            ),
        ])
    }
}

fn refused(status: StatusCode, response: ResponseBuilder) -> (String, RefOr<Response>) {
    (status.as_str().to_owned(), RefOr::T(response.build()))
}

/// The registry's own words.
fn refusal(description: &str) -> ResponseBuilder {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(Refused::name())));
    ResponseBuilder::new().description(description).content(MEDIA_TYPE_NAME, content.build())
}

/// The registry's own words, or the listener's.
fn or_problem(description: &str) -> ResponseBuilder {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(Problem::name())));
    refusal(description).content(PROBLEM_JSON, content.build())
}
