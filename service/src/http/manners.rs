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

use super::{
    Allowance, Metrics, Routes, access::AccessLog, host, request_id, routes, traffic::Traffic,
    turn_away,
};
use crate::{
    auth::{Gate, Limits},
    problem::Problem,
};

/// Pages that say what is here and show no data: nobody needs a key to look at them.
const OPEN_PAGES: [&str; 3] = ["/", "/docs", "/openapi.json"];

/// What holds for every request of a listener.
pub(super) struct Rules {
    pub routes: Routes,
    pub check_host: bool,
    pub gate: Gate,
    pub metrics: Metrics,
    pub log: AccessLog,
    /// Once cancelled, every answer asks its client to close the connection.
    pub closing: CancellationToken,
    /// One for each request at once: on HTTP/2 the number of connections does not bound it.
    pub places: Semaphore,
}

/// The service behind a connection.
#[derive(Clone)]
pub(super) struct Manners {
    pub rules: Arc<Rules>,
    pub traffic: Arc<Traffic>,
}

impl hyper::service::Service<Request<Incoming>> for Manners {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let rules = self.rules.clone();
        let begun = self.traffic.begin();
        Box::pin(async move {
            let response = rules.answer(request).await;
            // A body that is made while it is sent is part of the request.
            let whole = response.body().size_hint().exact().is_some();
            Ok(if whole { response } else { response.map(|body| held(body, begun)) })
        })
    }
}

// Every request moves the future that answers it to the heap, with room for whatever may be awaited in it. So what
// is rarely awaited is boxed by itself.
impl Rules {
    async fn answer(&self, request: Request<Incoming>) -> Response {
        let started = Instant::now();
        let id = request_id::of(request.headers());
        let header = HeaderValue::from_str(&id);
        let version = request.version();
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let mut response = request_id::scope(id, self.handle(request)).await;
        let took = started.elapsed();
        self.log.answered(header.as_ref().ok(), &method, &uri, response.status(), took);
        if let Ok(id) = header {
            response.headers_mut().insert(request_id::HEADER, id);
        }
        // HTTP/2 has GOAWAY for that, and no such header (RFC 9113, 8.2.2).
        if version < Version::HTTP_2 && self.closing.is_cancelled() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        self.metrics.answered(response.status(), took);
        response
    }

    async fn handle(&self, mut request: Request<Incoming>) -> Response {
        let Ok(_place) = self.places.try_acquire() else { return overloaded() };
        let (router, limits) = match self.admit(&mut request).await {
            Ok(admitted) => admitted,
            Err(refusal) => {
                Box::pin(turn_away(request, Allowance::STRANGER)).await;
                return *refusal;
            }
        };
        let mut response = guarded(router, request).await;
        if let Some(limits) = limits {
            limits.tell(response.headers_mut());
        }
        response
    }

    /// Who may go where, and within which limits; or the answer to who may not.
    async fn admit(
        &self,
        request: &mut Request<Incoming>,
    ) -> Result<(Router, Option<Arc<Limits>>), Box<Response>> {
        if self.check_host && self.gate.is_open() {
            host::check_host(request.uri(), request.headers())
                .map_err(|problem| Box::new(problem.into_response()))?;
        }
        let router = self.routes.router().ok_or_else(|| Box::new(routes::starting()))?;
        match self.gate.caller(request.headers()).await {
            Ok(caller) => {
                let limits = caller.limits().cloned();
                request.extensions_mut().insert(caller);
                Ok((router, limits))
            }
            Err(_) if is_open_page(request) => Ok((router, None)),
            Err(denied) => Err(Box::new(denied.into_response())),
        }
    }
}

/// The answer of the routes, whatever happens in them.
async fn guarded(router: Router, request: Request<Incoming>) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    // A handler that panics leaves nothing half-changed behind: what requests share is guarded by
    // the components themselves, and a poisoned lock is their matter.
    match AssertUnwindSafe(router.oneshot(request)).catch_unwind().await {
        Ok(Ok(response)) => response,
        Ok(Err(impossible)) => match impossible {},
        Err(_) => {
            let request_id = request_id::current();
            tracing::error!(%method, path = uri.path(), request_id, "a request handler panicked");
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
