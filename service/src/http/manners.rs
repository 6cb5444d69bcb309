//! What every request gets, whoever answers it: an id, the Host check, a caller, a count, and an
//! answer even if the handler panics.

use std::{convert::Infallible, panic::AssertUnwindSafe, pin::Pin, sync::Arc, time::Instant};

use axum::{Router, extract::Request, response::IntoResponse, response::Response};
use futures_util::FutureExt;
use http::{HeaderValue, Method, StatusCode, Version, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{Allowance, Metrics, Routes, host, request_id, routes, traffic::Traffic, turn_away};
use crate::{auth::Gate, problem::Problem};

/// Pages that say what is here and show no data: nobody needs a key to look at them.
const OPEN_PAGES: [&str; 3] = ["/", "/docs", "/openapi.json"];

/// The service behind every connection of a listener.
#[derive(Clone)]
pub(super) struct Manners {
    pub routes: Routes,
    pub check_host: bool,
    pub gate: Gate,
    pub metrics: Metrics,
    /// Once cancelled, every answer asks its client to close the connection.
    pub closing: CancellationToken,
    /// One for each request at once: on HTTP/2 the number of connections does not bound it.
    pub places: Arc<Semaphore>,
    /// Of this connection.
    pub traffic: Arc<Traffic>,
}

impl hyper::service::Service<Request<Incoming>> for Manners {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let this = self.clone();
        let begun = self.traffic.begin();
        Box::pin(async move {
            let response = this.answer(request).await;
            // A body that is made while it is sent is part of the request.
            let whole = response.body().size_hint().exact().is_some();
            Ok(if whole { response } else { response.map(|body| held(body, begun)) })
        })
    }
}

impl Manners {
    async fn answer(self, request: Request<Incoming>) -> Response {
        let started = Instant::now();
        let id = request_id::of(request.headers());
        let header = HeaderValue::from_str(&id);
        let version = request.version();
        let handled = request_id::scope(id, async {
            match self.places.try_acquire() {
                Ok(_place) => handle(&self.routes, self.check_host, &self.gate, request).await,
                Err(_) => overloaded(),
            }
        });
        let mut response = handled.await;
        if let Ok(id) = header {
            response.headers_mut().insert(request_id::HEADER, id);
        }
        // HTTP/2 has GOAWAY for that, and no such header (RFC 9113, 8.2.2).
        if version < Version::HTTP_2 && self.closing.is_cancelled() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        self.metrics.answered(response.status(), started.elapsed());
        response
    }
}

async fn handle(
    routes: &Routes,
    check_host: bool,
    gate: &Gate,
    mut request: Request<Incoming>,
) -> Response {
    if check_host
        && gate.is_open()
        && let Err(problem) = host::check_host(request.uri(), request.headers())
    {
        turn_away(request, Allowance::STRANGER).await;
        return problem.into_response();
    }
    let Some(router) = routes.router() else {
        turn_away(request, Allowance::STRANGER).await;
        return routes::starting();
    };
    let limits = match gate.caller(request.headers()).await {
        Ok(caller) => {
            let limits = caller.limits().cloned();
            request.extensions_mut().insert(caller);
            limits
        }
        Err(_) if is_open_page(&request) => None,
        Err(denied) => {
            turn_away(request, Allowance::STRANGER).await;
            return denied.into_response();
        }
    };
    let mut response = guarded(router, request).await;
    if let Some(limits) = limits {
        limits.tell(response.headers_mut());
    }
    response
}

/// The answer of the routes, whatever happens in them.
async fn guarded(router: Router, request: Request<Incoming>) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    // A handler that panics leaves nothing half-changed behind: what requests share is guarded by
    // the components themselves, and a poisoned lock is their matter.
    match AssertUnwindSafe(router.oneshot(request)).catch_unwind().await {
        Ok(Ok(response)) => response,
        Ok(Err(impossible)) => match impossible {},
        Err(_) => {
            let request_id = request_id::current();
            tracing::error!(%method, path, request_id, "a request handler panicked");
            Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "Internal error",
                "the server made a mistake; its log has more under this request id",
            )
            .into_response()
        }
    }
}

/// The same body, which holds this until it is sent.
fn held<T: Send + 'static>(body: axum::body::Body, until_sent: T) -> axum::body::Body {
    axum::body::Body::new(body.map_frame(move |frame| {
        let _ = &until_sent;
        frame
    }))
}

fn overloaded() -> Response {
    let problem = Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "too_many_requests_at_once",
        "Too many requests at once",
        "the server answers as many requests at once as it takes connections: retry later",
    );
    ([(header::RETRY_AFTER, HeaderValue::from_static("1"))], problem).into_response()
}

fn is_open_page(request: &Request<Incoming>) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD)
        && OPEN_PAGES.contains(&request.uri().path())
}
