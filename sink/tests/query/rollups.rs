//! Rows of rollups, what is defined, and the types.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;
use serde_json::{Value, json};
use sink::{
    query::Limits,
    store::{Definition, Flush, RollupRow, Store, TopicEpoch},
};

use crate::{
    memory::Memory,
    server::{
        HOUR, NOW, PARTITIONS, Server, TOPIC, begin, departures, embedded, encode, flush, mark,
        put_rollups, row, types,
    },
};

const DAY: i64 = 24 * HOUR;

async fn serving(definition: &Definition, rows: Vec<RollupRow>) -> Server {
    let store = embedded().await;
    put_rollups(&store, definition, rows).await;
    Server::start(store).await
}

#[tokio::test]
async fn a_row_adds_up_what_all_partitions_hold() {
    let d = departures();
    let server = serving(
        &d,
        vec![
            row(&d, HOUR, HOUR, r#"["UA",7]"#, 0, 3, &[10.0, -4.0]),
            row(&d, HOUR, HOUR, r#"["UA",7]"#, 2, 1, &[1.5]),
        ],
    )
    .await;
    assert_eq!(
        server.get("/v1/rollups/departures?window=1h").await.text,
        r#"{"rows":[{"start":"1970-01-01T01:00:00Z","carrier":"UA","gate":7,"count":4,"delay_sum":7.5,"delay_min":-4,"delay_max":10,"delay_avg":2.5}]}"#
    );
}

#[tokio::test]
async fn a_group_without_numbers_has_no_average_and_no_extremes() {
    let d = departures();
    let server = serving(&d, vec![row(&d, HOUR, 0, r#"[null,true]"#, 0, 2, &[])]).await;
    let answer = server.json("/v1/rollups/departures?window=1h").await;
    assert_eq!(
        answer["rows"][0],
        json!({
            "start": "1970-01-01T00:00:00Z", "carrier": null, "gate": true, "count": 2,
            "delay_sum": 0, "delay_min": null, "delay_max": null, "delay_avg": null
        })
    );
}

#[tokio::test]
async fn only_what_the_definition_shows_is_shown() {
    let mut d = departures();
    d.measures.get_mut("delay").unwrap().of = vec!["avg".into()];
    let server = serving(&d, vec![row(&d, HOUR, 0, r#"["UA",1]"#, 0, 1, &[3.0])]).await;
    let answer = server.json("/v1/rollups/departures?window=1h").await;
    let columns: Vec<&String> = answer["rows"][0].as_object().unwrap().keys().collect();
    assert_eq!(columns, ["carrier", "count", "delay_avg", "gate", "start"]);
}

#[tokio::test]
async fn the_range_says_which_windows_by_their_starts() {
    let d = departures();
    let rows = (0..5).map(|n| row(&d, HOUR, n * HOUR, r#"["UA",1]"#, 0, 1, &[1.0])).collect();
    let server = serving(&d, rows).await;
    let answer = server
        .json("/v1/rollups/departures?window=1h&from=1970-01-01T01:00:00Z&to=1970-01-01T03:00:00Z")
        .await;
    let starts: Vec<&str> =
        answer["rows"].as_array().unwrap().iter().map(|r| r["start"].as_str().unwrap()).collect();
    assert_eq!(starts, ["1970-01-01T01:00:00Z", "1970-01-01T02:00:00Z"]);
}

#[tokio::test]
async fn without_a_window_there_is_one_row_per_group_from_the_longest_window_that_fits() {
    let d = departures();
    let mut rows = Vec::new();
    for hour in 0..48 {
        rows.push(row(&d, HOUR, hour * HOUR, r#"["UA",1]"#, (hour % 3) as u32, 1, &[1.0]));
    }
    // Days differ from their hours here, only to tell which were read.
    rows.push(row(&d, DAY, 0, r#"["UA",1]"#, 0, 100, &[100.0]));
    rows.push(row(&d, DAY, DAY, r#"["UA",1]"#, 1, 100, &[300.0]));
    rows.push(row(&d, DAY, DAY, r#"["AA",1]"#, 1, 7, &[5.0]));
    let server = serving(&d, rows).await;
    let answer = server.json("/v1/rollups/departures").await;
    assert_eq!(answer["rows"].as_array().unwrap().len(), 2);
    assert_eq!(answer["rows"][0]["carrier"], "AA");
    assert_eq!(answer["rows"][1]["count"], 200);
    assert_eq!(answer["rows"][1]["delay_avg"], 200);
    assert!(answer["rows"][1].get("start").is_none());
    let hours = server.json("/v1/rollups/departures?to=1970-01-02T02:00:00Z").await;
    assert_eq!(hours["rows"][0]["count"], 26);
}

#[tokio::test]
async fn a_range_that_cuts_a_window_is_refused_with_one_that_does_not() {
    let d = departures();
    let server = serving(&d, vec![row(&d, HOUR, 0, r#"["UA",1]"#, 0, 1, &[1.0])]).await;
    for path in [
        "/v1/rollups/departures?window=1d&from=2026-01-01T10:30:00Z&to=2026-01-03T00:00:00Z",
        "/v1/rollups/departures?from=2026-01-01T10:30:00Z&to=2026-01-03T00:00:00Z",
    ] {
        let answer = server.get(path).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "unaligned_range"), "{path}");
        let problem = answer.json();
        let (from, to) = (problem["from"].as_str().unwrap(), problem["to"].as_str().unwrap());
        let window = problem["window"].as_str().unwrap();
        let proposed = format!("/v1/rollups/departures?window={window}&from={from}&to={to}");
        server.json(&proposed).await;
    }
}

#[tokio::test]
async fn a_range_finer_than_a_microsecond_is_refused_with_one_that_is_not() {
    let d = departures();
    let server = serving(&d, vec![row(&d, HOUR, 11 * HOUR, r#"["UA",1]"#, 0, 1, &[1.0])]).await;
    for window in ["", "&window=1h"] {
        for (asked, from, to) in [
            ("from=1970-01-01T12:00:00.000000500Z", "1970-01-01T12:00:00Z", None),
            (
                "from=1970-01-01T11:00:00Z&to=1970-01-01T11:59:59.9999995Z",
                "1970-01-01T11:00:00Z",
                Some("1970-01-01T12:00:00Z"),
            ),
        ] {
            let answer = server.get(&format!("/v1/rollups/departures?{asked}{window}")).await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (400, "unaligned_range"),
                "{asked}"
            );
            let problem = answer.json();
            assert_eq!((problem["from"].as_str(), problem["to"].as_str()), (Some(from), to));
        }
    }
}

#[tokio::test]
async fn what_is_proposed_at_the_end_of_the_years_is_accepted() {
    let d = departures();
    let server = serving(&d, vec![row(&d, HOUR, 0, r#"["UA",1]"#, 0, 1, &[1.0])]).await;
    let path = "/v1/rollups/departures";
    let asked = "from=0000-01-01T00:00:01Z&to=9999-12-31T23:59:59Z";
    let problem = server.get(&format!("{path}?{asked}")).await.json();
    assert_eq!(problem["code"], "unaligned_range");
    assert_eq!(problem["from"], "0000-01-01T00:00:00Z");
    assert_eq!(problem.get("to"), None);
    assert!(problem["detail"].as_str().unwrap().contains("`from=0000-01-01T00:00:00Z`, no `to`."));
    let rows = server.json(&format!("{path}?from=0000-01-01T00:00:00Z&window=1h")).await;
    assert_eq!(rows["rows"][0]["count"], 1);
}

#[tokio::test]
async fn a_sum_past_what_a_double_holds_is_null_and_so_is_its_average() {
    let d = departures();
    let large = row(&d, HOUR, 0, r#"["UA",1]"#, 0, 3, &[1.7e308, 1.7e308, 1.7e308]);
    let answer = serving(&d, vec![large]).await.json("/v1/rollups/departures?window=1h").await;
    let row = &answer["rows"][0];
    assert_eq!((&row["delay_sum"], &row["delay_avg"]), (&Value::Null, &Value::Null));
    assert_eq!(
        (row["delay_min"].as_f64(), row["delay_max"].as_f64()),
        (Some(1.7e308), Some(1.7e308))
    );
}

#[tokio::test]
async fn a_relative_range_can_be_rounded_to_the_window() {
    let d = departures();
    let start = NOW - NOW.rem_euclid(HOUR);
    let server = serving(&d, vec![row(&d, HOUR, start, r#"["UA",1]"#, 0, 1, &[1.0])]).await;
    let answer = server.get("/v1/rollups/departures?window=1h&from=now-1h").await;
    assert_eq!(answer.code(), "unaligned_range");
    let rows = server.json("/v1/rollups/departures?window=1h&from=now-1h/1h").await;
    assert_eq!(rows["rows"].as_array().unwrap().len(), 1);
    let closed = server.json("/v1/rollups/departures?window=1h&from=now-1h/1h&to=now/1h").await;
    assert_eq!(closed["rows"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn groups_are_filtered_by_the_text_of_their_values() {
    let d = departures();
    let groups = [r#"["U A/é",7]"#, r#"["B6",7]"#, r#"[null,8]"#, r#"["null",9]"#];
    let rows = groups.map(|group| row(&d, HOUR, 0, group, 0, 1, &[1.0])).to_vec();
    let server = serving(&d, rows).await;
    let count = async |filter: &str| {
        let answer = server.json(&format!("/v1/rollups/departures?window=1h&{filter}")).await;
        answer["rows"].as_array().unwrap().len()
    };
    assert_eq!(count(&format!("group.carrier={}", encode("U A/é"))).await, 1);
    assert_eq!(count("group.gate=7").await, 2);
    assert_eq!(count("group.gate=7&group.carrier=B6").await, 1);
    assert_eq!(count("group.carrier=null").await, 2);
    assert_eq!(count("group.carrier=").await, 0);
}

#[tokio::test]
async fn a_long_value_is_found_by_the_whole_of_it_and_as_it_is_answered() {
    let d = departures();
    let whole = "z".repeat(3_000);
    let hash = xxhash_rust::xxh3::xxh3_64(whole.as_bytes());
    let kept = format!("{}~{hash:016x}", &whole[..128]);
    let group = format!(r#"["{kept}",7]"#);
    let server = serving(&d, vec![row(&d, HOUR, 0, &group, 0, 1, &[1.0])]).await;
    for wanted in [&whole, &kept] {
        let path = format!("/v1/rollups/departures?window=1h&group.carrier={}", encode(wanted));
        assert_eq!(server.json(&path).await["rows"][0]["carrier"], kept);
    }
}

#[tokio::test]
async fn pages_of_windows_and_of_groups_hold_each_row_once() {
    let d = departures();
    let mut rows = Vec::new();
    for hour in 0..40 {
        for group in 0..30 {
            for partition in 0..PARTITIONS {
                let group = format!(r#"["{group}",null]"#);
                rows.push(row(&d, HOUR, hour * HOUR, &group, partition, 1, &[1.0]));
            }
        }
    }
    let server = serving(&d, rows).await;
    let pages = server.pages("/v1/rollups/departures?window=1h&limit=7", "rows").await;
    let mut keys: Vec<String> =
        pages.concat().iter().map(|r| format!("{} {}", r["start"], r["carrier"])).collect();
    assert_eq!(keys.len(), 1200);
    assert!(pages.concat().iter().all(|r| r["count"] == PARTITIONS));
    keys.dedup();
    assert_eq!(keys.len(), 1200);
    let filtered = "/v1/rollups/departures?window=1h&limit=7&group.carrier=3";
    assert_eq!(server.pages(filtered, "rows").await.concat().len(), 40);
    let range = "/v1/rollups/departures?to=1970-01-02T16:00:00Z&limit=7";
    let groups = server.pages(range, "rows").await;
    assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [7, 7, 7, 7, 2]);
    assert!(groups.concat().iter().all(|r| r["count"] == 40 * PARTITIONS));
}

#[tokio::test]
async fn a_page_that_looks_too_long_for_its_rows_is_closed_early_and_goes_on() {
    let d = departures();
    // Ten groups in each window; the store gives a thousand rows at once.
    let number = |n: i64| row(&d, HOUR, n / 10 * HOUR, &format!("[\"{n:04}\",1]"), 0, 1, &[1.0]);
    let rows = (0..3500).map(number).collect();
    let store = embedded().await;
    put_rollups(&store, &d, rows).await;
    let limits = Limits { page_time: std::time::Duration::ZERO, ..Limits::default() };
    let server = Server::start_with(store, limits).await;
    let path = "/v1/rollups/departures?window=1h&group.carrier=0999";
    let pages = server.pages(path, "rows").await;
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [0, 1, 0, 0]);
}

#[tokio::test]
async fn a_cursor_of_a_rollup_goes_on_only_in_its_own_query() {
    let d = departures();
    let rows = (0..9).map(|n| row(&d, HOUR, n * HOUR, r#"["UA",1]"#, 0, 1, &[1.0])).collect();
    let server = serving(&d, rows).await;
    let first = server.json("/v1/rollups/departures?window=1h&limit=2&group.carrier=UA").await;
    let next = first["next"].as_str().unwrap();
    for other in [
        "window=1d&group.carrier=UA",
        "window=1h",
        "group.carrier=UA",
        "window=1h&group.gate=UA",
        "window=1h&group.carrier=UA&from=1970-01-01T00:00:00Z",
    ] {
        let answer = server.get(&format!("/v1/rollups/departures?{other}&cursor={next}")).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_cursor"), "{other}");
    }
}

#[tokio::test]
async fn definitions_are_listed_without_our_own_whether_complete_or_not() {
    let store = embedded().await;
    put_rollups(&store, &types(), Vec::new()).await;
    store.register(&departures()).await.unwrap();
    let listed = Server::start(store).await.json("/v1/rollups").await;
    let rollups = listed["rollups"].as_array().unwrap();
    assert_eq!(rollups.len(), 1);
    assert_eq!(rollups[0]["name"], "departures");
    assert_eq!(rollups[0]["type"], "flight.departed");
    assert_eq!(rollups[0]["windows"], json!(["1h", "1d"]));
    assert_eq!(rollups[0]["group_by"]["carrier"], "data.carrier");
    assert_eq!(rollups[0]["measures"]["delay"]["field"], "data.dep_delay");
    assert_eq!(rollups[0]["complete"], false);
}

#[tokio::test]
async fn of_versions_that_are_all_incomplete_the_newest_is_listed() {
    let store = embedded().await;
    begin(&store).await;
    let newer = Definition { windows: vec![DAY], ..departures() };
    store.register(&departures()).await.unwrap();
    store.register(&newer).await.unwrap();
    store.write(Arc::new(flush(0, 10))).await.unwrap();
    let listed = Server::start(store).await.json("/v1/rollups").await;
    assert_eq!(listed["rollups"].as_array().unwrap().len(), 1);
    assert_eq!(listed["rollups"][0]["windows"], json!(["1d"]));
}

#[tokio::test]
async fn an_unknown_rollup_is_not_found_and_those_there_are_are_named() {
    let server = serving(&departures(), Vec::new()).await;
    for name in ["arrivals", "_types", "%E9", "depart%2Fures"] {
        let answer = server.get(&format!("/v1/rollups/{name}")).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "rollup_not_found"), "{name}");
        assert_eq!(answer.json()["known"], json!(["departures"]));
    }
}

#[tokio::test]
async fn a_rollup_of_an_empty_pipeline_is_empty() {
    let store = embedded().await;
    store.register(&departures()).await.unwrap();
    let server = Server::start(store).await;
    assert_eq!(server.get("/v1/rollups/departures?window=1h").await.text, r#"{"rows":[]}"#);
    assert_eq!(server.get("/v1/types").await.text, r#"{"types":[]}"#);
}

#[tokio::test]
async fn a_rollup_that_misses_stored_events_is_unavailable() {
    let d = departures();
    let store = embedded().await;
    put_rollups(&store, &d, Vec::new()).await;
    let server = Server::start(store.clone()).await;
    for marks in [vec![], vec![mark(&d, 20, false)], vec![mark(&d, 19, true)]] {
        store.write(Arc::new(Flush { marks, ..flush(1, 20) })).await.unwrap();
        let answer = server.get("/v1/rollups/departures").await;
        assert_eq!((answer.status, answer.code().as_str()), (503, "rollup_incomplete"));
        assert!(answer.headers.contains_key("retry-after"));
    }
    let marks = vec![mark(&d, 20, true)];
    store.write(Arc::new(Flush { marks, ..flush(1, 20) })).await.unwrap();
    server.json("/v1/rollups/departures").await;
}

#[tokio::test]
async fn a_new_version_answers_only_once_it_is_complete() {
    let (old, mut new) = (departures(), departures());
    new.windows = vec![DAY];
    let store = embedded().await;
    put_rollups(&store, &old, vec![row(&old, DAY, 0, r#"["UA",1]"#, 0, 1, &[1.0])]).await;
    store.register(&new).await.unwrap();
    let server = Server::start(store.clone()).await;
    let count =
        async || server.json("/v1/rollups/departures?window=1d").await["rows"][0]["count"].clone();
    assert_eq!(count().await, 1);
    for partition in 0..PARTITIONS {
        let marks = vec![mark(&old, 10, true), mark(&new, 10, true)];
        let rollups = (partition == 0).then(|| row(&new, DAY, 0, r#"["UA",1]"#, 0, 2, &[1.0]));
        let rollups = rollups.into_iter().collect();
        store.write(Arc::new(Flush { marks, rollups, ..flush(partition, 10) })).await.unwrap();
    }
    assert_eq!(count().await, 2);
}

#[tokio::test]
async fn completeness_is_judged_by_the_current_epoch() {
    let d = departures();
    let store = embedded().await;
    begin(&store).await;
    store.register(&d).await.unwrap();
    store.write(Arc::new(flush(0, 10))).await.unwrap();
    let server = Server::start(store.clone()).await;
    assert_eq!(server.get("/v1/rollups/departures").await.status, 503);
    let next = TopicEpoch { epoch: 2, started_at: NOW, incarnation: None };
    store.begin_epoch(TOPIC, Some(1), next).await.unwrap();
    assert_eq!(server.get("/v1/rollups/departures").await.status, 200);
}

#[tokio::test]
async fn types_come_with_counts_and_the_span_of_their_times() {
    let d = types();
    let rows = vec![
        row(&d, 0, 0, r#"["a"]"#, 0, 2, &[1_000_000.0, 5_000_000.0]),
        row(&d, 0, 0, r#"["a"]"#, 1, 1, &[9_500_000.0]),
        row(&d, 0, 0, r#"["b\"<é>"]"#, 1, 1, &[1_356_998_400_000_001.0]),
    ];
    let server = serving(&d, rows).await;
    assert_eq!(
        server.json("/v1/types").await,
        json!({"types": [
            {"type": "a", "count": 3,
             "first": "1970-01-01T00:00:01Z", "last": "1970-01-01T00:00:09.500Z"},
            {"type": "b\"<é>", "count": 1,
             "first": "2013-01-01T00:00:00.000001Z", "last": "2013-01-01T00:00:00.000001Z"},
        ]})
    );
    assert_eq!(server.pages("/v1/types?limit=1", "types").await.len(), 2);
}

type Sums = BTreeMap<(i64, String), (u64, f64)>;

fn sums(rows: &[Value]) -> Vec<(String, u64, f64)> {
    rows.iter()
        .map(|r| {
            (
                r["carrier"].to_string(),
                r["count"].as_u64().unwrap(),
                r["delay_sum"].as_f64().unwrap(),
            )
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_paging_of_any_rollup_equals_the_plain_model(
        parts in prop::collection::btree_map((0i64..5, 0u8..6, 0u32..PARTITIONS), (1u64..9, -50i32..50), 0..80),
        from in 0i64..6, length in 0i64..6, limit in 1usize..9, by_window: bool,
    ) {
        let d = departures();
        let rows: Vec<RollupRow> = parts.iter().map(|((hour, group, partition), (count, sum))| {
            let group = format!(r#"["{group}",null]"#);
            row(&d, HOUR, hour * HOUR, &group, *partition, *count, &[f64::from(*sum)])
        }).collect();
        // The range never fits a day, so that hours are read without a window as well.
        let (from, to) = (from + 1, from + 1 + length);
        let mut expected = Sums::new();
        for row in rows.iter().filter(|row| (from * HOUR..to * HOUR).contains(&row.key.start)) {
            let start = if by_window { row.key.start } else { 0 };
            let total = expected.entry((start, row.key.group.clone())).or_default();
            *total = (total.0 + row.count, total.1 + row.measures[0].sum);
        }
        let expected: Vec<(String, u64, f64)> = expected
            .into_iter()
            .map(|((_, group), (count, sum))| (group[1..4].to_owned(), count, sum))
            .collect();
        let path = format!(
            "/v1/rollups/departures?from=1970-01-01T{from:02}:00:00Z&to=1970-01-01T{to:02}:00:00Z&limit={limit}{}",
            if by_window { "&window=1h" } else { "" },
        );
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let pages = runtime.block_on(async {
            let store: Store = Arc::new(Memory::default());
            put_rollups(&store, &d, rows).await;
            Server::start(store).await.pages(&path, "rows").await
        });
        prop_assert!(pages.iter().rev().skip(1).all(|page| page.len() == limit));
        prop_assert_eq!(sums(&pages.concat()), expected);
    }
}
