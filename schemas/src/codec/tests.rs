//! The codec: what goes in comes out.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{Timestamp, memory_log::memory_log};

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
        extensions: BTreeMap::from([("region".to_owned(), "eu".to_owned())]),
        data: Data::Json(r#"{"total": 5}"#.into()),
    }
}

async fn codec(unknown: Unknown) -> Codec {
    Codec::new(Registry::open(memory_log()).await.unwrap(), unknown)
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
        prop::collection::btree_map("[a-z0-9]{1,10}x", ".{0,10}", 0..4),
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
    let faults = codec(Unknown::Reject).await.encode(&event()).unwrap_err();
    assert_eq!((faults[0].code, &*faults[0].pointer), ("unknown_type", "/type"));
}

#[tokio::test]
async fn given_json_that_only_claims_to_be_then_the_record_is_malformed() {
    let codec = codec(Unknown::Accept).await;
    for value in ["{", "\"\\ud800\"", "1e999"] {
        let mut record = codec.encode(&event()).unwrap();
        record.value = Some(value.into());
        assert!(matches!(codec.decode(&record), Err(DecodeError::Malformed(_))), "{value}");
    }
}

#[tokio::test]
async fn given_a_datum_of_an_unknown_schema_then_its_id_is_named() {
    let codec = codec(Unknown::Accept).await;
    let mut record = binding::to_record(&event(), Some(Bytes::new()));
    record.value = Some(vec![0, 0, 0, 1, 2, 9].into());
    assert_eq!(codec.decode(&record), Err(DecodeError::UnknownSchema(258)));
    for value in [vec![0, 0, 0, 1], vec![1, 0, 0, 1, 2, 9]] {
        record.value = Some(value.into());
        assert!(matches!(codec.decode(&record), Err(DecodeError::Malformed(_))));
    }
}

proptest! {
    #[test]
    fn given_any_event_without_schema_then_its_record_decodes_to_it(event in any_event()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let codec = runtime.block_on(codec(Unknown::Accept));
        let record = codec.encode(&event).unwrap();
        prop_assert_eq!(codec.decode(&record), Ok(event));
    }
}
