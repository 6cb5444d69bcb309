//! `/registry` where schemas are in a registry of another system: it says which, whatever is asked.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    routing::any,
};

use service::http::{Allowance, turn_away};

use super::{Reader, answer::Failure};

/// The routes.
pub(super) fn router(url: &str) -> Router {
    Router::new()
        .route("/registry", any(told))
        .route("/registry/", any(told))
        .route("/registry/{*rest}", any(told))
        .with_state(Arc::<str>::from(url))
}

async fn told(State(url): State<Arc<str>>, _: Reader, request: Request) -> Failure {
    turn_away(request, Allowance::CALLER).await;
    Failure::Elsewhere(url)
}
