//! The schema registry over HTTP: `/registry/...`, as clients of the Confluent Schema Registry speak it.
//!
//! ```text
//! subjects       versions: list, read, register, look up, delete
//! ids            schemas by their ids, as decoders ask for them
//! compatibility  whether a schema could be registered
//! levels, modes  the settings
//! request        paths and bodies
//! query          parameters
//! answer         bodies, and which error gets which status and code
//! document       what the document of the API says of all of them
//! elsewhere      what is said where a registry of another system is used
//! ```
//!
//! Subjects are event types of the caller's namespace, and nothing of another namespace exists to a
//! caller. Reading needs any scope, since whoever writes, reads or governs data needs its schemas; changing
//! needs `admin`. What is judged, and how, is [`schemas::Registry`]'s affair; nothing here knows Avro.
//!
//! What must stay true: an answer that something is not there comes after the log was read to its
//! end, so that one replica does not deny what another has just registered.

mod answer;
mod compatibility;
mod document;
mod elsewhere;
mod ids;
mod levels;
mod modes;
mod query;
mod request;
mod subjects;

use std::{future::Future, sync::Arc, time::Duration};

use axum::{extract::FromRequestParts, http::request::Parts, routing::any};
use schemas::{Lookup, RegisterError, Registry, View};
use service::auth::{Caller, Scope};
use tokio::time::timeout;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::answer::Failure;
use crate::finish::finish;

/// What no route above takes, so that clients of the registry can read why.
const ANYTHING_ELSE: &str = "/registry/{*rest}";
/// How long an answer may take. Longer than a change is tried.
const DEADLINE: Duration = Duration::from_secs(15);

/// The routes: those of our own registry, or one that says whose is used instead.
pub fn router(lookup: impl Into<Lookup>) -> OpenApiRouter {
    match lookup.into() {
        Lookup::Own(registry) => own(registry),
        Lookup::External(external) => elsewhere::router(external.url()).into(),
    }
}

/// The routes with their descriptions, and refusals of everything else under `/registry` in the
/// registry's own words.
fn own(registry: Registry) -> OpenApiRouter {
    let (router, document) = OpenApiRouter::new()
        .routes(routes!(answer::root))
        .routes(routes!(answer::root_slash))
        .routes(routes!(ids::cluster))
        .routes(routes!(ids::version))
        .routes(routes!(ids::types))
        .routes(routes!(ids::schema))
        .routes(routes!(ids::text))
        .routes(routes!(ids::versions))
        .routes(routes!(ids::subjects))
        .routes(routes!(subjects::list))
        .routes(routes!(subjects::look_up, subjects::delete))
        .routes(routes!(subjects::versions, subjects::register))
        .routes(routes!(subjects::version, subjects::delete_version))
        .routes(routes!(subjects::text))
        .routes(routes!(subjects::referenced_by))
        .routes(routes!(compatibility::with_level))
        .routes(routes!(compatibility::with_version))
        .routes(routes!(levels::level, levels::set_level, levels::reset_level))
        .routes(routes!(
            levels::subject_level,
            levels::set_subject_level,
            levels::reset_subject_level
        ))
        .routes(routes!(modes::mode, modes::set_mode))
        .routes(routes!(modes::subject_mode, modes::set_subject_mode, modes::reset_subject_mode))
        .split_for_parts();
    let router = router
        .route(ANYTHING_ELSE, any(answer::no_route))
        .method_not_allowed_fallback(answer::no_method)
        .with_state(Arc::new(Desk { registry }));
    let mut routes = OpenApiRouter::from(router);
    *routes.get_openapi_mut() = document;
    routes
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

    /// Makes a change, to its end also when its client leaves.
    async fn change<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, RegisterError>> + Send + 'static,
    ) -> Result<T, Failure> {
        match timeout(DEADLINE, finish(change)).await {
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
        if !Scope::ALL.into_iter().any(|scope| caller.may(scope)) {
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
