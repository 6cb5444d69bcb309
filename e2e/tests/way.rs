//! The whole way of an event, as a user sees it.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::{fs, process::Command, time::Duration};

use e2e::{
    process::{Site, binary, free_address},
    producer::post,
    reader,
};
use eventlog::{Options, Stored};
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);

async fn wait_for(site: &Site, selector: &str, count: usize) -> Vec<Value> {
    let deadline = std::time::Instant::now() + MINUTE;
    loop {
        let events = reader::all_events(site, selector).await.unwrap();
        if events.len() >= count {
            // Long enough for one too many to show.
            tokio::time::sleep(Duration::from_millis(300)).await;
            return reader::all_events(site, selector).await.unwrap();
        }
        assert!(std::time::Instant::now() < deadline, "{} of {count} events", events.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn demo(data: &std::path::Path) -> (Option<i32>, String) {
    let output = Command::new(binary())
        .args(["demo", "--once", "--listen", &free_address().to_string(), "--data"])
        .arg(data)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), format!("{said}{}", String::from_utf8_lossy(&output.stderr)))
}

#[tokio::test]
async fn the_demo_gives_the_same_numbers_twice() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let (code, said) = demo(dir.path());
        assert_eq!(code, Some(0), "{said}");
        for number in ["27,004", "521", "26,483", "4,605", "8.33", "3,989", "24.23", "265,801"] {
            assert!(said.contains(number), "{number} is missing in:\n{said}");
        }
    }
}

const PROCESSOR: &str = r#"
[[processors]]
name = "checks"
steps = [{ remap = { source = '''
if .data.n == null { abort "empty" }
.data.double = to_int!(.data.n) * 2
''' } }]
[[rollups]]
name = "numbers"
type = "t"
windows = ["1d"]
measures = { n = { field = "data.n", of = ["sum", "avg", "min", "max"] } }
"#;

fn event(id: &str, source: &str, data: Value) -> Value {
    json!({"specversion":"1.0","id":id,"source":source,"type":"t","subject":"s",
           "time":"2026-01-01T00:00:00Z","data":data})
}

async fn post_batch(site: &Site, events: &[Value]) -> (u16, Value) {
    let body = serde_json::to_vec(events).unwrap();
    post(&site.url("/v1/events"), "application/cloudevents-batch+json", body).await.unwrap()
}

#[tokio::test]
async fn events_are_transformed_dropped_rejected_and_counted() {
    let site = Site::new(PROCESSOR).unwrap();
    let node = site.start().await.unwrap();
    let events = [
        event("1", "a", json!({"n": 3})),
        event("1", "b", json!({"n": 4})),
        event("2", "a", json!({"n": null})),
        event("3", "a", json!({"n": "not a number é"})),
    ];
    assert_eq!(post_batch(&site, &events).await.0, 202);
    // Again, in another order and shape: no further effect.
    for one in events.iter().rev() {
        let body = one.to_string();
        let url = site.url("/v1/events");
        assert_eq!(post(&url, "application/cloudevents+json", body).await.unwrap().0, 202);
    }
    let stored = wait_for(&site, "type=t", 2).await;
    let seen: Vec<_> =
        stored.iter().map(|e| (e["source"].clone(), e["data"]["double"].clone())).collect();
    // Same id, same time, same type, two sources: two events, newest (largest key) first.
    assert_eq!(seen, [(json!("b"), json!(8)), (json!("a"), json!(6))]);
    assert_eq!(wait_for(&site, "subject=s", 2).await.len(), 2);
    let one = reader::get(&site.url("/v1/event?source=b&id=1")).await.unwrap();
    assert_eq!(one["data"]["n"], 4);
    let rows = reader::all_rows(&site, "/v1/rollups/numbers?window=1d").await.unwrap();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!((rows[0]["count"].as_u64(), rows[0]["n_sum"].as_f64()), (Some(2), Some(7.0)));
    let metrics = reqwest::get(format!("http://{}/metrics", site.admin)).await.unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(metrics.contains("reason=\"empty\""), "{metrics}");
    node.stop().await.unwrap();

    // What was rejected is in the dead letters, byte for byte.
    let dead = dead_letters(&site).await;
    let bodies: Vec<_> = dead.iter().map(|d| d.record.value.clone().unwrap()).collect();
    let expected = br#"{"n":"not a number \u00e9"}"#;
    assert_eq!(dead.len(), 2, "one for each time it was posted");
    for (letter, body) in dead.iter().zip(bodies) {
        let text: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(text, serde_json::from_slice::<Value>(expected).unwrap());
        let header = |name: &str| letter.record.headers.get_str(name).unwrap_or("?").to_owned();
        assert_eq!(header("ce_id"), "3");
        assert_eq!(header("__connect.errors.topic"), "events.raw");
        assert!(header("__connect.errors.partition").parse::<u32>().is_ok());
        assert!(header("__connect.errors.offset").parse::<u64>().is_ok());
        assert_eq!(header("__connect.errors.connector.name"), "checks");
        assert_eq!(header("__connect.errors.exception.class.name"), "remap_error");
        assert_eq!(header("__connect.errors.stage"), "remap");
        let (partition, offset) = (
            header("__connect.errors.partition").parse().unwrap(),
            header("__connect.errors.offset").parse().unwrap(),
        );
        let original = raw_record(&site, partition, offset).await;
        assert_eq!(original.record.value, letter.record.value, "not byte for byte");
    }
}

async fn open_log(site: &Site) -> eventlog::Log {
    let url = format!("file:{}", site.data().join("log").display());
    eventlog::open(&url, Options::default()).await.unwrap()
}

async fn dead_letters(site: &Site) -> Vec<Stored> {
    let log = open_log(site).await;
    let mut all = Vec::new();
    for partition in 0..log.topic("events.dlq").await.unwrap().partitions {
        let bounds = log.bounds("events.dlq", partition).await.unwrap();
        let mut reader = log.read("events.dlq", partition, bounds.start, bounds.end).await.unwrap();
        while let Some((records, _)) = reader.next().await.unwrap() {
            all.extend(records);
        }
    }
    all
}

async fn raw_record(site: &Site, partition: u32, offset: u64) -> Stored {
    let log = open_log(site).await;
    let mut reader = log.read("events.raw", partition, offset, offset + 1).await.unwrap();
    reader.next().await.unwrap().unwrap().0.remove(0)
}

const ORDER: &str = r#"{"type":"record","name":"Order","fields":[{"name":"n","type":"int"}]}"#;

#[tokio::test]
async fn unknown_fields_are_refused_or_left_out_as_the_configuration_says() {
    for (setting, status, stored) in [("reject", 422, 0), ("drop", 202, 1)] {
        let schemas = format!(
            "[schemas]\nunknown_fields = \"{setting}\"\n[schemas.register]\nt = \"t.avsc\"\n"
        );
        let site = Site::new(&schemas).unwrap();
        fs::write(site.dir.path().join("t.avsc"), ORDER).unwrap();
        let node = site.start().await.unwrap();
        let (answer, body) = post_batch(&site, &[event("1", "a", json!({"n": 1, "m": 2}))]).await;
        assert_eq!(answer, status, "{body}");
        if status == 422 {
            assert_eq!(body["errors"][0]["code"], "unknown_field", "{body}");
            assert_eq!(body["errors"][0]["pointer"], "/data/m", "{body}");
        }
        let events = wait_for(&site, "type=t", stored).await;
        let data: Vec<_> = events.iter().map(|event| &event["data"]).collect();
        assert_eq!(data, vec![&json!({"n": 1}); stored]);
        node.stop().await.unwrap();
    }
}

#[tokio::test]
async fn refused_requests_are_in_the_log_by_their_id_and_without_their_data() {
    let site = Site::new("").unwrap();
    let node = site.start().await.unwrap();
    let client = reqwest::Client::new();
    for (id, body) in
        [("bad-1", "{\"secret-data\""), ("good-1", "{\"source\":\"a\",\"type\":\"t\"}")]
    {
        let request = client.post(site.url("/v1/events?token=secret-token"));
        let request = request.header("x-request-id", id).header("content-type", "application/json");
        let answer = request.body(body).send().await.unwrap();
        assert_eq!(answer.headers()["x-request-id"], id);
    }
    let said = node.said();
    node.stop().await.unwrap();
    let line = said.lines().find(|line| line.contains("bad-1")).unwrap_or_else(|| panic!("{said}"));
    assert!(line.contains("/v1/events") && line.contains("400"), "{line}");
    assert!(!said.contains("secret") && !said.contains("good-1"), "{said}");
}

#[tokio::test]
async fn a_retry_beyond_the_window_counts_once() {
    let site = Site::new("[sink]\nwindow_records = 64\nwarm_records = 64").unwrap();
    let node = site.start().await.unwrap();
    let first = [event("first", "a", json!({"n": 1}))];
    // Dated now, so that a window could vouch for it if it were large enough.
    let now = |mut e: Value| {
        e.as_object_mut().unwrap().remove("time");
        e
    };
    post_batch(&site, &first).await;
    post_batch(&site, &[now(event("undated", "a", json!({"n": 1})))]).await;
    let others: Vec<_> = (0..2000).map(|n| event(&format!("o{n}"), "a", json!({"n": n}))).collect();
    post_batch(&site, &others).await;
    wait_for(&site, "type=t", 2002).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(post_batch(&site, &first).await.0, 202);
    assert_eq!(post_batch(&site, &[now(event("undated", "a", json!({"n": 1})))]).await.0, 202);
    post_batch(&site, &[event("last", "a", json!({"n": 1}))]).await;
    let stored = wait_for(&site, "type=t", 2003).await;
    assert_eq!(stored.len(), 2003);
    let types = reader::get(&site.url("/v1/types")).await.unwrap();
    assert_eq!(types["types"][0]["count"], 2003, "{types}");
    node.stop().await.unwrap();
}

#[tokio::test]
async fn post_sends_a_file_and_keeps_what_was_rejected() {
    let site = Site::new("").unwrap();
    let node = site.start().await.unwrap();
    let file = site.dir.path().join("events.ndjson");
    let mut lines: Vec<_> =
        (0..1000).map(|n| event(&format!("p{n}"), "a", json!({"n": n})).to_string()).collect();
    lines.insert(500, "{\"specversion\":\"1.0\",\"source\":\"a\",\"type\":\"t\"}".into());
    fs::write(&file, lines.join("\n")).unwrap();
    for _ in 0..2 {
        let output = Command::new(binary())
            .args(["post", "--url", &format!("http://{}", site.http)])
            .arg(&file)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        let rejects = fs::read_to_string(site.dir.path().join("events.ndjson.rejects.ndjson"));
        assert_eq!(rejects.unwrap().lines().count(), 1);
    }
    assert_eq!(wait_for(&site, "type=t", 1000).await.len(), 1000);
    node.stop().await.unwrap();
}
