//! Real flights through separate processes on Kafka and Cassandra, and a record that nobody can read.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    collections::BTreeMap, fmt::Write, io::Read, path::Path, process::Command, time::Duration,
};

use e2e::{
    backends::Kafka,
    chance::seed,
    cluster::{self, Cluster, PARTITIONS, Replicas, Role},
    process::{binary, free_address},
    producer::{Load, STEADY},
    reader::{self, Pipeline, TICKS},
    topic,
};
use serde_json::json;

const MINUTE: Duration = Duration::from_secs(60);

/// A file of the demo.
fn bundled(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).canonicalize().unwrap()
}

/// The demo's pipeline, as a user would write it.
fn flights() -> String {
    format!(
        r#"
        [schemas.register]
        "flight.departed" = "{}"
        [[processors]]
        name = "flights"
        steps = [{{ remap = "{}" }}]
        [[rollups]]
        name = "departures"
        type = "flight.departed"
        windows = ["1h", "1d"]
        group_by = {{ carrier = "data.carrier" }}
        measures = {{ delay = {{ field = "data.dep_delay", of = ["sum", "min", "max", "avg"] }} }}
        "#,
        bundled("schemas/avro/flight.departed.avsc").display(),
        bundled("penstock/demo/flights.vrl").display(),
    )
}

/// The rows of January 2013, one event a line.
fn rows() -> String {
    let packed = std::fs::File::open(bundled("penstock/demo/flights.csv.gz")).unwrap();
    let mut table = String::new();
    flate2::read::GzDecoder::new(packed).read_to_string(&mut table).unwrap();
    let mut reader = csv::Reader::from_reader(table.as_bytes());
    let mut lines = String::new();
    for row in reader.deserialize::<BTreeMap<String, String>>() {
        let row = row.unwrap();
        let id = ["carrier", "flight", "year", "month", "day", "origin"].map(|c| row[c].as_str());
        let event = json!({
            "specversion": "1.0", "id": id.join("-"), "source": "nycflights13",
            "type": "flight.row", "subject": row["carrier"], "time": row["time_hour"], "data": row,
        });
        writeln!(lines, "{event}").unwrap();
    }
    lines
}

/// Departures and the sum of their delays by carrier, from a rollup's rows.
async fn departures(cluster: &Cluster, query: &str) -> BTreeMap<String, (u64, f64)> {
    let mut carriers = BTreeMap::new();
    let range = "from=2013-01-01T00:00:00Z&to=2013-02-04T00:00:00Z";
    let path = format!("/v1/rollups/departures?{range}{query}");
    for row in reader::all_rows(cluster, &path).await.unwrap() {
        let entry = carriers.entry(row["carrier"].as_str().unwrap().to_owned()).or_insert((0, 0.0));
        entry.0 += row["count"].as_u64().unwrap();
        entry.1 += row["delay_sum"].as_f64().unwrap();
    }
    carriers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_of_flights_gives_the_known_numbers_behind_a_load_balancer() {
    let Some(cql) = cluster::possible() else { return };
    let _turn = cluster::turn().await;
    let kafka = Kafka::start(1).unwrap();
    let cluster =
        Cluster::start(&kafka.servers, &cql, Replicas::default(), &flights()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("flights.ndjson");
    std::fs::write(&file, rows()).unwrap();
    // Twice, because a retry of everything must change nothing.
    for _ in 0..2 {
        let mut post = Command::new(binary());
        post.arg("post").arg(&file).args(["--url", &cluster.url("")]);
        let posted = tokio::task::block_in_place(|| post.output()).unwrap();
        let said = String::from_utf8_lossy(&posted.stderr).into_owned();
        assert!(posted.status.success(), "{said}");
    }
    let deadline = std::time::Instant::now() + 2 * MINUTE;
    let by_day = loop {
        let by_day = departures(&cluster, "&window=1d").await;
        let count: u64 = by_day.values().map(|(count, _)| count).sum();
        let sunk = cluster.metric(Role::Sink, "penstock_sink_records_total", "").await.unwrap();
        if count >= 26_483 && sunk >= 2 * 26_483 {
            break by_day;
        }
        assert!(std::time::Instant::now() < deadline, "{count} departures, {sunk} records sunk");
        tokio::time::sleep(Duration::from_millis(300)).await;
    };
    let total = by_day.values().fold((0, 0.0), |all, one| (all.0 + one.0, all.1 + one.1));
    assert_eq!(total, (26_483, 265_801.0));
    let mean = |carrier: &str| format!("{:.4}", by_day[carrier].1 / by_day[carrier].0 as f64);
    for (carrier, count, delay) in [
        ("UA", 4_605, "8.3262"),
        ("B6", 4_418, "9.4934"),
        ("EV", 3_989, "24.2289"),
        ("DL", 3_661, "3.8498"),
        ("AA", 2_735, "6.9324"),
    ] {
        assert_eq!((by_day[carrier].0, mean(carrier).as_str()), (count, delay), "{carrier}");
    }
    assert_eq!(departures(&cluster, "&window=1h").await, by_day);
    assert_eq!(departures(&cluster, "").await, by_day);
    let verdicts = "penstock_processor_verdicts_total";
    let dropped = cluster.metric(Role::Processor, verdicts, "reason=\"cancelled\"").await.unwrap();
    assert_eq!(dropped, 2 * 521);
    let types = reader::get(&cluster.url("/v1/types")).await.unwrap();
    assert_eq!(types["types"][0]["count"], 26_483, "{types}");
    assert!(topic::records(&kafka.servers, "events.dlq").unwrap().is_empty());
    assert!(cluster.exits().is_empty(), "{:?}", cluster.exits());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_gives_the_same_numbers_on_a_log_and_a_store_of_others() {
    let Some(cql) = cluster::possible() else { return };
    let _turn = cluster::turn().await;
    let kafka = Kafka::start(1).unwrap();
    let mut demo = Command::new(binary());
    demo.args(["demo", "--once", "--listen", &free_address().to_string()])
        .args(["--log", &format!("kafka://{}", kafka.servers)])
        .args(["--store", &format!("scylla://{cql}/demo_{}", fastrand::u32(..))]);
    let output = tokio::task::block_in_place(|| demo.output()).unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    for number in ["27,004", "521", "26,483", "4,605", "8.33", "3,989", "24.23", "265,801"] {
        assert!(said.contains(number), "{number} is missing in:\n{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_no_one_can_decode_goes_to_the_dead_letters_and_the_flow_goes_on() {
    let Some(cql) = cluster::possible() else { return };
    let _turn = cluster::turn().await;
    let kafka = Kafka::start(1).unwrap();
    let one = Replicas { ingest: 1, processors: 1, sinks: 1, query: 1, named: false };
    // A step has to decode what it reads; a mere copy would leave it to the sink.
    let step = "[[processors]]\nname = \"step\"\nsteps = [{ remap = { source = \".data.seen = true\" } }]\n";
    let more = format!("{step}{TICKS}");
    let cluster = Cluster::start(&kafka.servers, &cql, one, &more).await.unwrap();
    let load = Load::paced(cluster.url("/v1/events"), "poison", STEADY, seed());
    tokio::time::sleep(Duration::from_secs(1)).await;
    for partition in 0..PARTITIONS {
        let payload = format!("\u{1}no event at all, in partition {partition}");
        topic::write(&kafka.servers, "events.raw", partition, payload.as_bytes()).unwrap();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let outcome = load.stop().await;
    assert!(outcome.acknowledged.len() > 300, "only {} events", outcome.acknowledged.len());
    reader::check(&cluster, &outcome, MINUTE).await.unwrap();
    let letters = topic::records(&kafka.servers, "events.dlq").unwrap();
    assert_eq!(letters.len(), PARTITIONS as usize, "{letters:?}");
    for partition in 0..PARTITIONS {
        let from =
            format!("__connect.errors.topic=events.raw,__connect.errors.partition={partition},");
        let payload = format!("\u{1}no event at all, in partition {partition}");
        let it = letters.iter().filter(|l| l.contains(&from) && l.ends_with(&payload));
        assert_eq!(it.count(), 1, "{letters:?}");
    }
    assert!(cluster.exits().is_empty(), "{:?}", cluster.exits());
}
