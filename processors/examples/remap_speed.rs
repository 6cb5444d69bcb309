//! How many events a typical `remap` program takes in a second, on one thread.
//!
//! ```sh
//! cargo run --release -p processors --example remap_speed [PART OF A NAME]
//! ```
//!
//! Measured from an event to its verdict, that is with the way into VRL values and back, without
//! the log and without encoding.

use std::{collections::BTreeMap, path::Path, time::Instant};

use processors::{Chain, Tally};
use schemas::{Data, Event, Timestamp};
use service::config::ProcessorConfig;

const EVENTS: usize = 300_000;

/// About 300 bytes, as an event of a shop.
const ORDER: &str = r#"{"order_id":"o-829371","customer":{"id":"c-10027","country":"DE","email":"someone@example.org"},"items":[{"sku":"A-100","qty":2,"price":19.99},{"sku":"B-220","qty":1,"price":5.5}],"currency":"EUR","coupon":null,"paid":true,"channel":"web","note":"leave it at the door, please"}"#;

/// A row of the flights table, every column a string.
const ROW: &str = r#"{"year":"2013","month":"1","day":"1","dep_time":"517","sched_dep_time":"515","dep_delay":"2","arr_time":"830","sched_arr_time":"819","arr_delay":"11","carrier":"UA","flight":"1545","tailnum":"N14228","origin":"EWR","dest":"IAH","air_time":"227","distance":"1400","hour":"5","minute":"15","time_hour":"2013-01-01T10:00:00Z"}"#;

const PROGRAMS: [(&str, &str, &str); 4] = [
    ("attributes only", ORDER, r#".type = "order.v2""#),
    ("look at the data, drop some", ORDER, r#"if .data.paid == false { abort "unpaid" }"#),
    (
        "change the data",
        ORDER,
        r#"
            .subject = string!(.data.customer.id)
            total = 0.0
            for_each(array!(.data.items)) -> |_index, item| {
                total = total + float!(item.price) * int!(item.qty)
            }
            .data.total = total
            .data.country = downcase(string!(.data.customer.country))
            del(.data.customer.email)
        "#,
    ),
    (
        "rebuild the data of a row",
        ROW,
        r#"
            row = object!(.data)
            if row.dep_time == "NA" || row.dep_time == "" { abort "cancelled" }
            hour = to_unix_timestamp(parse_timestamp!(row.time_hour, format: "%+"))
            scheduled = hour + to_int!(row.minute) * 60
            .type = "flight.departed"
            .time = format_timestamp!(from_unix_timestamp!(scheduled), format: "%Y-%m-%dT%H:%M:%SZ")
            .data = {
                "carrier": string!(row.carrier),
                "flight": to_int!(row.flight),
                "origin": string!(row.origin),
                "dest": string!(row.dest),
                "dep_delay": to_float!(row.dep_delay),
                "distance": to_float!(row.distance)
            }
        "#,
    ),
];

fn main() -> anyhow::Result<()> {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    for (name, data, program) in PROGRAMS.iter().filter(|(name, ..)| name.contains(&wanted)) {
        let step = toml::Table::from_iter([("source".to_owned(), (*program).into())]);
        let config = ProcessorConfig {
            name: "speed".into(),
            from: schemas::topics::RAW.into(),
            to: schemas::topics::CLEAN.into(),
            steps: vec![BTreeMap::from([("remap".to_owned(), step.into())])],
            delivery: Default::default(),
        };
        let chain = Chain::build(&config, Path::new("."))?;
        let events: Vec<_> = (0..1000).map(|number| event(number, data)).collect();
        let mut tally = Tally::default();
        let begun = Instant::now();
        for number in 0..EVENTS {
            std::hint::black_box(chain.apply(events[number % events.len()].clone(), &mut tally));
        }
        let each = begun.elapsed().as_secs_f64() / EVENTS as f64;
        println!("{name:28} {:6.2} us/event {:9.0} events/s", each * 1e6, 1.0 / each);
        for (_, decision, reason, count) in tally.iter() {
            println!("    {decision:?} {reason} {count}");
        }
    }
    Ok(())
}

fn event(number: usize, data: &str) -> Event {
    Event {
        namespace: "default".into(),
        id: format!("event-{number}"),
        source: "/bench".into(),
        kind: "order.placed".into(),
        subject: Some(format!("s-{}", number % 100)),
        time: Timestamp::from_micros(1_357_034_400_000_000 + number as i64),
        time_filled: false,
        data_content_type: Some("application/json".into()),
        data_schema: None,
        extensions: BTreeMap::new(),
        data: Data::Json(data.to_owned().into()),
    }
}
