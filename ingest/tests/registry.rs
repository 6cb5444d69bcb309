//! The registry as its clients speak it: paths, statuses, codes and bodies.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use reqwest::Method;
use serde_json::{Value, json};
use service::auth::{Caller, Gate, Scope};
use support::Server;

const V1: &str = "application/vnd.schemaregistry.v1+json";
const ONE: &str = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"}]}"#;
const TWO: &str = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"b","type":["null","string"],"default":null}]}"#;
const OTHER: &str = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"string"}]}"#;

/// Status and body.
async fn call(server: &Server, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
    let url = format!("http://{}/registry{path}", server.addr);
    let mut request = reqwest::Client::new().request(method, url);
    if let Some(body) = body {
        request = request.header("content-type", V1).body(body.to_string());
    }
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["content-type"], V1, "{path}");
    let status = response.status().as_u16();
    (status, serde_json::from_str(&response.text().await.unwrap()).unwrap())
}

async fn get(server: &Server, path: &str) -> (u16, Value) {
    call(server, Method::GET, path, None).await
}

async fn delete(server: &Server, path: &str) -> (u16, Value) {
    call(server, Method::DELETE, path, None).await
}

async fn post(server: &Server, path: &str, body: Value) -> (u16, Value) {
    call(server, Method::POST, path, Some(body)).await
}

async fn put(server: &Server, path: &str, body: Value) -> (u16, Value) {
    call(server, Method::PUT, path, Some(body)).await
}

async fn register(server: &Server, subject: &str, schema: &str) -> (u16, Value) {
    post(server, &format!("/subjects/{subject}/versions"), json!({ "schema": schema })).await
}

/// Status and code of a refusal.
fn refused((status, body): (u16, Value)) -> (u16, u64) {
    assert!(body["message"].as_str().is_some_and(|m| !m.is_empty()), "{body}");
    (status, body["error_code"].as_u64().unwrap())
}

#[tokio::test]
async fn a_schema_is_registered_read_and_looked_up() {
    let server = Server::start().await;
    assert_eq!(register(&server, "s", ONE).await, (200, json!({ "id": 1, "version": 1 })));
    assert_eq!(register(&server, "s", ONE).await, (200, json!({ "id": 1, "version": 1 })));
    assert_eq!(register(&server, "s", TWO).await, (200, json!({ "id": 2, "version": 2 })));
    assert_eq!(get(&server, "/schemas/ids/2").await, (200, json!({ "schema": TWO })));
    let maximal = json!({ "schema": ONE, "maxId": 2 });
    assert_eq!(get(&server, "/schemas/ids/1?fetchMaxId=true").await, (200, maximal));
    let text: Value = serde_json::from_str(ONE).unwrap();
    assert_eq!(get(&server, "/schemas/ids/1/schema").await, (200, text.clone()));
    assert_eq!(get(&server, "/subjects").await, (200, json!(["s"])));
    assert_eq!(get(&server, "/subjects/s/versions").await, (200, json!([1, 2])));
    let shown = json!({ "subject": "s", "version": 2, "id": 2, "schema": TWO });
    for version in ["2", "latest", "-1"] {
        let path = format!("/subjects/s/versions/{version}");
        assert_eq!(get(&server, &path).await, (200, shown.clone()));
    }
    assert_eq!(get(&server, "/subjects/s/versions/1/schema").await, (200, text));
    let found = post(&server, "/subjects/s", json!({ "schema": TWO })).await;
    assert_eq!(found, (200, shown));
    let uses = json!([{ "subject": "s", "version": 1 }]);
    assert_eq!(get(&server, "/schemas/ids/1/versions").await, (200, uses));
    assert_eq!(get(&server, "/schemas/ids/1/subjects").await, (200, json!(["s"])));
    assert_eq!(get(&server, "/schemas/types").await, (200, json!(["AVRO"])));
}

#[tokio::test]
async fn a_subject_with_slashes_and_spaces_is_percent_encoded_in_the_path() {
    let server = Server::start().await;
    register(&server, "org%2Fshop%20order", ONE).await;
    assert_eq!(get(&server, "/subjects").await, (200, json!(["org/shop order"])));
    assert_eq!(get(&server, "/subjects/org%2Fshop%20order/versions").await, (200, json!([1])));
    assert_eq!(get(&server, "/subjects?subjectPrefix=org%2F").await.1, json!(["org/shop order"]));
    assert_eq!(get(&server, "/subjects?subjectPrefix=com").await.1, json!([]));
}

#[tokio::test]
async fn what_is_not_there_has_the_code_that_clients_know() {
    let server = Server::start().await;
    register(&server, "s", ONE).await;
    for (path, code) in [
        ("/subjects/t/versions", 40401),
        ("/subjects/t/versions/1", 40401),
        ("/subjects/s/versions/9", 40402),
        ("/schemas/ids/9", 40403),
        ("/schemas/ids/x", 40403),
        ("/schemas/ids/9/versions", 40403),
        ("/config/s", 40408),
        ("/mode/s", 40409),
        ("/nothing/here", 404),
    ] {
        assert_eq!(refused(get(&server, path).await), (404, code), "{path}");
    }
    assert_eq!(refused(get(&server, "/subjects/s/versions/0").await), (422, 42202));
    let other = json!({ "schema": OTHER });
    assert_eq!(refused(post(&server, "/subjects/s", other.clone()).await), (404, 40403));
    assert_eq!(refused(post(&server, "/subjects/t", other).await), (404, 40401));
    assert_eq!(refused(call(&server, Method::PATCH, "/subjects", None).await), (405, 405));
}

#[tokio::test]
async fn what_is_no_schema_is_refused_as_unprocessable() {
    let server = Server::start().await;
    for body in [
        json!({ "schema": "{" }),
        json!({ "schema": "" }),
        json!({}),
        json!({ "schema": ONE, "schemaType": "PROTOBUF" }),
        json!({ "schema": ONE, "ruleSet": {} }),
        json!({ "schema": ONE, "references": [{ "name": "X", "subject": "x", "version": 1 }] }),
    ] {
        let answer = post(&server, "/subjects/s/versions", body.clone()).await;
        assert_eq!(refused(answer), (422, 42201), "{body}");
    }
    let own = json!({ "schema": ONE, "id": 7 });
    assert_eq!(refused(post(&server, "/subjects/s/versions", own).await), (422, 42205));
    let odd = json!({ "schema": 5 });
    assert_eq!(refused(post(&server, "/subjects/s/versions", odd).await), (422, 422));
    let explicit = json!({ "schema": ONE, "schemaType": "AVRO", "references": null, "id": -1 });
    assert_eq!(post(&server, "/subjects/s/versions", explicit).await.0, 200);
}

#[tokio::test]
async fn a_body_of_another_kind_or_too_large_is_refused() {
    let server = Server::start().await;
    let url = format!("http://{}/registry/subjects/s/versions", server.addr);
    let send = async |content_type: &str, body: String| {
        let request = reqwest::Client::new().post(&url).header("content-type", content_type);
        request.body(body).send().await.unwrap().status().as_u16()
    };
    let good = json!({ "schema": ONE }).to_string();
    assert_eq!(send("text/plain", good.clone()).await, 415);
    assert_eq!(send("application/json", "{".into()).await, 400);
    let members = json!([ONE, null, null, null, null, null, null]);
    assert_eq!(send("application/json", members.to_string()).await, 422, "not an object");
    let compressed = reqwest::Client::new().post(&url).header("content-encoding", "gzip");
    let compressed = compressed.header("content-type", "application/json").body(good.clone());
    assert_eq!(compressed.send().await.unwrap().status(), 415);
    assert_eq!(send("application/json", " ".repeat(600_000) + &good).await, 413);
    assert_eq!(send("application/json", good).await, 200);
}

#[tokio::test]
async fn an_incompatible_schema_is_a_conflict_that_says_what_and_where() {
    let server = Server::start().await;
    register(&server, "s", ONE).await;
    let (status, body) = register(&server, "s", OTHER).await;
    assert_eq!((status, &body["error_code"]), (409, &json!(409)));
    let message = body["message"].as_str().unwrap();
    assert!(message.contains("version 1") && message.contains("/data/a"), "{message}");
    let path = "/compatibility/subjects/s/versions";
    let check =
        async |path: &str, schema: &str| post(&server, path, json!({ "schema": schema })).await.1;
    assert_eq!(check(path, TWO).await, json!({ "is_compatible": true }));
    let told = check(&format!("{path}/latest?verbose=true"), OTHER).await;
    assert_eq!(told["is_compatible"], false);
    assert!(told["messages"][0].as_str().unwrap().contains("/data/a"), "{told}");
    assert_eq!(
        check("/compatibility/subjects/t/versions/latest", OTHER).await["is_compatible"],
        true
    );
    let absent = post(&server, &format!("{path}/9"), json!({ "schema": ONE })).await;
    assert_eq!(refused(absent), (404, 40402));
}

#[tokio::test]
async fn deletions_are_soft_first_and_say_so() {
    let server = Server::start().await;
    register(&server, "s", ONE).await;
    register(&server, "s", TWO).await;
    let version = "/subjects/s/versions/2";
    assert_eq!(refused(delete(&server, &format!("{version}?permanent=true")).await), (404, 40407));
    assert_eq!(delete(&server, version).await, (200, json!(2)));
    assert_eq!(refused(delete(&server, version).await), (404, 40406));
    assert_eq!(refused(get(&server, version).await), (404, 40402));
    assert_eq!(get(&server, &format!("{version}?deleted=true")).await.1["deleted"], true);
    assert_eq!(refused(delete(&server, "/subjects/s?permanent=true").await), (404, 40405));
    assert_eq!(delete(&server, "/subjects/s").await, (200, json!([1])));
    assert_eq!(refused(delete(&server, "/subjects/s").await), (404, 40404));
    assert_eq!(get(&server, "/subjects").await, (200, json!([])));
    assert_eq!(get(&server, "/subjects?deleted=true").await, (200, json!(["s"])));
    assert_eq!(delete(&server, "/subjects/s?permanent=true").await, (200, json!([1, 2])));
    assert_eq!(refused(delete(&server, "/subjects/s").await), (404, 40401));
    assert_eq!(get(&server, "/schemas/ids/2").await.1["schema"], TWO, "records may bear the id");
}

#[tokio::test]
async fn levels_and_modes_are_set_read_and_taken_back() {
    let server = Server::start().await;
    let default = json!({ "compatibilityLevel": "BACKWARD_TRANSITIVE" });
    assert_eq!(get(&server, "/config").await, (200, default.clone()));
    let full = json!({ "compatibility": "FULL" });
    assert_eq!(put(&server, "/config/s", full.clone()).await, (200, full));
    let own = json!({ "compatibilityLevel": "FULL" });
    assert_eq!(get(&server, "/config/s").await, (200, own.clone()));
    assert_eq!(delete(&server, "/config/s").await, (200, own));
    assert_eq!(get(&server, "/config/s?defaultToGlobal=true").await, (200, default.clone()));
    put(&server, "/config", json!({ "compatibility": "none", "normalize": false })).await;
    assert_eq!(get(&server, "/config").await.1["compatibilityLevel"], "NONE");
    delete(&server, "/config").await;
    assert_eq!(get(&server, "/config").await, (200, default));
    for odd in [
        json!({ "compatibility": "SOME" }),
        json!({}),
        json!({ "compatibility": "FULL", "alias": "x" }),
    ] {
        assert_eq!(refused(put(&server, "/config", odd).await), (422, 42203));
    }

    assert_eq!(get(&server, "/mode").await, (200, json!({ "mode": "READWRITE" })));
    let read_only = json!({ "mode": "READONLY" });
    assert_eq!(put(&server, "/mode/s", read_only.clone()).await, (200, read_only.clone()));
    assert_eq!(refused(register(&server, "s", ONE).await), (422, 42205));
    assert_eq!(delete(&server, "/mode/s").await, (200, read_only));
    assert_eq!(register(&server, "s", ONE).await.0, 200);
    assert_eq!(refused(put(&server, "/mode", json!({ "mode": "IMPORT" })).await), (422, 42204));
}

#[tokio::test]
async fn a_schema_that_refers_to_another_shows_it_and_keeps_it_from_deletion() {
    let server = Server::start().await;
    let unit = r#"{"type":"enum","name":"n.Unit","symbols":["EUR"]}"#;
    register(&server, "unit", unit).await;
    let references = json!([{ "name": "n.Unit", "subject": "unit", "version": 1 }]);
    let price = r#"{"type":"record","name":"Price","fields":[{"name":"unit","type":"n.Unit"}]}"#;
    let body = json!({ "schema": price, "references": references });
    assert_eq!(post(&server, "/subjects/price/versions", body).await.0, 200);
    assert_eq!(get(&server, "/schemas/ids/2").await.1["references"], references);
    assert_eq!(get(&server, "/subjects/unit/versions/1/referencedby").await, (200, json!([2])));
    assert_eq!(refused(delete(&server, "/subjects/unit").await), (422, 42206));
    let event =
        r#"{"specversion":"1.0","id":"1","source":"/t","type":"price","data":{"unit":"EUR"}}"#;
    assert_eq!(server.post(support::STRUCTURED, event).await.status, 202);
    let stored = server.stored().await;
    assert_eq!(stored[0].value.as_deref(), Some(&[0, 0, 0, 0, 2, 0][..]));
}

#[tokio::test]
async fn an_event_of_a_type_whose_schema_was_just_registered_is_checked_against_it() {
    let server = Server::start().await;
    register(&server, "typed", ONE).await;
    let event = |a: &str| {
        format!(
            r#"{{"specversion":"1.0","id":"1","source":"/t","type":"typed","data":{{"a":{a}}}}}"#
        )
    };
    assert_eq!(server.post(support::STRUCTURED, event("\"x\"")).await.status, 422);
    assert_eq!(server.post(support::STRUCTURED, event("1")).await.status, 202);
}

#[tokio::test]
async fn what_another_replica_has_just_registered_counts_before_an_event_is_refused() {
    let server = Server::start().await;
    register(&server, "typed", ONE).await;
    let event = |b: &str| {
        let data = format!(r#"{{"a":1,"b":{b}}}"#);
        format!(r#"{{"specversion":"1.0","id":"1","source":"/t","type":"typed","data":{data}}}"#)
    };
    let refused = server.post(support::STRUCTURED, event("\"x\"")).await;
    assert_eq!(refused.json["errors"][0]["code"], "unknown_field");
    let replica = schemas::Registry::open(server.log.clone()).await.unwrap();
    replica.register("default", "typed", TWO).await.unwrap();
    assert_eq!(server.post(support::STRUCTURED, event("\"x\"")).await.status, 202);
    assert_eq!(server.post(support::STRUCTURED, event("2")).await.status, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_a_scope_may_read_schemas_and_only_an_admin_may_change_them() {
    for (scopes, reads, changes) in [
        (vec![Scope::Write], 200, 403),
        (vec![Scope::Read], 200, 403),
        (vec![Scope::Admin], 200, 200),
        (vec![Scope::Operator], 200, 200),
        (vec![], 403, 403),
    ] {
        let server = Server::behind(Gate::open_to(Caller::new("k", "shop", scopes.clone()))).await;
        let url = format!("http://{}/registry/subjects", server.addr);
        let client = reqwest::Client::new();
        let read = client.get(&url).send().await.unwrap();
        assert_eq!(read.status(), reads, "{scopes:?}");
        let body = json!({ "schema": ONE }).to_string();
        let change = client.post(format!("{url}/s/versions")).header("content-type", V1).body(body);
        let change = change.send().await.unwrap();
        assert_eq!(change.status(), changes, "{scopes:?}");
        for answer in [read, change].iter().filter(|answer| answer.status() == 403) {
            assert_eq!(answer.headers()["content-type"], "application/problem+json");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_of_schemas_may_not_post_events() {
    let admin = Caller::new("deployments", "shop", [Scope::Admin]);
    let server = Server::behind(Gate::open_to(admin)).await;
    let event = r#"{"specversion":"1.0","id":"1","source":"/t","type":"t","data":1}"#;
    assert_eq!(server.post(support::STRUCTURED, event).await.status, 403);
}

#[tokio::test]
async fn a_path_that_is_not_utf_8_is_refused_in_the_registrys_own_words() {
    let server = Server::start().await;
    assert_eq!(refused(get(&server, "/subjects/%FF/versions").await), (400, 400));
    assert_eq!(refused(get(&server, "/schemas/ids/%FF").await), (400, 400));
}
