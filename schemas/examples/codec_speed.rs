//! How long an event spends in this crate, stage by stage.
//!
//! `cargo run --release -p schemas --example codec_speed` prints nanoseconds per event, the best of
//! many short rounds (so that what else runs does not count), of one thread, for a flight of about 300 bytes with ten fields of data.

use std::{hint::black_box, sync::Arc, time::Instant};

use schemas::{
    Codec, Defaults, Event, Extractor, Path, Registry, Unknown, bundled, event_from_json,
    event_to_json, identity_of,
};

const EVENT: &str = r#"{"specversion":"1.0","id":"UA1545-20130101-EWR","source":"/flights/nyc","type":"flight.departed","subject":"N14228","time":"2013-01-01T10:15:00Z","data":{"carrier":"UA","flight":1545,"tailnum":"N14228","origin":"EWR","dest":"IAH","sched_dep_time":"2013-01-01T10:15:00Z","dep_delay":2.0,"arr_delay":11.0,"air_time":227.0,"distance":1400.0}}"#;

const ROUNDS: usize = 400;
const TIMES: u32 = 500;

fn measure<T>(what: &str, mut stage: impl FnMut() -> T) {
    let best = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..TIMES {
                black_box(stage());
            }
            start.elapsed() / TIMES
        })
        .min()
        .unwrap_or_default();
    println!("{what:<34}{:>7} ns", best.as_nanos());
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let url = format!("file:{}", folder.path().display());
    let log = eventlog::open(&url, eventlog::Options::default()).await?;
    let registry = Registry::open(log).await?;
    let plain = Codec::new(registry.clone(), Unknown::Accept);
    let namespace: Arc<str> = "default".into();
    let read = || {
        let mut defaults =
            Defaults { namespace: &namespace, now: 0, fill_id: None, fill_specversion: false };
        event_from_json(black_box(EVENT.as_bytes()), &mut defaults)
            .map(|(event, _)| event)
            .map_err(|faults| faults[0].to_string())
    };
    let event: Event = read()?;
    let encode = |codec: &Codec| codec.encode(&event).map_err(|error| format!("{error:?}"));

    println!("{} bytes of JSON", EVENT.len());
    measure("event_from_json", read);
    let mut out = Vec::new();
    measure("event_to_json", || {
        out.clear();
        event_to_json(&event, &mut out);
    });
    let json = encode(&plain)?;
    measure("encode, no schema", || encode(&plain));
    measure("decode, no schema", || plain.decode(&json));

    let codec = Codec::new(registry.clone(), Unknown::Reject);
    registry.register("default", bundled::FLIGHT_DEPARTED_TYPE, bundled::FLIGHT_DEPARTED).await?;
    let avro = encode(&codec)?;
    let (plain, framed) = (json.size(), avro.size());
    println!("record: {plain} bytes as JSON, {framed} as Avro");
    measure("check and encode, Avro", || encode(&codec));
    measure("decode, Avro", || codec.decode(&avro));
    measure("identity_of", || identity_of(&avro).is_some());
    let paths = ["type", "data.carrier", "data.dep_delay"].map(Path::parse);
    let extractor = Extractor::new(&paths.into_iter().collect::<Result<Vec<_>, _>>()?);
    measure("extract three paths", || extractor.extract(&event).len());
    Ok(())
}
