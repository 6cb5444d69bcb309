//! What a listener answers with, which may come after the listener.
//!
//! A service binds before it opens its log or store, and whoever asks meanwhile is told to come
//! back, in the same words as when the log or the store is gone later: a client has one rule.

use std::sync::{Arc, OnceLock};

use axum::{
    Router,
    extract::Request,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use utoipa_axum::router::OpenApiRouter;

use super::{Allowance, turn_away};
use crate::{openapi, problem::Problem};

/// Routes that are set once; clones share them. Until then every request is answered with 503.
#[derive(Clone, Debug, Default)]
pub struct Routes(Arc<OnceLock<Router>>);

impl Routes {
    /// Opens the door. Routes that were set earlier stay.
    pub fn set(&self, router: Router) {
        let router = router.fallback(not_found).method_not_allowed_fallback(method_not_allowed);
        let _ = self.0.set(router);
    }

    /// The routes, once they are there.
    pub(super) fn router(&self) -> Option<Router> {
        self.0.get().cloned()
    }
}

impl From<Router> for Routes {
    fn from(router: Router) -> Self {
        let routes = Self::default();
        routes.set(router);
        routes
    }
}

/// The routes and what tells of them.
impl From<OpenApiRouter> for Routes {
    fn from(router: OpenApiRouter) -> Self {
        openapi::published(router).into()
    }
}

pub(super) fn starting() -> Response {
    let problem = Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "starting",
        "Starting",
        "the server waits for its log or store: retry later",
    );
    ([(header::RETRY_AFTER, HeaderValue::from_static("1"))], problem).into_response()
}

async fn not_found(request: Request) -> Problem {
    turn_away(request, Allowance::STRANGER).await;
    Problem::new(
        StatusCode::NOT_FOUND,
        "not_found",
        "Not found",
        "there is nothing at this path: see / for what is here",
    )
}

async fn method_not_allowed(request: Request) -> Problem {
    turn_away(request, Allowance::STRANGER).await;
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "Method not allowed",
        "this path does not take this method: the Allow header names those it takes",
    )
}
