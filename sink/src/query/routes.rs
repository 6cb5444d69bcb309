//! The routes that read, and their descriptions.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, Uri},
    response::Response,
};
use schemas::shapes::CloudEvent;
use service::{auth::Caller, problem::Problem};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Query, Route, answer,
    page::{__path_page, page},
    shapes::{EventPage, RollupList, RollupPage, TypePage},
};

/// The routes under `/v1` that read, and the page at `/`. It has no fallbacks, so that it can be
/// merged with routers that answer other methods of the same paths; `service::http` adds them.
pub fn router(query: Arc<Query>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(page))
        .routes(routes!(events))
        .routes(routes!(event))
        .routes(routes!(types))
        .routes(routes!(rollups))
        .routes(routes!(rollup))
        .with_state(query)
}

/// List events
///
/// By `type` or by `subject`, one of which is needed.
#[utoipa::path(
    get, path = "/v1/events", tag = "reading",
    params(
        ("type" = Option<String>, Query, description = "Events of this type", example = "order.placed",
            min_length = 1, nullable = false),
        ("subject" = Option<String>, Query, description = "Events of this subject", min_length = 1, nullable = false),
        ("source" = Option<String>, Query, description = "Only those of this source", min_length = 1, nullable = false),
        ("from" = Option<String>, Query, description = "Inclusive; RFC 3339, or relative as `now-1h`",
            example = "now-1h", min_length = 1, nullable = false),
        ("to" = Option<String>, Query, description = "Exclusive", example = "now", min_length = 1, nullable = false),
        ("order" = Option<String>, Query, description = "`desc` (newest first, the default) or `asc`",
            pattern = "^(desc|asc)$", nullable = false),
        ("limit" = Option<u32>, Query, description = "1 to 1000, by default 100",
            minimum = 1, maximum = 1000, nullable = false),
        ("cursor" = Option<String>, Query, description = "`next` of the page before", min_length = 1, nullable = false),
    ),
    responses(
        (status = 200, description = "List events", body = EventPage, content_type = "application/json"),
        (status = 400, description = "A parameter is unknown, missing or wrong", body = Problem,
            content_type = "application/problem+json"),
        (status = 406, description = "`Accept` leaves out JSON", body = Problem,
            content_type = "application/problem+json"),
        (status = 504, description = "No answer within 10 s: ask for less", body = Problem,
            content_type = "application/problem+json"),
    )
)]
async fn events(
    State(query): State<Arc<Query>>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    answer(&query, Route::Events, &caller, &uri, &headers).await
}

/// One event by its identity
#[utoipa::path(
    get, path = "/v1/event", tag = "reading",
    params(
        ("source" = String, Query, description = "Its source", example = "/shop", min_length = 1),
        ("id" = String, Query, description = "Its id", example = "1", min_length = 1),
    ),
    responses(
        (status = 200, description = "One event by its identity", body = CloudEvent, content_type = "application/json"),
        (status = 400, description = "A parameter is unknown, missing or wrong", body = Problem,
            content_type = "application/problem+json"),
        (status = 406, description = "`Accept` leaves out JSON", body = Problem,
            content_type = "application/problem+json"),
        (status = 504, description = "No answer within 10 s: ask for less", body = Problem,
            content_type = "application/problem+json"),
        (status = 404, description = "It is not stored, or not yet", body = Problem,
            content_type = "application/problem+json"),
    )
)]
async fn event(
    State(query): State<Arc<Query>>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    answer(&query, Route::Event, &caller, &uri, &headers).await
}

/// The types of events, with counts
#[utoipa::path(
    get, path = "/v1/types", tag = "reading",
    params(
        ("limit" = Option<u32>, Query, description = "1 to 1000, by default 1000",
            minimum = 1, maximum = 1000, nullable = false),
        ("cursor" = Option<String>, Query, description = "`next` of the page before", min_length = 1, nullable = false),
    ),
    responses(
        (status = 200, description = "The types of events, with counts", body = TypePage, content_type = "application/json"),
        (status = 400, description = "A parameter is unknown, missing or wrong", body = Problem,
            content_type = "application/problem+json"),
        (status = 406, description = "`Accept` leaves out JSON", body = Problem,
            content_type = "application/problem+json"),
        (status = 504, description = "No answer within 10 s: ask for less", body = Problem,
            content_type = "application/problem+json"),
    )
)]
async fn types(
    State(query): State<Arc<Query>>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    answer(&query, Route::Types, &caller, &uri, &headers).await
}

/// The rollups that are defined
#[utoipa::path(
    get, path = "/v1/rollups", tag = "reading",
    responses(
        (status = 200, description = "The rollups that are defined", body = RollupList, content_type = "application/json"),
        (status = 400, description = "A parameter is unknown, missing or wrong", body = Problem,
            content_type = "application/problem+json"),
        (status = 406, description = "`Accept` leaves out JSON", body = Problem,
            content_type = "application/problem+json"),
        (status = 504, description = "No answer within 10 s: ask for less", body = Problem,
            content_type = "application/problem+json"),
    )
)]
async fn rollups(
    State(query): State<Arc<Query>>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    answer(&query, Route::Rollups, &caller, &uri, &headers).await
}

/// The rows of a rollup
///
/// Without `window` there is one row for each group over the whole range. `group.ALIAS=value` keeps the
/// groups with that value.
#[utoipa::path(
    get, path = "/v1/rollups/{name}", tag = "reading",
    params(
        ("name" = String, Path, description = "Its name"),
        ("window" = Option<String>, Query, description = "One of its windows, such as `1h`", example = "1h",
            min_length = 1, nullable = false),
        ("from" = Option<String>, Query, description = "Inclusive; RFC 3339, or relative as `now-1h`",
            example = "now-1h", min_length = 1, nullable = false),
        ("to" = Option<String>, Query, description = "Exclusive", example = "now", min_length = 1, nullable = false),
        ("limit" = Option<u32>, Query, description = "1 to 1000, by default 1000",
            minimum = 1, maximum = 1000, nullable = false),
        ("cursor" = Option<String>, Query, description = "`next` of the page before", min_length = 1, nullable = false),
    ),
    responses(
        (status = 200, description = "The rows of a rollup", body = RollupPage, content_type = "application/json"),
        (status = 400, description = "A parameter is unknown, missing or wrong", body = Problem,
            content_type = "application/problem+json"),
        (status = 406, description = "`Accept` leaves out JSON", body = Problem,
            content_type = "application/problem+json"),
        (status = 504, description = "No answer within 10 s: ask for less", body = Problem,
            content_type = "application/problem+json"),
        (status = 404, description = "There is no such rollup", body = Problem,
            content_type = "application/problem+json"),
    )
)]
async fn rollup(
    State(query): State<Arc<Query>>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    answer(&query, Route::Rollup, &caller, &uri, &headers).await
}
