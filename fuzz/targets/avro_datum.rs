//! Any bytes as a datum: the first byte chooses a schema. What decodes is JSON, and where that fits
//! its schema, it comes back as the same JSON.
#![no_main]

use std::sync::LazyLock;

use harness::SCHEMA;
use libfuzzer_sys::fuzz_target;
use schemas::{Avro, UnknownFields};

static SCHEMAS: LazyLock<Vec<Avro>> = LazyLock::new(|| {
    [
        SCHEMA,
        schemas::bundled::FLIGHT_DEPARTED,
        // Takes no bytes an item.
        r#"{"type":"array","items":"null"}"#,
        r#"{"type":"array","items":{"type":"record","name":"Empty","fields":[]}}"#,
        r#"{"type":"record","name":"Tree","fields":[{"name":"next","type":["null","Tree"]}]}"#,
        r#"{"type":"map","values":{"type":"array","items":"string"}}"#,
        // Their texts differ in form: any other text would be taken for the first that it fits.
        r#"["float","null",{"type":"fixed","name":"U","size":16,"logicalType":"uuid"},
            {"type":"int","logicalType":"time-millis"},
            {"type":"long","logicalType":"local-timestamp-micros"},
            {"type":"fixed","name":"D","size":40,"logicalType":"decimal","precision":38,"scale":9}]"#,
        r#"{"type":"array","items":{"type":"string","logicalType":"uuid"}}"#,
    ]
    .map(|text| Avro::parse(text).expect("the schema is good"))
    .into()
});

fuzz_target!(|input: &[u8]| {
    let Some((chosen, datum)) = input.split_first() else { return };
    let avro = &SCHEMAS[usize::from(*chosen) % SCHEMAS.len()];
    let Ok(json) = avro.decode(datum) else { return };
    serde_json::from_slice::<&serde_json::value::RawValue>(&json).expect("what decodes is JSON");
    let mut again = Vec::new();
    if avro.encode(&json, UnknownFields::Reject, &mut again).is_ok() {
        let back = avro.decode(&again).expect("what was encoded can be decoded");
        assert_eq!(String::from_utf8_lossy(&back), String::from_utf8_lossy(&json));
    }
});
