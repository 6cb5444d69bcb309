//! What becomes of a record: copied, changed, dropped, or in the dead letters.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod harness;

use bytes::Bytes;
use eventlog::{Headers, Record};
use harness::{House, Running, event, of_unknown_schema, record};
use schemas::{Codec, Data, Registry, Unknown, topics};

/// What is no event: no headers to speak of, and bytes that are nothing.
fn junk() -> Record {
    let mut headers = Headers::builder();
    headers.push("x", b"\xff\x00").push("x", "twice");
    Record {
        key: Some(Bytes::from_static(b"k\xff")),
        value: Some(Bytes::from_static(b"\x00\x01\xff")),
        headers: headers.build(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_steps_records_are_copied_byte_for_byte_even_if_they_are_no_events() {
    let house = House::new().await;
    let good = record(&house.codec, &event("e1", "{ \"n\": 1.0 }"));
    let tombstone = Record { value: None, ..good.clone() };
    house.append(vec![good.clone(), junk(), tombstone.clone()]).await;
    let running = Running::start(house.runner(None));
    let mut copies: Vec<_> =
        house.wait_for(topics::CLEAN, 3).await.into_iter().map(|s| s.record).collect();
    running.stop().await.unwrap();
    for original in [good, junk(), tombstone] {
        let at = copies.iter().position(|copy| *copy == original).expect("it was copied");
        copies.remove(at);
    }
    assert_eq!(copies, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_event_keeps_its_key_and_headers_that_are_not_the_events() {
    let house = House::new().await;
    let mut original = record(&house.codec, &event("e1", r#"{"n":1}"#));
    let mut headers = original.headers.to_builder();
    headers.push("traceparent", "00-1-2-01");
    original.headers = headers.build();
    house.append(vec![original.clone()]).await;
    let running = Running::start(house.runner(Some(".subject = \"new\"\n.data.n = 2")));
    let clean = house.wait_for(topics::CLEAN, 1).await;
    running.stop().await.unwrap();
    assert_eq!(clean[0].record.key, original.key);
    assert_eq!(clean[0].record.headers.get_str("traceparent"), Some("00-1-2-01"));
    let after = house.codec.decode(&clean[0].record).unwrap();
    assert_eq!(after.subject.as_deref(), Some("new"));
    assert_eq!(after.data, Data::Json(Bytes::from_static(br#"{"n":2}"#)));
}

#[tokio::test(flavor = "multi_thread")]
async fn children_are_written_under_their_parents_key_and_named_after_it() {
    let house = House::new().await;
    house.post([event("p", r#"{"items":[1,2,3]}"#)]).await;
    let program = r#"
        items = array!(.data.items)
        parent = .
        . = map_values(items) -> |item| { merge(parent, {"data": item}) }
    "#;
    let running = Running::start(house.runner(Some(program)));
    let clean = house.wait_for(topics::CLEAN, 3).await;
    running.stop().await.unwrap();
    let ids: Vec<_> = clean.iter().map(|s| schemas::identity_of(&s.record).unwrap().2).collect();
    assert_eq!(ids, ["p", "p/1", "p/2"]);
    assert!(clean.iter().all(|stored| stored.record.key == clean[0].record.key));
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_events_go_nowhere_and_are_counted_by_reason() {
    let house = House::new().await;
    house.post([event("e1", r#"{"n":1}"#), event("e2", r#"{"n":2}"#)]).await;
    let running = Running::start(house.runner(Some("if .data.n == 1 { abort \"first\" }")));
    house.wait_for(topics::CLEAN, 1).await;
    house.wait_until_read("clean").await;
    running.stop().await.unwrap();
    assert_eq!(house.all(topics::DEAD_LETTERS).await.len(), 0);
    let verdict = house.metric(&["verdicts_total", "step=\"remap\"", "drop", "first"]);
    assert!(verdict.len() == 1 && verdict[0].ends_with(" 1"), "{verdict:?}");
    for outcome in ["emitted", "dropped"] {
        let line = house.metric(&["records_total", outcome]);
        assert!(line[0].ends_with(" 1"), "{line:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_record_is_in_the_dead_letters_byte_for_byte_with_its_origin() {
    let house = House::new().await;
    house.post(harness::events(0..20)).await;
    house.post([event("bad", r#"{ "n":  "many" }"#)]).await;
    let running = Running::start(house.runner(Some(".data.n = to_int!(.data.n)")));
    let letters = house.wait_for(topics::DEAD_LETTERS, 1).await;
    running.stop().await.unwrap();
    let raw = house.all(topics::RAW).await;
    let (partition, original) =
        raw.iter().find(|(_, s)| schemas::identity_of(&s.record).unwrap().2 == "bad").unwrap();
    let letter = &letters[0].record;
    assert_eq!((&letter.key, &letter.value), (&original.record.key, &original.record.value));
    for (name, value) in original.record.headers.iter() {
        assert_eq!(letter.headers.get(name), Some(value), "{name}");
    }
    let header = |name: &str| letter.headers.get_str(&format!("__connect.errors.{name}")).unwrap();
    assert_eq!(header("topic"), topics::RAW);
    assert_eq!(header("partition"), partition.to_string());
    assert_eq!(header("offset"), original.offset.to_string());
    assert_eq!(header("connector.name"), "clean");
    assert_eq!(header("stage"), "remap");
    assert_eq!(header("exception.class.name"), "remap_error");
    assert!(header("exception.message").contains("to_int"), "{}", header("exception.message"));
    assert_eq!(house.times_by_id().await.len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_no_event_is_dead_lettered_as_undecodable() {
    let house = House::new().await;
    house.append(vec![junk()]).await;
    let running = Running::start(house.runner(Some("true")));
    let letters = house.wait_for(topics::DEAD_LETTERS, 1).await;
    running.stop().await.unwrap();
    let letter = &letters[0].record;
    assert_eq!((&letter.key, &letter.value), (&junk().key, &junk().value));
    assert_eq!(reason(letter), ("decode", "undecodable"));
    assert_eq!(house.metric(&["verdicts_total", "decode", "reject", "undecodable"]).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_nobody_knows_is_dead_lettered_and_stops_nothing() {
    let house = House::new().await;
    let good = event("good", "{}");
    let record = of_unknown_schema(&house.codec);
    house.append(vec![record]).await;
    house.post([good]).await;
    let running = Running::start(house.runner(Some("true")));
    let letters = house.wait_for(topics::DEAD_LETTERS, 1).await;
    house.wait_for(topics::CLEAN, 1).await;
    running.stop().await.unwrap();
    assert_eq!(reason(&letters[0].record), ("decode", "unknown_schema"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_fits_no_schema_is_dead_lettered_with_a_pointer() {
    let open = House::new().await;
    let house = House::with(Unknown::Reject, |log| log).await;
    house.append(vec![record(&open.codec, &event("e1", "{}"))]).await;
    let running = Running::start(house.runner(Some("true")));
    let letters = house.wait_for(topics::DEAD_LETTERS, 1).await;
    running.stop().await.unwrap();
    let letter = &letters[0].record;
    assert_eq!(reason(letter), ("encode", "schema"));
    let detail = letter.headers.get_str("__connect.errors.exception.message").unwrap();
    assert!(detail.starts_with("/type: "), "{detail}");
}

const ORDER: &str = r#"{"type":"record","name":"Order","fields":[{"name":"n","type":"long"}]}"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_does_not_fit_its_types_schema_is_dead_lettered_with_a_pointer() {
    let house = House::new().await;
    house.codec.registry().unwrap().register("shop", "order.checked", ORDER).await.unwrap();
    house.post([event("bad", r#"{"n":"many"}"#), event("good", r#"{"n":1}"#)]).await;
    let running = Running::start(house.runner(Some(".type = \"order.checked\"")));
    let letters = house.wait_for(topics::DEAD_LETTERS, 1).await;
    let clean = house.wait_for(topics::CLEAN, 1).await;
    running.stop().await.unwrap();
    let letter = &letters[0].record;
    assert_eq!(reason(letter), ("encode", "schema"));
    let detail = letter.headers.get_str("__connect.errors.exception.message").unwrap();
    assert!(detail.starts_with("/data/n: "), "{detail}");
    assert_eq!(clean[0].record.value.as_ref().unwrap()[0], 0, "Confluent framing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_registered_after_the_processor_started_is_fetched_and_the_event_passes() {
    let house = House::new().await;
    let mut runner = house.runner(Some(".data.n = 2"));
    let registry = Registry::open(house.log.clone()).await.unwrap();
    runner.codec = Codec::new(registry, Unknown::Accept);
    let running = Running::start(runner);
    house.codec.registry().unwrap().register("shop", "order.placed", ORDER).await.unwrap();
    house.post([event("e1", r#"{"n":1}"#)]).await;
    let clean = house.wait_for(topics::CLEAN, 1).await;
    running.stop().await.unwrap();
    let after = house.codec.decode(&clean[0].record).unwrap();
    assert_eq!(after.data, Data::Json(Bytes::from_static(br#"{"n":2}"#)));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_child_that_cannot_be_written_takes_the_others_with_it() {
    let house = House::new().await;
    house.post([event("p", "{}")]).await;
    let program = r#"
        big = "0123456789abcdef"
        for_each([1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18]) -> |_i, _v| { big = big + big }
        . = [., merge(., {"data": big})]
    "#;
    let running = Running::start(house.runner(Some(program)));
    let letters = house.wait_for(topics::DEAD_LETTERS, 1).await;
    running.stop().await.unwrap();
    assert_eq!(reason(&letters[0].record), ("encode", "too_large"));
    assert_eq!(house.all(topics::CLEAN).await.len(), 0);
}

fn reason(letter: &Record) -> (&str, &str) {
    let header = |name: &str| letter.headers.get_str(&format!("__connect.errors.{name}")).unwrap();
    (header("stage"), header("exception.class.name"))
}
