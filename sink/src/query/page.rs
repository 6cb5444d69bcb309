//! `/`: a page for people, that says what is here and how to ask for it.
//!
//! Static, with nothing loaded from elsewhere. Its script fetches the types and rollups from this
//! server and writes them as text only, since they are producers' words.

use axum::{
    http::header,
    response::{Html, IntoResponse, Response},
};

const HTML: &str = include_str!("page.html");
/// Only what is in the page itself, and requests to this server.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
    connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A page for people
#[utoipa::path(
    get, path = "/", tag = "about", security(()),
    responses((status = 200, description = "What is here", content_type = "text/html", body = String))
)]
pub(super) async fn page() -> Response {
    let headers =
        [(header::CONTENT_SECURITY_POLICY, POLICY), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (headers, Html(HTML)).into_response()
}
