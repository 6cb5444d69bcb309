//! The document of what is read, and the routes, are the same.

use std::{collections::BTreeSet, sync::Arc};

use prometheus_client::registry::Registry;
use sink::query::{Metrics, Query, router};

use crate::memory::Memory;

/// The paths of a router. It tells them to nobody but a debugger.
fn paths_of(router: &axum::Router) -> BTreeSet<String> {
    let text = format!("{router:?}");
    let (routes, _fallbacks) = text.split_once("fallback_router").unwrap();
    routes.split('"').filter(|part| part.starts_with('/')).map(str::to_owned).collect()
}

#[test]
fn every_route_is_in_the_document_and_every_path_of_the_document_is_a_route() {
    let store = Arc::new(Memory::default());
    let metrics = Metrics::register(&mut Registry::default());
    let query = Query::new(store, 1, metrics);
    let (router, document) = router(Arc::new(query)).split_for_parts();
    let described: BTreeSet<String> = document.paths.paths.into_keys().collect();
    assert_eq!(described, paths_of(&router));
    assert!(described.contains("/v1/rollups/{name}"), "{described:?}");
}
