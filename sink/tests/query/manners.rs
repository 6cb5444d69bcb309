//! What is refused, and how; and what every answer has.

use std::{sync::Arc, time::Duration};

use sink::{
    query::Limits,
    store::{Store, StoreError},
};

use crate::{
    memory::Memory,
    server::{Server, departures, embedded, event, put_events, put_rollups},
};

async fn serving() -> Server {
    let store = embedded().await;
    put_rollups(&store, &departures(), Vec::new()).await;
    put_events(&store, vec![event("t", "/s", "1", 0)]).await;
    // Events of partition 0 without marks would make the rollup incomplete.
    put_rollups(&store, &departures(), Vec::new()).await;
    Server::start(store).await
}

#[tokio::test]
async fn every_wrong_request_is_refused_with_its_own_code() {
    let server = serving().await;
    for (path, code) in [
        ("/v1/events", "missing_parameter"),
        ("/v1/events?limit=5", "missing_parameter"),
        ("/v1/events?type=", "invalid_parameter"),
        ("/v1/events?subject=", "invalid_parameter"),
        ("/v1/events?type=t&subject=s", "conflicting_parameters"),
        ("/v1/events?type=t&source=", "invalid_parameter"),
        ("/v1/events?type=t&type=t", "duplicate_parameter"),
        ("/v1/events?type=t&form=now", "unknown_parameter"),
        ("/v1/events?type=t&where=x", "unknown_parameter"),
        ("/v1/events?type=t&Type=t", "unknown_parameter"),
        ("/v1/events?type=t&from=yesterday", "invalid_parameter"),
        ("/v1/events?type=t&to=2026-02-30T00:00:00Z", "invalid_parameter"),
        ("/v1/events?type=t&from=now&to=now-1h", "invalid_range"),
        ("/v1/events?type=t&order=newest", "invalid_parameter"),
        ("/v1/events?type=t&limit=0", "invalid_parameter"),
        ("/v1/events?type=t&limit=1001", "invalid_parameter"),
        ("/v1/events?type=t&limit=ten", "invalid_parameter"),
        ("/v1/events?type=t&cursor=abc", "invalid_cursor"),
        ("/v1/events?type=%FF", "invalid_encoding"),
        ("/v1/events?type=%4", "invalid_encoding"),
        ("/v1/event", "missing_parameter"),
        ("/v1/event?source=/s", "missing_parameter"),
        ("/v1/event?id=1", "missing_parameter"),
        ("/v1/event?source=/s&id=", "invalid_parameter"),
        ("/v1/event?source=/s&id=1&type=t", "unknown_parameter"),
        ("/v1/types?type=t", "unknown_parameter"),
        ("/v1/types?cursor=abc", "invalid_cursor"),
        ("/v1/rollups?name=departures", "unknown_parameter"),
        ("/v1/rollups/departures?window=2h", "unknown_window"),
        ("/v1/rollups/departures?window=hour", "unknown_window"),
        ("/v1/rollups/departures?group.tail=N1", "unknown_parameter"),
        ("/v1/rollups/departures?carrier=UA", "unknown_parameter"),
        ("/v1/rollups/departures?from=now-1h", "unaligned_range"),
        ("/v1/rollups/departures?order=asc", "unknown_parameter"),
        ("/v1/rollups/departures?limit=1001", "invalid_parameter"),
        ("/v1/rollups/departures?cursor=abc", "invalid_cursor"),
    ] {
        let answer = server.get(path).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, code), "{path}");
    }
}

#[tokio::test]
async fn an_unknown_parameter_is_answered_with_the_known_ones_and_a_guess() {
    let server = serving().await;
    let problem = server.get("/v1/rollups/departures?group.carier=UA").await.json();
    assert!(problem["detail"].as_str().unwrap().contains("Did you mean `group.carrier`?"));
    let known = problem["known"].as_array().unwrap();
    assert!(known.iter().any(|name| name == "window") && known.iter().any(|n| n == "group.gate"));
}

#[tokio::test]
async fn a_problem_names_its_request() {
    let answer = serving().await.get("/v1/events").await;
    assert_eq!(answer.json()["request_id"], answer.headers["x-request-id"].to_str().unwrap());
}

#[tokio::test]
async fn only_json_is_served() {
    let server = serving().await;
    for path in ["/v1/events?type=t", "/v1/types", "/v1/rollups/departures"] {
        let refused = server.request("GET", path, &[("accept", "text/csv")]).await;
        assert_eq!((refused.status, refused.code().as_str()), (406, "not_acceptable"), "{path}");
        let served = server.request("GET", path, &[("accept", "text/html, */*;q=0.1")]).await;
        assert_eq!(served.status, 200, "{path}");
        assert_eq!(served.headers["content-type"], "application/json");
    }
}

#[tokio::test]
async fn head_answers_as_get_does_without_the_body() {
    let server = serving().await;
    for path in ["/", "/v1/events?type=t", "/v1/rollups/departures", "/v1/events"] {
        let (get, head) = (server.get(path).await, server.request("HEAD", path, &[]).await);
        assert_eq!(head.status, get.status, "{path}");
        assert_eq!(head.headers["content-type"], get.headers["content-type"], "{path}");
        assert_eq!(head.text, "", "{path}");
    }
}

#[tokio::test]
async fn another_method_is_refused_with_those_there_are() {
    let server = serving().await;
    for path in ["/", "/v1/event", "/v1/types", "/v1/rollups", "/v1/rollups/departures"] {
        let answer = server.request("DELETE", path, &[]).await;
        assert_eq!((answer.status, answer.code().as_str()), (405, "method_not_allowed"), "{path}");
        assert_eq!(answer.headers["allow"], "GET,HEAD", "{path}");
    }
}

#[tokio::test]
async fn the_page_for_people_links_only_to_what_is_there_and_loads_nothing_from_elsewhere() {
    let server = serving().await;
    let page = server.get("/").await;
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    assert!(
        page.headers["content-security-policy"].to_str().unwrap().contains("default-src 'none'")
    );
    let links: Vec<&str> =
        page.text.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(links.contains(&"/v1/types") && links.contains(&"/v1/rollups"));
    for link in links.iter().filter(|link| !link.starts_with("data:")) {
        assert_eq!(server.get(link).await.status, 200, "{link}");
    }
    assert!(!page.text.contains("src=") && !page.text.contains("https://"));
}

#[tokio::test]
async fn a_store_that_cannot_answer_now_is_a_503_to_retry() {
    let memory = Memory::default();
    *memory.failing.lock().unwrap() = Some(StoreError::Retry("node 7 is down".into()));
    let server = Server::start(Arc::new(memory) as Store).await;
    for path in [
        "/v1/events?type=t",
        "/v1/event?source=a&id=b",
        "/v1/types",
        "/v1/rollups",
        "/v1/rollups/x",
    ] {
        let answer = server.get(path).await;
        assert_eq!((answer.status, answer.code().as_str()), (503, "store_unavailable"), "{path}");
        assert!(answer.headers.contains_key("retry-after"));
        assert!(!answer.text.contains("node 7"), "internals are for the log");
    }
}

#[tokio::test]
async fn a_store_that_is_broken_is_a_500_that_tells_no_internals() {
    let memory = Memory::default();
    *memory.failing.lock().unwrap() = Some(StoreError::Fatal("/var/secret is corrupt".into()));
    let answer = Server::start(Arc::new(memory) as Store).await.get("/v1/events?type=t").await;
    assert_eq!((answer.status, answer.code().as_str()), (500, "store_failed"));
    assert!(!answer.text.contains("secret"));
    assert!(!answer.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn a_query_past_its_deadline_is_a_504() {
    let slow = Memory { slow: Some(Duration::from_secs(30)), ..Memory::default() };
    let limits = Limits { deadline: Duration::from_millis(50), ..Limits::default() };
    let server = Server::start_with(Arc::new(slow) as Store, limits).await;
    let answer = server.get("/v1/events?type=t").await;
    assert_eq!((answer.status, answer.code().as_str()), (504, "deadline"));
}

#[tokio::test]
async fn one_query_too_many_is_told_to_come_back_and_the_page_still_answers() {
    let slow = Memory { slow: Some(Duration::from_secs(2)), ..Memory::default() };
    let limits = Limits { concurrent: 1, ..Limits::default() };
    let server = Server::start_with(Arc::new(slow) as Store, limits).await;
    let (first, second) =
        tokio::join!(server.get("/v1/events?type=t"), server.get("/v1/events?type=t"));
    let mut statuses = [first.status, second.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 503]);
    let refused = if first.status == 503 { first } else { second };
    assert_eq!(refused.code(), "busy");
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(server.get("/").await.status, 200);
}

#[tokio::test]
async fn queries_are_counted_by_route_and_status() {
    let server = serving().await;
    server.get("/v1/events?type=t").await;
    server.get("/v1/events").await;
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &server.registry).unwrap();
    for line in [
        r#"penstock_query_requests_total{route="events",status="200"} 1"#,
        r#"penstock_query_requests_total{route="events",status="400"} 1"#,
        r#"penstock_query_rows_total{route="events"} 1"#,
        r#"penstock_query_duration_seconds_count{route="events"} 2"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}
