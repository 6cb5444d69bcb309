//! The codec: what goes in comes out.

use std::collections::BTreeMap;

use proptest::{prelude::*, test_runner::TestRunner};

use super::*;
use crate::{
    Timestamp,
    extension::tests::any_extension,
    test_log::{TestLog, test_log},
};

/// An event to vary.
pub(crate) fn event() -> Event {
    Event {
        namespace: "shop".into(),
        id: "1".into(),
        source: "/orders".into(),
        kind: "order.placed".into(),
        subject: None,
        time: Timestamp::parse("2020-01-01T00:00:00.5+01:00").unwrap(),
        time_filled: false,
        data_content_type: None,
        data_schema: None,
        extensions: BTreeMap::from([("region".to_owned(), "eu".into())]),
        data: Data::Json(r#"{"total": 5}"#.into()),
    }
}

async fn on(log: &TestLog, unknown: Unknown) -> Codec {
    Codec::new(Registry::open((**log).clone()).await.unwrap(), unknown)
}

fn unfit(codec: &Codec, event: &Event) -> Vec<Fault> {
    match codec.encode(event) {
        Err(EncodeError::Unfit(faults)) => faults,
        other => panic!("{other:?}"),
    }
}

fn any_data() -> impl Strategy<Value = Data> {
    prop_oneof![
        Just(Data::None),
        prop::sample::select(vec!["null", "1", "\"a\"", "{\"a\": [1, 2.50]}"])
            .prop_map(|t| Data::Json(t.into())),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|b| Data::Bytes(b.into())),
    ]
}

fn any_event() -> impl Strategy<Value = Event> {
    let text = "[ -~äß😀]{1,20}";
    let media = prop::option::of(prop::sample::select(vec![
        "application/json",
        "application/json; charset=utf-8",
        "application/avro",
        "text/plain",
        "application/problem+json",
    ]));
    (
        (text, text, text, prop::option::of(text), prop::option::of(text)),
        (crate::time::MICROS, any::<bool>(), media),
        prop::collection::btree_map("[a-z0-9]{1,10}x", any_extension(), 0..4),
        any_data(),
    )
        .prop_map(
            |((id, source, kind, subject, schema), (at, filled, media), extensions, data)| Event {
                namespace: "shop".into(),
                id,
                source,
                kind,
                subject,
                time: Timestamp::from_micros(at),
                time_filled: filled,
                data_content_type: media.map(str::to_owned),
                data_schema: schema,
                extensions,
                data,
            },
        )
}

#[tokio::test]
async fn given_a_type_without_schema_and_the_wish_for_one_then_it_is_refused() {
    let log = test_log().await;
    let faults = unfit(&on(&log, Unknown::Reject).await, &event());
    assert_eq!((faults[0].code, &*faults[0].pointer), ("unknown_type", "/type"));
}

#[tokio::test]
async fn given_json_that_only_claims_to_be_then_the_record_is_malformed() {
    let log = test_log().await;
    let codec = on(&log, Unknown::Accept).await;
    for value in ["{", "\"\\ud800\"", "1e999"] {
        let mut record = codec.encode(&event()).unwrap();
        record.value = Some(value.into());
        assert!(matches!(codec.decode(&record), Err(DecodeError::Malformed(_))), "{value}");
    }
}

#[tokio::test]
async fn given_a_datum_of_an_unknown_schema_then_its_id_is_named() {
    let log = test_log().await;
    let codec = on(&log, Unknown::Accept).await;
    let mut record = binding::to_record(&event(), Some(Bytes::new()));
    record.value = Some(vec![0, 0, 0, 1, 2, 9].into());
    assert_eq!(codec.decode(&record), Err(DecodeError::UnknownSchema(258)));
    for value in [vec![0, 0, 0, 1], vec![1, 0, 0, 1, 2, 9]] {
        record.value = Some(value.into());
        assert!(matches!(codec.decode(&record), Err(DecodeError::Malformed(_))));
    }
}

fn flight() -> Event {
    let data = r#"{"carrier":"UA","flight":1,"tailnum":null,"origin":"EWR","dest":"IAH","sched_dep_time":"2013-01-01T10:15:00Z","dep_delay":2.0,"arr_delay":null,"air_time":null,"distance":1400.0}"#;
    Event { kind: "flight.departed".into(), data: Data::Json(data.into()), ..event() }
}

async fn flights(log: &TestLog) -> Codec {
    let codec = on(log, Unknown::Reject).await;
    let schema = crate::bundled::FLIGHT_DEPARTED;
    codec.registry().unwrap().register("shop", "flight.departed", schema).await.unwrap();
    codec
}

#[tokio::test]
async fn given_a_type_with_a_schema_then_its_record_is_framed_avro_and_decodes_to_the_event() {
    let log = test_log().await;
    let codec = flights(&log).await;
    for media in [None, Some("application/json"), Some("application/avro")] {
        let event = Event { data_content_type: media.map(str::to_owned), ..flight() };
        let record = codec.encode(&event).unwrap();
        assert_eq!(record.headers.get_str("content-type"), Some("application/avro"));
        assert_eq!(record.value.as_ref().unwrap()[..5], [0, 0, 0, 0, 1]);
        assert_eq!(codec.decode(&record), Ok(event));
    }
}

#[tokio::test]
async fn given_data_that_does_not_fit_the_schema_then_the_fault_points_into_the_event() {
    let data = Data::Json(r#"{"carrier":"UA"}"#.into());
    let log = test_log().await;
    let faults = unfit(&flights(&log).await, &Event { data, ..flight() });
    assert!(faults.iter().any(|f| f.pointer == "/data/dep_delay"));
}

#[tokio::test]
async fn given_a_type_with_a_schema_and_no_json_data_then_it_is_refused() {
    let log = test_log().await;
    let codec = flights(&log).await;
    for (data, code) in [(Data::None, "missing_data"), (Data::Bytes("{}".into()), "invalid_data")] {
        let faults = unfit(&codec, &Event { data, ..flight() });
        assert_eq!((faults[0].code, &*faults[0].pointer), (code, "/data"));
    }
}

#[tokio::test]
async fn given_a_schema_that_another_replica_registered_then_it_is_learnt_by_asking_once() {
    let log = test_log().await;
    let (writer, reader) = (on(&log, Unknown::Accept).await, on(&log, Unknown::Accept).await);
    let schema = crate::bundled::FLIGHT_DEPARTED;
    writer.registry().unwrap().register("shop", "flight.departed", schema).await.unwrap();
    let record = writer.encode(&flight()).unwrap();
    assert_eq!(reader.decode(&record), Err(DecodeError::UnknownSchema(1)));
    reader.learn(&[Wanted::Id(1)]).await.unwrap();
    assert_eq!(reader.decode(&record), Ok(flight()));
}

#[tokio::test]
async fn given_a_record_of_an_earlier_version_then_it_still_decodes() {
    let log = test_log().await;
    let codec = flights(&log).await;
    let record = codec.encode(&flight()).unwrap();
    let more = crate::bundled::FLIGHT_DEPARTED.replace(
        "\"fields\": [",
        "\"fields\": [{\"name\": \"gate\", \"type\": \"string\", \"default\": \"\"},",
    );
    codec.registry().unwrap().register("shop", "flight.departed", &more).await.unwrap();
    assert_eq!(codec.decode(&record), Ok(flight()));
    assert_eq!(codec.encode(&flight()).unwrap().value.unwrap()[..5], [0, 0, 0, 0, 2]);
}

#[tokio::test]
async fn given_any_event_without_schema_then_its_record_decodes_to_it() {
    let log = test_log().await;
    let codec = on(&log, Unknown::Accept).await;
    let checked = TestRunner::default().run(&any_event(), |event| {
        let record = codec.encode(&event).unwrap();
        prop_assert_eq!(codec.decode(&record), Ok(event));
        Ok(())
    });
    checked.unwrap();
}
