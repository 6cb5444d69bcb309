//! A node that uses the schema registry of another system: here that of another node, which speaks
//! the same API, in a process of its own, and asks for a key.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, Instant};

use e2e::{
    key::{Made, made},
    process::{Node, Site},
};
use reqwest::Client;
use serde_json::{Value, json};

const ONE: &str = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"}]}"#;
const TWO: &str = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"b","type":"int","default":0}]}"#;
const SOON: Duration = Duration::from_secs(20);

/// A node whose registry others use, and the key that it asks for.
struct Registry {
    site: Site,
    key: String,
}

impl Registry {
    fn new() -> Self {
        let Made { secret, table } = made("registry", "default", "admin").unwrap();
        Self { site: Site::new(&table).unwrap(), key: secret }
    }

    async fn register(&self, subject: &str, schema: &str) {
        let answer = Client::new()
            .post(self.site.url(&format!("/registry/subjects/{subject}/versions")))
            .header("authorization", format!("Bearer {}", self.key))
            .header("content-type", "application/json")
            .body(json!({ "schema": schema }).to_string())
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    }

    /// A site that uses it.
    fn user(&self) -> Site {
        let settings = format!(
            "[schemas]\nregistry = \"{}\"\nregistry_user = \"any\"",
            self.site.url("/registry/")
        );
        let mut site = Site::new(&settings).unwrap();
        site.env("PENSTOCK__SCHEMAS__REGISTRY_PASSWORD", self.key.clone());
        site
    }
}

/// Status, `Retry-After` and body of posting an event of a type.
async fn post(site: &Site, id: &str, kind: &str, data: &str) -> (u16, bool, String) {
    let event = format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"/t","type":"{kind}","data":{data}}}"#
    );
    let answer = Client::new()
        .post(site.url("/v1/events"))
        .header("content-type", "application/cloudevents+json")
        .body(event)
        .send()
        .await
        .unwrap();
    let retry = answer.headers().contains_key("retry-after");
    (answer.status().as_u16(), retry, answer.text().await.unwrap())
}

/// The data of a stored event, once it is there.
async fn stored(site: &Site, id: &str) -> Value {
    let begun = Instant::now();
    loop {
        let answer = reqwest::get(site.url(&format!("/v1/event?source=/t&id={id}"))).await.unwrap();
        if answer.status() == 200 {
            let event: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
            return event["data"].clone();
        }
        assert!(begun.elapsed() < SOON, "{id} is not stored: {}", answer.status());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn types_are_checked_by_the_schemas_of_the_other_registry_as_they_evolve() {
    let registry = Registry::new();
    let there: Node = registry.site.start().await.unwrap();
    let site = registry.user();
    let node = site.start().await.unwrap();
    // That a type has no schema counts for a moment only.
    assert_eq!(post(&site, "0", "plain", "{\"x\":1}").await.0, 202);

    registry.register("order", ONE).await;
    let (status, _, said) = post(&site, "1", "order", "{\"a\":\"x\"}").await;
    assert_eq!(status, 422, "{said}");
    assert!(said.contains("/data/a"), "{said}");
    assert_eq!(post(&site, "2", "order", "{\"a\":1}").await.0, 202);
    let (status, _, said) = post(&site, "3", "order", "{\"a\":1,\"b\":2}").await;
    assert!(status == 422 && said.contains("unknown_field"), "{said}");
    registry.register("order", TWO).await;
    assert_eq!(post(&site, "3", "order", "{\"a\":1,\"b\":2}").await.0, 202);
    assert_eq!(stored(&site, "2").await, json!({ "a": 1 }));
    assert_eq!(stored(&site, "3").await, json!({ "a": 1, "b": 2 }));

    let elsewhere = reqwest::get(site.url("/registry/subjects")).await.unwrap();
    assert_eq!(elsewhere.status(), 501);
    let said: Value = serde_json::from_str(&elsewhere.text().await.unwrap()).unwrap();
    assert_eq!(said["error_code"], 501);
    assert!(said["message"].as_str().unwrap().contains(&registry.site.url("/registry")), "{said}");
    assert!(!node.said().contains(&registry.key), "the password is in the log");
    node.stop().await.unwrap();
    there.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_other_registry_is_away_known_types_go_on_and_others_are_neither_taken_nor_refused()
 {
    let registry = Registry::new();
    let there = registry.site.start().await.unwrap();
    registry.register("order", ONE).await;
    let site = registry.user();
    let node = site.start().await.unwrap();
    assert_eq!(post(&site, "1", "order", "{\"a\":1}").await.0, 202);
    there.kill().unwrap();

    assert_eq!(post(&site, "2", "order", "{\"a\":2}").await.0, 202);
    for (id, kind, data) in [("3", "order", "{\"a\":\"x\"}"), ("4", "plain", "{}")] {
        let begun = Instant::now();
        let (status, retry, said) = post(&site, id, kind, data).await;
        assert!(status == 503 && retry, "{kind}: {status} {said}");
        assert!(said.contains("\"code\":\"unavailable\""), "{said}");
        assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    }
    assert_eq!(stored(&site, "2").await, json!({ "a": 2 }));
    // What was learnt is gone with the process: it does not serve on guesses.
    node.kill().unwrap();
    let node = site.spawn().unwrap();
    let begun = Instant::now();
    while !site.readyz().await.unwrap().1.contains("schema registry") {
        assert!(begun.elapsed() < SOON, "{:?}", site.readyz().await.unwrap());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(site.readyz().await.unwrap().0, 503);
    assert_eq!(post(&site, "5", "order", "{\"a\":5}").await.0, 503);

    let there = registry.site.start().await.unwrap();
    node.ready(SOON).await.unwrap();
    assert_eq!(post(&site, "4", "plain", "{}").await.0, 202);
    assert_eq!(post(&site, "5", "order", "{\"a\":5}").await.0, 202);
    assert_eq!(post(&site, "3", "order", "{\"a\":\"x\"}").await.0, 422);
    assert_eq!(stored(&site, "5").await, json!({ "a": 5 }));
    node.stop().await.unwrap();
    there.stop().await.unwrap();
}
