//! The document of an HTTP API, and the page to read and try it: `/openapi.json` and `/docs`.
//!
//! Routes bring their own descriptions, beside their handlers; this module adds what is true of every
//! route, since the listener answers so whatever the route: the problems of `http`, the id of a
//! request, and how callers prove who they are. A listener publishes what it serves, nothing else.

use std::sync::{Arc, OnceLock};

use axum::{
    Extension, Router,
    extract::State,
    response::{Html, IntoResponse, Response},
};
use bytes::Bytes;
use http::header;
use utoipa::{
    OpenApi, ToSchema,
    openapi::{
        self, Content, HeaderBuilder, ObjectBuilder, Ref, RefOr, ResponseBuilder, Type,
        path::Operation,
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    auth::Caller,
    http::request_id,
    problem::{PROBLEM_JSON, Problem},
};

const PAGE: &str = include_str!("openapi/docs.html");
/// Only what is in the page itself, and requests to this server.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
    connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What the listener itself may answer on any route.
const ANYWHERE: [(&str, &str); 5] = [
    ("401", "No key or token, or one that is not known."),
    (
        "403",
        "The `Host` is not a loopback name, where there are no keys; or the key lacks the scope.",
    ),
    ("431", "The head of the request is too large. The body is empty."),
    ("500", "The server made a mistake; its log has more under the request's id."),
    ("503", "Not now, although the request is right: retry after `Retry-After` seconds."),
];

/// Schemes of authentication, by their names in the document.
const SCHEMES: [(&str, HttpAuthScheme, &str); 2] = [
    ("key", HttpAuthScheme::Bearer, "An API key as bearer token."),
    ("password", HttpAuthScheme::Basic, "An API key as the password; the user is ignored."),
];

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Penstock",
        description = "An event pipeline: events are posted, stored and read back. \
            Errors are problem details (RFC 9457).",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(Problem))
)]
struct Document;

/// The document as JSON.
struct Texts {
    /// For a listener that lets anybody in.
    open: Bytes,
    /// For one with keys.
    closed: Bytes,
}

/// The routes with `/openapi.json` and `/docs`, which tell of all of them.
pub fn published(router: OpenApiRouter) -> Router {
    let texts = Arc::new(OnceLock::new());
    let own = OpenApiRouter::new().routes(routes!(document)).routes(routes!(page));
    let routes = router.merge(own.with_state(texts.clone()));
    let (router, described) = routes.split_for_parts();
    let mut document = Document::openapi();
    env!("CARGO_PKG_VERSION").clone_into(&mut document.info.version);
    document.merge(described);
    let [open, closed] = [true, false].map(|anybody| {
        let mut document = document.clone();
        complete(&mut document, anybody);
        // A document is made of texts and maps of them, which always are JSON.
        Bytes::from(document.to_json().unwrap_or_default())
    });
    let _ = texts.set(Texts { open, closed });
    router
}

/// Adds what is true of every route, on a listener for anybody or for who has a key.
fn complete(document: &mut openapi::OpenApi, anybody: bool) {
    let components = document.components.get_or_insert_default();
    for (name, scheme, description) in SCHEMES {
        let scheme = HttpBuilder::new().scheme(scheme).description(Some(description)).build();
        components.add_security_scheme(name, SecurityScheme::Http(scheme));
    }
    for path in document.paths.paths.values_mut() {
        let operations = [&mut path.get, &mut path.put, &mut path.post, &mut path.delete];
        for operation in operations.into_iter().flatten() {
            complete_operation(operation, anybody);
        }
    }
}

fn complete_operation(operation: &mut Operation, anybody: bool) {
    let nothing = anybody.then(SecurityRequirement::default);
    let schemes = SCHEMES.map(|(name, ..)| SecurityRequirement::new(name, [] as [&str; 0]));
    // Those of pages that say themselves that they are for anybody.
    let open = operation.security.is_some();
    operation.security.get_or_insert_with(|| nothing.into_iter().chain(schemes).collect());
    let answers = &mut operation.responses.responses;
    for (status, description) in ANYWHERE.iter().filter(|(status, _)| !open || *status != "401") {
        answers.entry((*status).to_owned()).or_insert_with(|| {
            let answer = ResponseBuilder::new().description(*description);
            match *status {
                "431" => answer.build().into(),
                _ => answer.content(PROBLEM_JSON, problem()).build().into(),
            }
        });
    }
    let id = HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .description(Some("The id of the request, which is in the server's log too."))
        .build();
    for (status, answer) in answers.iter_mut() {
        if let RefOr::T(answer) = answer
            && status != "431"
        {
            answer.headers.insert(request_id::HEADER.to_string(), RefOr::T(id.clone()));
        }
    }
}

fn problem() -> Content {
    Content::new(Some(Ref::from_schema_name(Problem::name())))
}

/// This document
///
/// Where there are keys it says that one is needed.
#[utoipa::path(
    get, path = "/openapi.json", tag = "about", operation_id = "openapi", security(()),
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json",
        body = serde_json::Value))
)]
async fn document(
    State(texts): State<Arc<OnceLock<Texts>>>,
    caller: Option<Extension<Caller>>,
) -> Response {
    let anybody = caller.is_some_and(|Extension(caller)| caller == Caller::anyone());
    let text = texts.get().map(|texts| if anybody { &texts.open } else { &texts.closed });
    let json = [(header::CONTENT_TYPE, "application/json")];
    (json, text.cloned().unwrap_or_default()).into_response()
}

/// A page to read and try this API.
#[utoipa::path(
    get, path = "/docs", tag = "about", operation_id = "docs", security(()),
    responses((status = 200, description = "For people", content_type = "text/html", body = String))
)]
async fn page() -> Response {
    let headers =
        [(header::CONTENT_SECURITY_POLICY, POLICY), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (headers, Html(PAGE)).into_response()
}
