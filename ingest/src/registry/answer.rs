//! Bodies of the registry, and which error gets which status, code and words: those that clients of
//! the Confluent Schema Registry tell apart.
//!
//! This is the only place that decides it. Who calls and what a caller may do is answered as
//! everywhere, by problem details.

use std::sync::Arc;

use axum::{
    extract::Request,
    response::{IntoResponse, Response},
};
use http::{
    HeaderValue, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use schemas::{Denied, RegisterError, RegistryError};
use serde::Serialize;
use service::{
    http::{Allowance, request_id, turn_away},
    problem::Problem,
};
use utoipa::ToSchema;

use super::request::MAX_BODY;

/// The media type of every body here, but of problems.
pub(super) const MEDIA_TYPE_NAME: &str = "application/vnd.schemaregistry.v1+json";
const MEDIA_TYPE: HeaderValue = HeaderValue::from_static(MEDIA_TYPE_NAME);

/// A body of the registry.
pub(super) struct Said<T>(pub T);

/// What a handler answers.
pub(super) type RegistryResult<T> = Result<Said<T>, Failure>;

impl<T: Serialize> IntoResponse for Said<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(json) => ([(CONTENT_TYPE, MEDIA_TYPE)], json).into_response(),
            Err(error) => {
                tracing::error!(%error, "an answer of the schema registry cannot be written");
                Failure::Internal.into_response()
            }
        }
    }
}

/// A refusal in the registry's own words.
#[derive(Serialize, ToSchema)]
#[schema(as = RegistryError, example = json!({ "error_code": 40401, "message": "subject `order.placed` is not known" }))]
pub(super) struct Refused {
    /// What clients of the registry tell refusals apart by.
    error_code: u32,
    /// For people.
    message: String,
}

/// An object without members.
#[derive(Serialize, ToSchema)]
#[schema(as = RegistryRoot)]
pub(super) struct Nothing {}

/// Why there is no such answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// Who calls is not known, or may not.
    Caller(Box<Problem>),
    /// What is there does not allow it.
    Denied(Denied),
    /// No schema of use.
    Invalid(String),
    /// It does not get along with another version.
    Incompatible(String),
    /// Not a version's name.
    InvalidVersion,
    /// Not a level's name, or a setting that does not exist here.
    InvalidLevel(String),
    /// Not a mode's name.
    InvalidMode(String),
    /// Not a subject's name.
    InvalidSubject,
    /// Never allowed.
    NotPermitted(String),
    /// Parameters or paths that make no sense.
    BadRequest(String),
    /// JSON of another shape.
    Unprocessable(String),
    /// Not JSON.
    Malformed(String),
    /// A body beyond its limit.
    TooLarge,
    /// A body of another kind.
    MediaType,
    /// A body that is compressed.
    Encoding,
    /// The registry cannot answer now. Why is for those who run it: it may tell of their disks and brokers.
    Unavailable,
    /// Not within the deadline.
    Late,
    /// A defect.
    Internal,
    /// Schemas are in another registry, at this address.
    Elsewhere(Arc<str>),
    /// There is nothing at this path.
    NoRoute,
    /// Something, but not with this method.
    NoMethod,
}

impl Failure {
    /// Status, the registry's code, and words.
    fn kind(&self) -> (StatusCode, u32, String) {
        use StatusCode as S;
        let unprocessable = S::UNPROCESSABLE_ENTITY;
        match self {
            Self::Caller(problem) => {
                let status = S::from_u16(problem.status).unwrap_or(S::INTERNAL_SERVER_ERROR);
                (status, u32::from(problem.status), problem.detail.clone())
            }
            Self::Denied(denied) => {
                let (status, code) = match denied {
                    Denied::SubjectNotFound(_) => (S::NOT_FOUND, 40401),
                    Denied::VersionNotFound(_) => (S::NOT_FOUND, 40402),
                    Denied::SchemaNotFound => (S::NOT_FOUND, 40403),
                    Denied::SubjectDeleted(_) => (S::NOT_FOUND, 40404),
                    Denied::SubjectNotDeleted(_) => (S::NOT_FOUND, 40405),
                    Denied::VersionDeleted(..) => (S::NOT_FOUND, 40406),
                    Denied::VersionNotDeleted(..) => (S::NOT_FOUND, 40407),
                    Denied::NoLevel(_) => (S::NOT_FOUND, 40408),
                    Denied::NoMode(_) => (S::NOT_FOUND, 40409),
                    Denied::ReadOnly(_) => (unprocessable, 42205),
                    Denied::Referenced(..) => (unprocessable, 42206),
                };
                (status, code, denied.to_string())
            }
            Self::Invalid(why) => (unprocessable, 42201, why.clone()),
            Self::Incompatible(why) => (S::CONFLICT, 409, why.clone()),
            Self::InvalidVersion => (
                unprocessable,
                42202,
                "a version is a number from 1 to 2147483647, `latest` or `-1`".into(),
            ),
            Self::InvalidLevel(why) => (unprocessable, 42203, why.clone()),
            Self::InvalidMode(why) => (unprocessable, 42204, why.clone()),
            Self::NotPermitted(why) => (unprocessable, 42205, why.clone()),
            Self::InvalidSubject => (
                unprocessable,
                42208,
                "a subject has 1 to 1024 bytes and no control characters".into(),
            ),
            Self::BadRequest(why) | Self::Malformed(why) => (S::BAD_REQUEST, 400, why.clone()),
            Self::Unprocessable(why) => (unprocessable, 422, why.clone()),
            Self::TooLarge => {
                (S::PAYLOAD_TOO_LARGE, 413, format!("the body has more than {MAX_BODY} bytes"))
            }
            Self::MediaType => (
                S::UNSUPPORTED_MEDIA_TYPE,
                415,
                "the content type is not known: send application/vnd.schemaregistry.v1+json".into(),
            ),
            Self::Encoding => (
                S::UNSUPPORTED_MEDIA_TYPE,
                415,
                "a Content-Encoding is not undone here: send the schema as it is".into(),
            ),
            Self::Unavailable => (
                S::SERVICE_UNAVAILABLE,
                50001,
                "the registry cannot be read or written now: retry later; the log of the server \
                 says why"
                    .into(),
            ),
            Self::Late => {
                (S::SERVICE_UNAVAILABLE, 50002, "not within the deadline: retry later".into())
            }
            Self::Internal => (
                S::INTERNAL_SERVER_ERROR,
                500,
                "the server has a defect: its log says more under this request id".into(),
            ),
            Self::Elsewhere(url) => (
                S::NOT_IMPLEMENTED,
                501,
                format!("the schemas of this Penstock are in another registry: ask {url}"),
            ),
            Self::NoRoute => (S::NOT_FOUND, 404, "the registry has nothing at this path".into()),
            Self::NoMethod => {
                (S::METHOD_NOT_ALLOWED, 405, "this path does not take this method".into())
            }
        }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Caller(Box::new(problem))
    }
}

impl From<Denied> for Failure {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        tracing::warn!(
            request_id = request_id::current().unwrap_or_default(),
            %error,
            "the registry could not answer"
        );
        Self::Unavailable
    }
}

impl From<RegisterError> for Failure {
    fn from(error: RegisterError) -> Self {
        match error {
            RegisterError::Denied(denied) => Self::Denied(denied),
            RegisterError::Registry(error) => error.into(),
            RegisterError::Invalid(_) => Self::Invalid(error.to_string()),
            RegisterError::Incompatible { .. } => Self::Incompatible(error.to_string()),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, error_code, message) = self.kind();
        tracing::debug!(
            request_id = request_id::current().unwrap_or_default(),
            status = status.as_u16(),
            error_code,
            "the schema registry refused"
        );
        if let Self::Caller(problem) = self {
            return (*problem).into_response();
        }
        let mut response = (status, Said(Refused { error_code, message })).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// That there is a registry
#[utoipa::path(
    get, path = "/registry", tag = "schemas", operation_id = "registry",
    responses((status = 200, description = "It is here", body = Nothing, content_type = MEDIA_TYPE_NAME))
)]
pub(super) async fn root() -> Said<Nothing> {
    Said(Nothing {})
}

/// That there is a registry, as clients ask that add a slash to its address
#[utoipa::path(
    get, path = "/registry/", tag = "schemas", operation_id = "registry_slash",
    responses((status = 200, description = "It is here", body = Nothing, content_type = MEDIA_TYPE_NAME))
)]
pub(super) async fn root_slash() -> Said<Nothing> {
    Said(Nothing {})
}

pub(super) async fn no_route(request: Request) -> Failure {
    refuse(request, Failure::NoRoute).await
}

pub(super) async fn no_method(request: Request) -> Failure {
    refuse(request, Failure::NoMethod).await
}

async fn refuse(request: Request, failure: Failure) -> Failure {
    turn_away(request, Allowance::CALLER).await;
    failure
}
