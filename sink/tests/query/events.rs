//! Lists of events and single ones.

use std::sync::Arc;

use proptest::{prelude::*, test_runner::TestRunner};
use schemas::{Data, Event, Extension, Timestamp};
use serde_json::{Value, json};
use sink::{query::Limits, store::Store};

use crate::{
    memory::Memory,
    server::{HOUR, NOW, Server, embedded, encode, event, put_events},
};

async fn serving(events: Vec<Event>) -> Server {
    let store = embedded().await;
    put_events(&store, events).await;
    Server::start(store).await
}

fn ids(pages: &[Vec<Value>]) -> Vec<String> {
    let name = |event: &Value| format!("{} {}", event["source"], event["id"]);
    pages.iter().flatten().map(name).collect()
}

/// Three sources whose ids collide, a thousand events each, in only four different times.
fn crowded() -> Vec<Event> {
    (0..3000)
        .map(|n| event("t", &format!("/s{}", n % 3), &format!("{:04}", n / 3), NOW + (n / 3) % 4))
        .collect()
}

fn in_order(mut events: Vec<Event>) -> Vec<String> {
    events
        .sort_by(|a, b| (a.time.micros, &a.source, &a.id).cmp(&(b.time.micros, &b.source, &b.id)));
    events.iter().map(|e| format!("{:?} {:?}", e.source, e.id)).collect()
}

#[tokio::test]
async fn pages_in_ascending_order_hold_every_event_of_equal_times_once() {
    let server = serving(crowded()).await;
    let pages = server.pages("/v1/events?type=t&order=asc&limit=77", "events").await;
    assert_eq!(ids(&pages), in_order(crowded()));
}

#[tokio::test]
async fn pages_in_descending_order_hold_the_same_backwards() {
    let server = serving(crowded()).await;
    let pages = server.pages("/v1/events?type=t&limit=1000", "events").await;
    let mut expected = in_order(crowded());
    expected.reverse();
    assert_eq!(ids(&pages), expected);
}

#[tokio::test]
async fn next_is_absent_when_the_last_page_is_exactly_full() {
    let server = serving((0..20).map(|n| event("t", "/s", &n.to_string(), n)).collect()).await;
    let pages = server.pages("/v1/events?type=t&limit=10", "events").await;
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10]);
}

#[tokio::test]
async fn a_page_holds_a_hundred_unless_asked_otherwise() {
    let server = serving(crowded()).await;
    let page = server.json("/v1/events?type=t").await;
    assert_eq!(page["events"].as_array().unwrap().len(), 100);
}

#[tokio::test]
async fn from_is_in_the_range_and_to_is_not() {
    let server = serving((0..5).map(|n| event("t", "/s", &n.to_string(), n * 1_000_000)).collect());
    let page = server
        .await
        .json(
            "/v1/events?type=t&from=1970-01-01T00:00:01Z&to=1970-01-01T01:00:03%2B01:00&order=asc",
        )
        .await;
    assert_eq!(ids(&[page["events"].as_array().unwrap().clone()]), [r#""/s" "1""#, r#""/s" "2""#]);
}

/// Events of a second that end in so many digits, which are their ids too.
fn fractions(digits: &[&str]) -> Vec<Event> {
    let of = |digits: &&str| Event {
        time: Timestamp::parse(&format!("2026-11-01T00:00:00.{digits}Z")).unwrap(),
        ..event("t", "/s", digits, 0)
    };
    digits.iter().map(of).collect()
}

#[tokio::test]
async fn a_range_finer_than_a_microsecond_holds_what_it_says_on_every_page() {
    let digits =
        ["000000", "0000001", "000000100", "000000500", "0000005000001", "000000900", "000001"];
    let server = serving(fractions(&digits)).await;
    for (range, expected) in [
        ("from=2026-11-01T00:00:00.000000500Z", &digits[3..]),
        ("to=2026-11-01T00:00:00.000000500Z", &digits[..3]),
        ("from=2026-11-01T00:00:00.0000005Z&to=2026-11-01T00:00:00.0000009Z", &digits[3..5]),
        ("from=2026-11-01T00:00:00.0000009Z&to=2026-11-01T01:00:00.000001%2B01:00", &digits[5..6]),
        ("from=2026-11-01T00:00:00.0000005Z&to=2026-11-01T00:00:00.0000005Z", &[]),
    ] {
        for order in ["asc", "desc"] {
            let path = format!("/v1/events?type=t&{range}&order={order}&limit=1");
            let pages = server.pages(&path, "events").await.concat();
            let mut ids: Vec<&str> = pages.iter().map(|e| e["id"].as_str().unwrap()).collect();
            ids.sort_unstable();
            assert_eq!(ids, expected, "{path}");
        }
    }
}

#[tokio::test]
async fn within_a_microsecond_source_and_id_order() {
    let mut events = fractions(&["000000900", "000000500", "000000100", "000001"]);
    for (event, id) in events.iter_mut().zip(["a", "m", "z", "0"]) {
        event.id = id.into();
    }
    let page = serving(events).await.json("/v1/events?type=t&order=asc").await;
    let ids: Vec<&Value> = page["events"].as_array().unwrap().iter().map(|e| &e["id"]).collect();
    assert_eq!(ids, ["a", "m", "z", "0"]);
}

#[tokio::test]
async fn a_cursor_goes_on_only_in_a_range_of_the_same_digits() {
    let server = serving(fractions(&["0000001", "0000002", "0000003"])).await;
    let path = "/v1/events?type=t&limit=1&from=2026-11-01T00:00:00.0000001";
    let first = server.json(&format!("{path}Z")).await;
    let next = first["next"].as_str().unwrap();
    assert_eq!(server.get(&format!("{path}5Z&cursor={next}")).await.code(), "invalid_cursor");
    server.json(&format!("{path}0Z&cursor={next}")).await;
}

#[tokio::test]
async fn relative_times_stay_what_they_were_on_the_first_page() {
    use std::sync::atomic::{AtomicI64, Ordering};
    static CLOCK: AtomicI64 = AtomicI64::new(NOW);
    let store = embedded().await;
    put_events(&store, (0..4).map(|n| event("t", "/s", &n.to_string(), NOW - HOUR + n)).collect())
        .await;
    let server = Server::start_at(store, || CLOCK.load(Ordering::Relaxed)).await;
    let path = "/v1/events?type=t&from=now-1h&order=asc&limit=2";
    let first = server.json(path).await;
    CLOCK.fetch_add(HOUR, Ordering::Relaxed);
    let second = server.json(&format!("{path}&cursor={}", first["next"].as_str().unwrap())).await;
    assert_eq!(second["events"][0]["id"], "2");
}

#[tokio::test]
async fn a_list_by_subject_or_of_one_source_holds_only_those() {
    let mut events: Vec<Event> =
        (0..300).map(|n| event("t", &format!("/s{}", n % 3), &n.to_string(), n)).collect();
    events[7].subject = Some("N1 é".into());
    let server = serving(events).await;
    let page = server.json(&format!("/v1/events?subject={}", encode("N1 é"))).await;
    assert_eq!(page["events"][0]["id"], "7");
    assert_eq!(page["events"].as_array().unwrap().len(), 1);
    let pages = server.pages("/v1/events?type=t&source=/s1&limit=30", "events").await;
    assert_eq!(pages.concat().len(), 100);
    assert!(pages.concat().iter().all(|event| event["source"] == "/s1"));
}

#[tokio::test]
async fn an_event_is_answered_as_structured_cloudevents() {
    let mut sample = event("t", "/s", "1", 0);
    sample.subject = Some("x".into());
    sample.extensions.insert("flag".into(), Extension::Boolean(true));
    sample.extensions.insert("text".into(), "5".into());
    sample.extensions.insert("number".into(), Extension::Integer(-5));
    let mut binary = event("t", "/s", "2", 1);
    binary.data = Data::Bytes(vec![0, 255].into());
    binary.data_content_type = Some("application/octet-stream".into());
    let server = serving(vec![sample, binary]).await;
    let page = server.json("/v1/events?type=t&order=asc").await;
    assert_eq!(
        page["events"][0],
        json!({
            "specversion": "1.0", "id": "1", "source": "/s", "type": "t", "subject": "x",
            "time": "1970-01-01T00:00:00Z", "flag": true, "text": "5", "number": -5, "data": {"n": 1}
        })
    );
    assert_eq!(page["events"][1]["data_base64"], "AP8=");
}

#[tokio::test]
async fn one_event_is_found_whatever_its_id_is_made_of() {
    let odd = ["a/b", "?&=#%", "é 日本 🛫", "+", "\"\\\n"];
    let server = serving(odd.iter().map(|id| event("t", "urn:x/é", id, 0)).collect()).await;
    for id in odd {
        let path = format!("/v1/event?source={}&id={}", encode("urn:x/é"), encode(id));
        assert_eq!(server.json(&path).await["id"], id);
    }
}

#[tokio::test]
async fn an_event_of_another_source_is_not_found() {
    let server = serving(vec![event("t", "/s", "1", 0)]).await;
    let answer = server.get("/v1/event?source=/other&id=1").await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "event_not_found"));
}

#[tokio::test]
async fn a_list_of_what_is_not_there_is_empty() {
    let server = Server::start(embedded().await).await;
    assert_eq!(server.get("/v1/events?type=t").await.text, r#"{"events":[]}"#);
}

#[tokio::test]
async fn a_cursor_goes_on_only_in_its_own_query() {
    let server = serving(crowded()).await;
    let next = server.json("/v1/events?type=t&from=now-1d").await["next"].clone();
    let next = next.as_str().unwrap();
    for other in [
        "type=u&from=now-1d",
        "subject=t&from=now-1d",
        "type=t",
        "type=t&from=now-2d",
        "type=t&from=now-1d/1h",
        "type=t&from=now-1d&to=now",
        "type=t&from=now-1d&order=asc",
        "type=t&from=now-1d&source=/s1",
    ] {
        let answer = server.get(&format!("/v1/events?{other}&cursor={next}")).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_cursor"), "{other}");
    }
    server.json(&format!("/v1/events?from=now-1d&limit=5&type=t&cursor={next}")).await;
}

#[tokio::test]
async fn a_cursor_that_was_changed_is_refused() {
    let server = serving(crowded()).await;
    let next = server.json("/v1/events?type=t").await["next"].as_str().unwrap().to_owned();
    let swapped: String = next.chars().rev().collect();
    for bad in ["", "x", "%00", &next[1..], &next[..next.len() - 1], &swapped] {
        let answer = server.get(&format!("/v1/events?type=t&cursor={bad}")).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_cursor"), "{bad}");
    }
}

#[tokio::test]
async fn a_page_of_large_events_is_closed_early_and_goes_on() {
    let large = |n: i64| {
        let mut event = event("t", "/s", &format!("{n:03}"), n);
        event.data = Data::Json(format!(r#""{}""#, "x".repeat(10_000)).into());
        event
    };
    let store = embedded().await;
    put_events(&store, (0..100).map(large).collect()).await;
    let limits = Limits { page_bytes: 50_000, ..Limits::default() };
    let server = Server::start_with(store, limits).await;
    let pages = server.pages("/v1/events?type=t&order=asc", "events").await;
    assert!(pages.iter().all(|page| page.len() <= 20), "first step of 16 and no more");
    assert_eq!(ids(&pages), in_order((0..100).map(large).collect()));
}

#[tokio::test]
async fn a_page_that_looks_too_long_for_its_rows_is_closed_early_and_goes_on() {
    let store = Memory { share: Some(1), ..Memory::default() };
    let store: Store = Arc::new(store);
    put_events(&store, (0..30).map(|n| event("t", &format!("/s{n}"), "1", n)).collect()).await;
    let limits = Limits { page_time: std::time::Duration::ZERO, ..Limits::default() };
    let server = Server::start_with(store, limits).await;
    let pages = server.pages("/v1/events?type=t&source=/s3", "events").await;
    assert_eq!(pages.len(), 30);
    assert_eq!(pages.concat().len(), 1);
}

type Drawn = (Vec<(u8, u8, u8, i64)>, (i64, i64, usize, usize), (bool, bool, bool));

#[test]
fn any_paging_of_any_events_equals_the_plain_model() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let disk = runtime.block_on(embedded());
    let cases = std::cell::Cell::new(0);
    let anything = (
        prop::collection::vec((0u8..3, 0u8..4, 0u8..9, 0i64..6), 0..120),
        (0i64..7, 0i64..7, 1usize..9, 1usize..40),
        (any::<bool>(), any::<bool>(), any::<bool>()),
    );
    let holds =
        |(drawn, (from, length, limit, share), (descending, one_source, on_disk)): Drawn| {
            cases.set(cases.get() + 1);
            let namespace = format!("case {}", cases.get());
            let mut events: Vec<Event> = Vec::new();
            for (source, id, more, time) in drawn {
                let id = format!("{id}/{more}");
                let mut event = event(&format!("t{}", more % 2), &format!("/{source}"), &id, time);
                event.namespace = namespace.as_str().into();
                if !events.iter().any(|e| e.source == event.source && e.id == event.id) {
                    events.push(event);
                }
            }
            let to = from + length;
            let fits = |event: &&Event| {
                event.kind == "t1"
                    && (from..to).contains(&event.time.micros)
                    && (!one_source || event.source == "/1")
            };
            let mut expected = in_order(events.iter().filter(fits).cloned().collect());
            if descending {
                expected.reverse();
            }
            let micros = |at: i64| encode(&schemas::Timestamp::from_micros(at).text);
            let path = format!(
                "/v1/events?type=t1&from={}&to={}&limit={limit}&order={}{}",
                micros(from),
                micros(to),
                if descending { "desc" } else { "asc" },
                if one_source { "&source=/1" } else { "" },
            );
            let pages = runtime.block_on(async {
                let short =
                    || Arc::new(Memory { share: Some(share), ..Memory::default() }) as Store;
                let store = if on_disk { disk.clone() } else { short().into() };
                put_events(&store, events).await;
                Server::start_for(store, &namespace).await.pages(&path, "events").await
            });
            prop_assert_eq!(ids(&pages), expected);
            Ok(())
        };
    TestRunner::new(ProptestConfig::with_cases(64)).run(&anything, holds).unwrap();
}
