//! Whose data is read, and by whom.

use service::auth::{Caller, Gate, Scope};

use crate::server::{Server, embedded, event, put_events};

#[tokio::test]
async fn a_caller_reads_its_own_namespace_and_nothing_else() {
    let store = embedded().await;
    let mine = schemas::Event { namespace: "shop".into(), ..event("t", "/s", "mine", 0) };
    let theirs = schemas::Event { namespace: "bank".into(), ..event("t", "/s", "theirs", 0) };
    put_events(&store, vec![mine, theirs]).await;
    let gate = Gate::open_to(Caller::new("reader", "shop", [Scope::Read]));
    let server = Server::start_behind(store, gate).await;
    let events = server.json("/v1/events?type=t").await;
    assert_eq!(events["events"].as_array().unwrap().len(), 1, "{events}");
    assert_eq!(events["events"][0]["id"], "mine");
    assert_eq!(server.get("/v1/event?source=/s&id=mine").await.status, 200);
    assert_eq!(server.get("/v1/event?source=/s&id=theirs").await.status, 404);
}

#[tokio::test]
async fn reading_needs_the_scope_for_it_on_every_route() {
    let gate = Gate::open_to(Caller::new("writer", "shop", [Scope::Write, Scope::Admin]));
    let server = Server::start_behind(embedded().await, gate).await;
    for path in [
        "/v1/events?type=t",
        "/v1/event?source=s&id=i",
        "/v1/types",
        "/v1/rollups",
        "/v1/rollups/r",
    ] {
        let answer = server.get(path).await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "forbidden"), "{path}");
    }
    assert_eq!(server.get("/").await.status, 200);
}
