//! The document of the API and the routes are the same.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeSet;

use serde_json::Value;
use service::auth::{Caller, Gate};
use support::*;

/// The paths of a router, without the one that takes whatever the registry has no route for. It tells
/// them to nobody but a debugger.
fn paths_of(router: &axum::Router) -> BTreeSet<String> {
    let text = format!("{router:?}");
    let (routes, _fallbacks) = text.split_once("fallback_router").unwrap();
    let paths = routes.split('"').filter(|part| part.starts_with('/') && !part.contains("{*"));
    paths.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_is_in_the_document_and_every_path_of_the_document_is_a_route() {
    let server = Server::start().await;
    let (router, document) = server.routes.clone().split_for_parts();
    let described: BTreeSet<String> = document.paths.paths.into_keys().collect();
    assert_eq!(described, paths_of(&router));
    assert!(described.contains("/v1/events"), "{described:?}");
    assert!(described.contains("/registry/subjects/{subject}/versions"), "{described:?}");
    assert_eq!(
        paths_of(&service::openapi::published(server.routes.clone())),
        &described | &["/docs".to_owned(), "/openapi.json".to_owned()].into()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_methods_that_a_path_takes_are_those_of_the_document() {
    let server = Server::start().await;
    let client = reqwest::Client::new();
    let url = |path: &str| format!("http://{}{path}", server.addr);
    let document = client.get(url("/openapi.json")).send().await.unwrap().text().await.unwrap();
    let document: Value = serde_json::from_str(&document).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    for (path, item) in document["paths"].as_object().unwrap() {
        let brew = reqwest::Method::from_bytes(b"BREW").unwrap();
        // a literal path: what is in braces would have to be encoded
        let path = path.replace(['{', '}'], "");
        let answer = client.request(brew, url(&path)).send().await.unwrap();
        assert_eq!(answer.status(), 405);
        let allowed = answer.headers()["allow"].to_str().unwrap().split(',');
        let allowed: BTreeSet<_> =
            allowed.filter(|m| *m != "HEAD").map(str::to_lowercase).collect();
        assert_eq!(allowed, item.as_object().unwrap().keys().cloned().collect(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_every_route_may_answer_is_said_of_every_route() {
    let document: Value = {
        let server = Server::start().await;
        let url = format!("http://{}/openapi.json", server.addr);
        serde_json::from_str(&reqwest::get(url).await.unwrap().text().await.unwrap()).unwrap()
    };
    for (path, item) in document["paths"].as_object().unwrap() {
        for operation in item.as_object().unwrap().values() {
            for status in ["403", "431", "500", "503"] {
                assert!(operation["responses"][status].is_object(), "{path} {status}");
            }
            assert!(operation["security"].is_array(), "{path}");
            let id = &operation["responses"]["500"]["headers"]["x-request-id"];
            assert!(id.is_object(), "{path}");
        }
    }
    for scheme in ["key", "password"] {
        assert!(document["components"]["securitySchemes"][scheme].is_object(), "{scheme}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_the_registry_are_described_in_its_own_words() {
    let server = Server::start().await;
    let url = format!("http://{}/openapi.json", server.addr);
    let document: Value =
        serde_json::from_str(&reqwest::get(url).await.unwrap().text().await.unwrap()).unwrap();
    let register = &document["paths"]["/registry/subjects/{subject}/versions"]["post"];
    assert_eq!(register["requestBody"]["required"], true);
    for status in ["400", "409", "413", "415", "422", "500", "503"] {
        let content = &register["responses"][status]["content"];
        let schema = &content["application/vnd.schemaregistry.v1+json"]["schema"]["$ref"];
        assert_eq!(schema, "#/components/schemas/RegistryError", "{status}");
    }
    let unknown = &register["responses"]["401"]["content"];
    assert!(unknown["application/problem+json"].is_object(), "{unknown}");
    assert!(document["components"]["schemas"]["RegistryError"].is_object());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_says_whether_a_key_is_needed() {
    let gate = Gate::open_to(Caller::anyone());
    let server = Server::behind(gate.clone()).await;
    let url = format!("http://{}/openapi.json", server.addr);
    let needed = async || {
        let text = reqwest::get(&url).await.unwrap().text().await.unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        let ways = document["paths"]["/v1/events"]["post"]["security"].as_array().unwrap().clone();
        !ways.contains(&serde_json::json!({}))
    };
    assert!(!needed().await);
    gate.set_keys(&[]);
    assert!(needed().await);
}
