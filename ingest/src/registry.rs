//! The schema registry over HTTP: `/registry/...`, as clients of the Confluent Schema Registry speak it.
//!
//! ```text
//! subjects       versions: list, read, register, look up, delete
//! ids            schemas by their ids, as decoders ask for them
//! compatibility  whether a schema could be registered
//! settings       compatibility levels and modes
//! query          the parameters of all of them
//! answer         bodies, and which error gets which status and code
//! ```
//!
//! Subjects are event types of the caller's namespace, and nothing of another namespace exists to a
//! caller. Reading needs the scope `read` or `write`, since producers need schemas as well; writing
//! needs `admin`. What is judged, and how, is [`schemas::Registry`]'s affair; nothing here knows Avro.
//!
//! What must stay true: an answer that something is not there comes after the log was read to its
//! end, so that one replica does not deny what another has just registered.

mod answer;
mod compatibility;
mod ids;
mod query;
mod settings;
mod subjects;

use std::{future::Future, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::FromRequestParts,
    http::request::Parts,
    routing::{get, post},
};
use http_body_util::{BodyExt, Limited};
use schemas::{Draft, Reference, RegisterError, Registry, View};
use serde::{Deserialize, de::DeserializeOwned};
use service::auth::{Caller, Scope};
use tokio::time::timeout;

use self::answer::Failure;
use crate::body;

/// Bytes of a body at most: a schema becomes one record, and logs take a megabyte.
const MAX_BODY: usize = 512 * 1024;
/// How long an answer may take. Longer than a change is tried.
const DEADLINE: Duration = Duration::from_secs(15);

/// The routes.
pub fn router(registry: Registry) -> Router {
    Router::new()
        .route("/registry", get(answer::nothing))
        .route("/registry/", get(answer::nothing))
        .route("/registry/v1/metadata/id", get(ids::cluster))
        .route("/registry/v1/metadata/version", get(ids::version))
        .route("/registry/schemas/types", get(ids::types))
        .route("/registry/schemas/ids/{id}", get(ids::schema))
        .route("/registry/schemas/ids/{id}/schema", get(ids::text))
        .route("/registry/schemas/ids/{id}/versions", get(ids::versions))
        .route("/registry/schemas/ids/{id}/subjects", get(ids::subjects))
        .route("/registry/subjects", get(subjects::list))
        .route("/registry/subjects/{subject}", post(subjects::look_up).delete(subjects::delete))
        .route(
            "/registry/subjects/{subject}/versions",
            get(subjects::versions).post(subjects::register),
        )
        .route(
            "/registry/subjects/{subject}/versions/{version}",
            get(subjects::version).delete(subjects::delete_version),
        )
        .route("/registry/subjects/{subject}/versions/{version}/schema", get(subjects::text))
        .route(
            "/registry/subjects/{subject}/versions/{version}/referencedby",
            get(subjects::referenced_by),
        )
        .route(
            "/registry/compatibility/subjects/{subject}/versions",
            post(compatibility::with_level),
        )
        .route(
            "/registry/compatibility/subjects/{subject}/versions/{version}",
            post(compatibility::with_version),
        )
        .route(
            "/registry/config",
            get(settings::level).put(settings::set_level).delete(settings::reset_level),
        )
        .route(
            "/registry/config/{subject}",
            get(settings::subject_level)
                .put(settings::set_subject_level)
                .delete(settings::reset_subject_level),
        )
        .route("/registry/mode", get(settings::mode).put(settings::set_mode))
        .route(
            "/registry/mode/{subject}",
            get(settings::subject_mode)
                .put(settings::set_subject_mode)
                .delete(settings::reset_subject_mode),
        )
        .route("/registry/{*rest}", axum::routing::any(answer::no_route))
        .method_not_allowed_fallback(answer::no_method)
        .with_state(Arc::new(Desk { registry }))
}

/// What handlers share.
struct Desk {
    registry: Registry,
}

impl Desk {
    /// What the caller's namespace holds, read to the log's end.
    async fn look(&self, caller: &Reader) -> Result<View, Failure> {
        match timeout(DEADLINE, self.registry.refresh()).await {
            Ok(read) => read?,
            Err(_) => return Err(Failure::Late),
        }
        Ok(self.registry.view(&caller.0.namespace))
    }

    /// The same, but what is known already is enough when `found` finds it there: decoders
    /// go on while the log is away.
    async fn look_for<T, E>(
        &self,
        caller: &Reader,
        found: impl Fn(&View) -> Result<T, E>,
    ) -> Result<T, Failure>
    where
        Failure: From<E>,
    {
        match found(&self.registry.view(&caller.0.namespace)) {
            Ok(it) => Ok(it),
            Err(_) => Ok(found(&self.look(caller).await?)?),
        }
    }

    /// Makes a change in a task of its own: a client that leaves does not leave it half-made.
    async fn change<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, RegisterError>> + Send + 'static,
    ) -> Result<T, Failure> {
        match timeout(DEADLINE, tokio::spawn(change)).await {
            Ok(Ok(done)) => Ok(done?),
            Ok(Err(error)) => {
                tracing::error!(%error, "a change of the schema registry could not be processed");
                Err(Failure::Internal)
            }
            Err(_) => Err(Failure::Late),
        }
    }
}

/// A caller that may read schemas.
struct Reader(Caller);

impl<S: Sync> FromRequestParts<S> for Reader {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let caller = Caller::from_request_parts(parts, state).await?;
        if !caller.may(Scope::Write) {
            caller.require(Scope::Read)?;
        }
        Ok(Self(caller))
    }
}

/// A caller that may change schemas.
struct Admin(Caller);

impl<S: Sync> FromRequestParts<S> for Admin {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let caller = Caller::from_request_parts(parts, state).await?;
        caller.require(Scope::Admin)?;
        Ok(Self(caller))
    }
}

/// A schema as clients send it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sent {
    schema: Option<String>,
    schema_type: Option<String>,
    #[serde(default)]
    references: Option<Vec<Reference>>,
    id: Option<i64>,
    version: Option<i64>,
    metadata: Option<serde_json::Value>,
    rule_set: Option<serde_json::Value>,
}

impl Sent {
    /// The schema and its references, if it is one that can be taken.
    fn accept(self) -> Result<(String, Vec<Reference>), Failure> {
        let kind = self.schema_type.as_deref().unwrap_or("AVRO");
        if !kind.is_empty() && kind != "AVRO" {
            let why = "the schemaType must be AVRO: events are encoded as Avro";
            return Err(Failure::Invalid(why.into()));
        }
        // clients send 0 and -1 for "none"
        if self.id.is_some_and(|id| id > 0) || self.version.is_some_and(|version| version > 0) {
            return Err(Failure::NotPermitted(
                "an id or version of one's own needs the mode IMPORT, which does not exist here"
                    .into(),
            ));
        }
        if self.metadata.is_some() || self.rule_set.is_some() {
            return Err(Failure::Invalid(
                "metadata and ruleSet are not kept: leave them out".into(),
            ));
        }
        match self.schema.filter(|schema| !schema.trim().is_empty()) {
            Some(schema) => Ok((schema, self.references.unwrap_or_default())),
            None => Err(Failure::Invalid("the member `schema` is missing or empty".into())),
        }
    }
}

fn draft<'d>((text, references): &'d (String, Vec<Reference>), normalize: bool) -> Draft<'d> {
    Draft { text, references, normalize }
}

/// A JSON body, within its limit and deadline.
struct Json<T>(T);

impl<T: DeserializeOwned, S: Sync> axum::extract::FromRequest<S> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: axum::extract::Request, _: &S) -> Result<Self, Failure> {
        let (parts, mut body) = request.into_parts();
        let given = parts.headers.get(http::header::CONTENT_TYPE);
        if !given.is_none_or(|value| value.to_str().is_ok_and(is_json)) {
            body::discard(&mut body).await;
            return Err(Failure::MediaType);
        }
        if body::declared(&body).is_some_and(|bytes| bytes > MAX_BODY) {
            body::discard(&mut body).await;
            return Err(Failure::TooLarge);
        }
        let read = Limited::new(&mut body, MAX_BODY).collect();
        let bytes = match timeout(DEADLINE, read).await {
            Ok(Ok(read)) => read.to_bytes(),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                body::discard(&mut body).await;
                return Err(Failure::TooLarge);
            }
            Ok(Err(_)) => return Err(Failure::Malformed("the body is cut short".into())),
            Err(_) => return Err(Failure::Late),
        };
        serde_json::from_slice(&bytes).map(Self).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => Failure::Unprocessable(error.to_string()),
            _ => Failure::Malformed(format!("the body is not JSON: {error}")),
        })
    }
}

/// Whether a content type is one of those that the registry's clients send.
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json"
        || essence == "application/octet-stream"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// A subject of a path: an event type.
fn subject(name: &str) -> Result<&str, Failure> {
    let good = !name.is_empty() && name.len() <= 1024 && !name.chars().any(char::is_control);
    if good { Ok(name) } else { Err(Failure::InvalidSubject) }
}

fn version(name: &str) -> Result<schemas::VersionName, Failure> {
    schemas::VersionName::parse(name).ok_or(Failure::InvalidVersion)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_of_registry_clients_are_known() {
        for good in [
            "application/json",
            "application/vnd.schemaregistry.v1+json",
            "application/vnd.schemaregistry+json; charset=utf-8",
        ] {
            assert!(is_json(good), "{good}");
        }
        assert!(!is_json("text/plain") && !is_json("application/xml"));
    }
}
