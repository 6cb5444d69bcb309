//! JSON to Avro and back, checked against `apache-avro`'s own codec.

use apache_avro::{reader::datum::GenericDatumReader, writer::datum::GenericDatumWriter};
use base64::{Engine, engine::general_purpose::STANDARD};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{Fault, UnknownFields};

mod limits;
mod names;

fn schema(schema: &Value) -> Avro {
    Avro::parse(&schema.to_string()).unwrap()
}

fn encode(avro: &Avro, json: &Value) -> Result<Vec<u8>, Vec<Fault>> {
    let mut out = Vec::new();
    avro.encode(json.to_string().as_bytes(), UnknownFields::Reject, &mut out).map(|()| out)
}

fn decode(avro: &Avro, datum: &[u8]) -> Value {
    serde_json::from_slice(&avro.decode(datum).unwrap()).unwrap()
}

fn round(avro: &Avro, json: &Value) -> Value {
    decode(avro, &encode(avro, json).unwrap())
}

fn faults(avro: &Avro, json: &Value) -> Vec<(&'static str, String)> {
    let found = encode(avro, json).expect_err("it should be refused");
    found.into_iter().map(|f| (f.code, f.pointer)).collect()
}

fn record(fields: &Value) -> Avro {
    schema(&json!({"type": "record", "name": "R", "fields": fields}))
}

fn logical(kind: &str, name: &str) -> Value {
    json!({"type": kind, "logicalType": name})
}

#[test]
fn given_a_field_of_the_wrong_type_then_the_fault_points_at_it_and_names_both_types() {
    let avro = record(&json!([{"name": "a", "type": {"type": "array", "items": "double"}}]));
    let found = encode(&avro, &json!({"a": [1, "secret"]})).unwrap_err();
    let expected =
        Fault::new("invalid_type", "/data/a/1".into(), "expected a double, found a string");
    assert_eq!(found, [expected]);
}

#[test]
fn given_several_faults_then_all_are_pointed_at() {
    let avro = record(&json!([
        {"name": "a", "type": "int"}, {"name": "b", "type": "string"},
        {"name": "c", "type": {"type": "map", "values": "boolean"}},
    ]));
    assert_eq!(
        faults(&avro, &json!({"a": 3_000_000_000_i64, "c": {"x/y": 1}, "d": 1})),
        [
            ("out_of_range", "/data/a"),
            ("missing_field", "/data/b"),
            ("invalid_type", "/data/c/x~1y"),
            ("unknown_field", "/data/d"),
        ]
        .map(|(code, pointer)| (code, pointer.to_owned()))
    );
}

#[test]
fn given_a_field_twice_then_it_is_a_fault() {
    let avro = record(&json!([{"name": "a", "type": "int"}]));
    let found =
        avro.encode(br#"{"a":1,"a":2}"#, UnknownFields::Reject, &mut Vec::new()).unwrap_err();
    assert_eq!((found[0].code, &*found[0].pointer), ("duplicate_field", "/data/a"));
}

#[test]
fn given_a_key_of_a_map_twice_then_it_is_a_fault() {
    let avro = schema(&json!({"type": "map", "values": "int"}));
    let taken = |text: &str| {
        let mut out = Vec::new();
        avro.encode(text.as_bytes(), UnknownFields::Drop, &mut out).map(|()| out)
    };
    let found = taken(r#"{"a":1,"b":2,"a":1}"#).unwrap_err();
    assert_eq!(found, [Fault::new("duplicate_field", "/data/a".into(), "the key is given twice")]);
    assert!(taken(r#"{"a":1,"A":2}"#).is_ok());
}

#[test]
fn given_fields_in_any_order_then_the_datum_is_in_the_schemas() {
    let avro = record(&json!([{"name": "a", "type": "int"}, {"name": "b", "type": "int"}]));
    let datum = |text: &str| {
        let mut out = Vec::new();
        avro.encode(text.as_bytes(), UnknownFields::Reject, &mut out).unwrap();
        out
    };
    assert_eq!(datum(r#"{"a":1,"b":2}"#), [2, 4]);
    assert_eq!(datum(r#"{"b":2,"a":1}"#), [2, 4]);
}

#[test]
fn given_absent_fields_then_their_defaults_are_taken() {
    let avro = record(&json!([
        {"name": "a", "type": ["null", "int"], "default": null},
        {"name": "b", "type": "string", "default": "x"},
        {"name": "c", "type": logical("long", "timestamp-micros"), "default": 0},
        {"name": "d", "type": "bytes", "default": "\u{ff}A"},
        {"name": "e", "default": {}, "type": {"type": "record", "name": "E", "fields": [
            {"name": "f", "type": {"type": "array", "items": "int"}, "default": [1]}]}},
    ]));
    assert_eq!(
        round(&avro, &json!({})),
        json!({"a": null, "b": "x", "c": "1970-01-01T00:00:00Z", "d": "/0E=", "e": {"f": [1]}})
    );
}

#[test]
fn given_a_default_that_does_not_fit_then_the_schema_is_refused() {
    let fixed = json!({"type": "fixed", "name": "F", "size": 2});
    let empty = json!({"type": "record", "name": "E", "fields": []});
    for (kind, default) in [
        (json!("int"), json!("x")),
        (json!("boolean"), json!("true")),
        (json!("null"), json!("x")),
        (json!("double"), json!("1")),
        (json!("string"), json!(1)),
        (json!("bytes"), json!("\u{100}")),
        (json!({"type": "array", "items": "boolean"}), json!(["x"])),
        (json!({"type": "map", "values": "int"}), json!({"a": "x"})),
        (json!(["null", "int"]), json!("x")),
        (logical("int", "date"), json!("2013-01-31")),
        (logical("int", "date"), json!(i32::MAX)),
        (logical("int", "time-millis"), json!(-1)),
        (logical("long", "timestamp-millis"), json!(i64::MIN)),
        (logical("string", "uuid"), json!("x")),
        (logical("bytes", "uuid"), json!("x")),
        (
            json!({"type": "bytes", "logicalType": "decimal", "precision": 2, "scale": 2}),
            json!("n"), // 1.10
        ),
        (fixed, json!("x")),
        (empty, json!({"a": 1})),
        // its own default, without an end
        (json!("R"), json!({})),
    ] {
        let text = json!({"type": "record", "name": "R",
            "fields": [{"name": "a", "type": kind, "default": default}]});
        let refused = Avro::parse(&text.to_string()).unwrap_err();
        assert!(refused.starts_with("the default of field `a` does not fit"), "{refused}");
    }
}

#[test]
fn given_a_few_digits_for_a_huge_fixed_then_they_are_too_large_and_take_no_memory() {
    let huge = |size: usize| {
        json!({"type": "fixed", "name": "F", "size": size,
        "logicalType": "decimal", "precision": 5, "scale": 2})
    };
    assert_eq!(round(&schema(&huge(1000)), &json!("-9.99")), json!("-9.99"));
    for size in [MAX_DATUM, usize::MAX] {
        let avro = schema(&huge(size));
        assert_eq!(faults(&avro, &json!("9.99")), [("too_large", "/data".into())]);
        assert_eq!(faults(&avro, &json!(9)), [("too_large", "/data".into())]);
    }
}

#[test]
fn given_defaults_that_multiply_then_the_schema_is_refused() {
    let mut kind = json!({"type": "array", "items": "long"});
    let mut default = json!(vec![1; 1000]);
    for level in 0..6 {
        let fields: Vec<_> = (0..10)
            .map(|at| {
                let kind = if at == 0 { kind.clone() } else { json!(format!("L{level}")) };
                let kind =
                    if level == 0 { json!({"type": "array", "items": "long"}) } else { kind };
                json!({"name": format!("f{at}"), "type": kind, "default": default})
            })
            .collect();
        kind = json!({"type": "record", "name": format!("L{}", level + 1), "fields": fields});
        default = json!({});
    }
    assert!(Avro::parse(&kind.to_string()).unwrap_err().contains("default"));
}

#[test]
fn given_more_items_of_no_bytes_than_is_sane_then_both_ways_refuse_them() {
    let avro = schema(&json!({"type": "array", "items": "null"}));
    let nulls = |count: usize| json!(vec![Value::Null; count]);
    assert_eq!(round(&avro, &nulls(MAX_WEIGHTLESS)), nulls(MAX_WEIGHTLESS));
    assert_eq!(faults(&avro, &nulls(MAX_WEIGHTLESS + 1)), [("too_large", "/data".into())]);
    // a branch that is given up counts for nothing
    let branch = |name: &str, kind: &str| {
        json!({"type": "record", "name": name, "fields": [
            {"name": "a", "type": {"type": "array", "items": "null"}}, {"name": "b", "type": kind}]})
    };
    let either = schema(&json!([branch("A", "int"), branch("B", "string")]));
    let value = json!({"a": nulls(MAX_WEIGHTLESS), "b": "x"});
    assert_eq!(round(&either, &value), value);
    // a million, and the most
    assert!(avro.decode(&[0x80, 0x89, 0x7A, 0]).is_err());
    assert!(avro.decode(&[0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 0]).is_err());
}

#[test]
fn given_whole_numbers_written_with_a_fraction_then_they_are_integers() {
    assert_eq!(round(&schema(&json!("int")), &json!(3.0)), json!(3));
    assert_eq!(faults(&schema(&json!("long")), &json!(3.5))[0].0, "invalid_type");
    assert_eq!(faults(&schema(&json!("long")), &json!(1e17))[0].0, "out_of_range");
    assert_eq!(faults(&schema(&json!("long")), &json!(u64::MAX))[0].0, "out_of_range");
}

#[test]
fn given_a_union_then_the_first_branch_that_fits_is_taken() {
    let avro = schema(&json!(["null", "int", "long", "double", "string",
        {"type": "array", "items": "int"}, {"type": "map", "values": "int"}]));
    for (value, branch) in [
        (json!(null), 0),
        (json!(5), 1),
        (json!(1_i64 << 40), 2),
        (json!(0.5), 3),
        (json!("a"), 4),
        (json!([1]), 5),
        (json!({"a": 1}), 6),
    ] {
        assert_eq!(encode(&avro, &value).unwrap()[0], branch * 2);
        assert_eq!(round(&avro, &value), value);
    }
    let found = encode(&schema(&json!(["null", "string"])), &json!(5)).unwrap_err();
    assert_eq!(found[0].detail, "expected null or a string, found an integer");
}

#[test]
fn given_a_union_of_records_then_the_one_whose_fields_fit_is_taken() {
    let of = |name: &str, field: &str| json!({"type": "record", "name": name, "fields": [{"name": field, "type": "int"}]});
    let avro = schema(&json!([of("A", "a"), of("B", "b")]));
    assert_eq!(encode(&avro, &json!({"b": 7})).unwrap(), [2, 14]);
    assert_eq!(
        faults(&avro, &json!({"c": 7})),
        [("missing_field", "/data/a".to_owned()), ("unknown_field", "/data/c".to_owned())],
        "when none fits, the first one's faults are told"
    );
}

#[test]
fn given_unknown_fields_that_may_be_dropped_then_the_rest_is_encoded_at_every_level() {
    let avro = record(&json!([{"name": "a", "type": {"type": "record", "name": "A", "fields": [
        {"name": "b", "type": "int"}]}}]));
    let drop = |json: Value| {
        let mut out = Vec::new();
        avro.encode(json.to_string().as_bytes(), UnknownFields::Drop, &mut out).map(|()| out)
    };
    let known = json!({"a": {"b": 7}});
    let more = json!({"x": "secret", "a": {"y": null, "b": 7, "z": [1]}});
    assert_eq!(drop(more.clone()), Ok(encode(&avro, &known).unwrap()));
    assert_eq!(
        faults(&avro, &more),
        [
            ("unknown_field", "/data/a/y".to_owned()),
            ("unknown_field", "/data/a/z".to_owned()),
            ("unknown_field", "/data/x".to_owned())
        ]
    );
    let twice = avro.encode(br#"{"a":{"b":1},"a":{"b":2}}"#, UnknownFields::Drop, &mut Vec::new());
    assert_eq!(twice.unwrap_err()[0].code, "duplicate_field", "which of the two is meant?");
}

#[test]
fn given_unknown_fields_that_may_be_dropped_then_a_branch_that_knows_them_all_goes_first() {
    let of = |name: &str, fields: Value| json!({"type": "record", "name": name, "fields": fields});
    let avro = schema(&json!([
        of("A", json!([{"name": "a", "type": "int"}])),
        of("B", json!([{"name": "a", "type": "int"}, {"name": "b", "type": "int"}]))
    ]));
    let branch = |json: Value| {
        let mut out = Vec::new();
        avro.encode(json.to_string().as_bytes(), UnknownFields::Drop, &mut out).map(|()| out)
    };
    assert_eq!(branch(json!({"a": 1, "b": 2})), Ok(vec![2, 2, 4]));
    assert_eq!(branch(json!({"a": 1, "c": 2})), Ok(vec![0, 2]));
    assert_eq!(branch(json!({"c": 2})).unwrap_err()[0].pointer, "/data/a");
}

#[test]
fn given_defaults_of_logical_types_then_they_are_written_as_schemas_write_them() {
    let avro = record(&json!([
        {"name": "day", "type": logical("int", "date"), "default": 1},
        {"name": "at", "type": logical("long", "timestamp-millis"), "default": 1500},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2},
            "default": "\u{1}\u{2}"},
        {"name": "raw", "type": "bytes", "default": "\u{ff}"},
        {"name": "kind", "type": {"type": "enum", "name": "K", "symbols": ["A", "B"]}, "default": "B"},
        {"name": "tags", "type": {"type": "map", "values": "string"}, "default": {"a": "b"}},
        {"name": "list", "type": {"type": "array", "items": "int"}, "default": [1, 2]},
        {"name": "none", "type": ["null", "string"], "default": null},
    ]));
    assert_eq!(
        round(&avro, &json!({})),
        json!({"day": "1970-01-02", "at": "1970-01-01T00:00:01.500Z", "price": "2.58", "raw": "/w==",
            "kind": "B", "tags": {"a": "b"}, "list": [1, 2], "none": null})
    );
}

#[test]
fn given_a_value_that_does_not_fit_then_the_fault_names_the_expected_type_and_never_the_value() {
    let cases = [
        (logical("int", "date"), "a date such as 2013-01-31"),
        (logical("int", "time-millis"), "a time of day such as 10:15:00"),
        (logical("long", "timestamp-millis"), "an RFC 3339 time such as 2013-01-01T10:15:00Z"),
        (logical("string", "uuid"), "a UUID"),
        (json!({"type": "fixed", "name": "F", "size": 2}), "a string in base64 of 2 bytes (fixed)"),
        (json!("bytes"), "a string in base64 (bytes)"),
        (json!({"type": "enum", "name": "E", "symbols": ["A"]}), "one of the enum's symbols"),
        (
            json!({"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}),
            "a decimal string of 4 digits, 2 after the point",
        ),
    ];
    for (kind, expected) in cases {
        let found = encode(&schema(&kind), &json!("S3CRET!")).unwrap_err();
        assert_eq!(found[0].detail, format!("expected {expected}"), "{kind}");
        let found = encode(&schema(&kind), &json!([1])).unwrap_err();
        assert_eq!(found[0].detail, format!("expected {expected}, found an array"), "{kind}");
    }
}

#[test]
fn given_an_optional_record_then_faults_point_into_it() {
    let avro = schema(&json!(["null", {"type": "record", "name": "A", "fields": [
        {"name": "a", "type": "int"}]}]));
    assert_eq!(faults(&avro, &json!({"a": "x"})), [("invalid_type", "/data/a".to_owned())]);
}

#[test]
fn given_logical_types_then_json_has_their_texts() {
    let fixed = |size: u32, name: &str| {
        json!({"type": "fixed", "name": "F", "size": size,
        "logicalType": name, "precision": 5, "scale": 2})
    };
    let cases = [
        (logical("int", "date"), json!("2013-01-31"), json!("2013-01-31")),
        (logical("int", "time-millis"), json!("10:15:00.25"), json!("10:15:00.250")),
        (logical("long", "time-micros"), json!("23:59:59.999999"), json!("23:59:59.999999")),
        (
            logical("long", "timestamp-millis"),
            json!("2013-01-01T05:15:00-05:00"),
            json!("2013-01-01T10:15:00Z"),
        ),
        (
            logical("long", "timestamp-micros"),
            json!("1969-12-31T23:59:59.9999999Z"),
            json!("1969-12-31T23:59:59.999999Z"),
        ),
        (
            logical("long", "local-timestamp-micros"),
            json!("2013-01-01T05:15:00"),
            json!("2013-01-01T05:15:00"),
        ),
        (
            logical("string", "uuid"),
            json!("0A000000-0000-0000-0000-00000000000f"),
            json!("0A000000-0000-0000-0000-00000000000f"),
        ),
        (
            fixed(16, "uuid"),
            json!("0A000000-0000-0000-0000-00000000000f"),
            json!("0a000000-0000-0000-0000-00000000000f"),
        ),
        (
            json!({"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 2}),
            json!("-12.5"),
            json!("-12.50"),
        ),
        (
            json!({"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 2}),
            json!(7),
            json!("7.00"),
        ),
        (
            json!({"type": "bytes", "logicalType": "decimal", "precision": 38}),
            json!(u64::MAX),
            json!(u64::MAX.to_string()),
        ),
        (
            json!(["null", {"type": "bytes", "logicalType": "decimal", "precision": 38}]),
            json!(10_000_000_000_000_000_000_u64),
            json!("10000000000000000000"),
        ),
        (fixed(20, "decimal"), json!("-0.01"), json!("-0.01")),
        (fixed(3, "decimal"), json!("999.99"), json!("999.99")),
        (json!({"type": "fixed", "name": "F", "size": 2}), json!("AP8="), json!("AP8=")),
        (json!("bytes"), json!(""), json!("")),
    ];
    for (kind, given, back) in cases {
        assert_eq!(round(&schema(&kind), &given), back, "{kind}");
    }
}

#[test]
fn given_texts_that_a_type_cannot_hold_then_each_is_an_invalid_value() {
    let cases = [
        (logical("int", "date"), json!("2013-02-30")),
        (logical("long", "timestamp-micros"), json!("yesterday")),
        (logical("long", "local-timestamp-micros"), json!("2013-01-01T05:15:00Z")),
        (logical("string", "uuid"), json!("0a")),
        (json!({"type": "fixed", "name": "F", "size": 2}), json!("AA==")),
        (json!("bytes"), json!("?")),
        (json!({"type": "enum", "name": "E", "symbols": ["A"]}), json!("B")),
    ];
    for (kind, given) in cases {
        assert_eq!(
            faults(&schema(&kind), &given),
            [("invalid_value", "/data".to_owned())],
            "{kind}"
        );
    }
    assert_eq!(
        faults(&schema(&logical("long", "timestamp-micros")), &json!(5))[0].0,
        "invalid_type"
    );
}

#[test]
fn given_a_recursive_type_then_it_encodes_to_any_depth_that_json_may_have() {
    let avro = schema(&json!({"type": "record", "name": "a.b.List", "fields": [
        {"name": "next", "type": ["null", "List"], "default": null}]}));
    let nest = |depth: usize| format!("{}null{}", "{\"next\":".repeat(depth), "}".repeat(depth));
    let mut out = Vec::new();
    avro.encode(nest(100).as_bytes(), UnknownFields::Reject, &mut out).unwrap();
    assert_eq!(avro.decode(&out).unwrap(), nest(100).into_bytes());
    let found =
        avro.encode(nest(101).as_bytes(), UnknownFields::Reject, &mut Vec::new()).unwrap_err();
    assert_eq!(found[0].code, "invalid_data");
}

#[test]
fn given_unions_that_fail_late_at_every_level_then_the_work_is_bounded() {
    let of = |name: &str| {
        json!({"type": "record", "name": name, "fields": [
            {"name": "n", "type": if name == "A" { json!(["null", "A", {"type": "record", "name": "B",
                "fields": [{"name": "n", "type": ["null", "A", "B"]}]}]) } else { json!(null) }}]})
    };
    let text = format!("{}1{}", "{\"n\":".repeat(60), "}".repeat(60));
    let found = schema(&of("A"))
        .encode(text.as_bytes(), UnknownFields::Reject, &mut Vec::new())
        .unwrap_err();
    assert!(!found.is_empty());
}

#[test]
fn given_types_that_are_not_supported_then_the_schema_is_refused() {
    let wide = json!({"type": "bytes", "logicalType": "decimal", "precision": 50, "scale": 2});
    let duration = json!({"type": "fixed", "name": "D", "size": 12, "logicalType": "duration"});
    for kind in [wide, duration, logical("bytes", "big-decimal")] {
        assert!(Avro::parse(&kind.to_string()).unwrap_err().contains("not supported"));
    }
}

#[test]
fn given_counts_and_lengths_that_the_datum_cannot_hold_then_it_is_refused_at_once() {
    let huge = [0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01];
    let least = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01];
    for kind in [
        json!("string"),
        json!("bytes"),
        json!({"type": "array", "items": "int"}),
        json!({"type": "array", "items": "null"}),
        json!({"type": "map", "values": "null"}),
    ] {
        assert!(schema(&kind).decode(&huge).is_err(), "{kind}");
        assert!(schema(&kind).decode(&[&least[..], &[0]].concat()).is_err(), "{kind}");
    }
}

#[test]
fn given_a_datum_with_bytes_left_or_numbers_json_lacks_then_it_is_refused() {
    assert!(schema(&json!("int")).decode(&[2, 0]).is_err());
    assert!(schema(&json!("double")).decode(&f64::NAN.to_le_bytes()).is_err());
    assert!(schema(&json!("int")).decode(&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01]).is_err());
}

#[test]
fn given_an_array_in_several_blocks_with_sizes_then_it_is_read_whole() {
    let avro = schema(&json!({"type": "array", "items": "int"}));
    assert_eq!(decode(&avro, &[2, 2, 3, 4, 4, 6, 0]), json!([1, 2, 3]));
}

fn any_schema() -> impl Strategy<Value = Value> {
    let fixed = |size: u32| json!({"type": "fixed", "name": "", "size": size});
    let plain = ["null", "boolean", "int", "long", "float", "double", "string", "bytes"];
    let mut leaves = plain.map(Value::from).to_vec();
    leaves.extend([
        fixed(0),
        fixed(2),
        json!({"type": "enum", "name": "", "symbols": ["A", "B", "C"]}),
        json!({"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 2}),
        logical("int", "date"),
        logical("long", "timestamp-micros"),
        logical("string", "uuid"),
    ]);
    let any = prop::sample::select(leaves).prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|items| json!({"type": "array", "items": items})),
            inner.clone().prop_map(|values| json!({"type": "map", "values": values})),
            inner.clone().prop_map(|one| union_of(&[json!("null"), one])),
            prop::collection::vec(inner.clone(), 2..4).prop_map(|many| union_of(&many)),
            prop::collection::vec(inner, 0..5).prop_map(|types| {
                let field = |(at, kind)| json!({"name": format!("f{at}"), "type": kind});
                let fields: Vec<_> = types.iter().enumerate().map(field).collect();
                json!({"type": "record", "name": "", "fields": fields})
            }),
        ]
    });
    any.prop_map(|mut schema| {
        name_types(&mut schema, &mut 0);
        schema
    })
}

/// A union of those that a value's JSON type tells apart and Avro lets stand together; four at most,
/// so that some JSON type fits none.
fn union_of(schemas: &[Value]) -> Value {
    let mut apart: Vec<Value> = Vec::new();
    for one in schemas.iter().flat_map(branches) {
        let clash = |other| {
            let both = |json: &Value| takes(one, json) && takes(other, json);
            stored(one) == stored(other) || each_json_type().iter().any(both)
        };
        if apart.len() < 4 && !apart.iter().any(clash) {
            apart.push(one.clone());
        }
    }
    json!(apart)
}

/// A union's branches; any other schema is its own only one.
fn branches(schema: &Value) -> &[Value] {
    schema.as_array().map_or(std::slice::from_ref(schema), Vec::as_slice)
}

fn stored(schema: &Value) -> &str {
    schema["type"].as_str().or(schema.as_str()).unwrap_or("union")
}

fn kind(schema: &Value) -> &str {
    schema["logicalType"].as_str().unwrap_or_else(|| stored(schema))
}

fn each_json_type() -> [Value; 6] {
    [json!(null), json!(true), json!(1), json!("x"), json!([]), json!({})]
}

/// Whether a value's JSON type is one that a schema takes.
fn takes(schema: &Value, json: &Value) -> bool {
    branches(schema).iter().any(|branch| match kind(branch) {
        "null" => json.is_null(),
        "boolean" => json.is_boolean(),
        "int" | "long" | "float" | "double" => json.is_number(),
        "decimal" => json.is_number() || json.is_string(),
        "array" => json.is_array(),
        "map" | "record" => json.is_object(),
        _ => json.is_string(),
    })
}

fn any_fitting(schema: &Value) -> BoxedStrategy<Value> {
    use prop::collection::{btree_map, vec};
    let text = "[ -~é😀\n]{0,8}";
    let base64 = |bytes: Vec<u8>| json!(STANDARD.encode(bytes));
    let instant = crate::time::MICROS.prop_map(|at| crate::Timestamp::from_micros(at).text);
    match kind(schema) {
        "null" => Just(json!(null)).boxed(),
        "boolean" => any::<bool>().prop_map_into().boxed(),
        "int" => any::<i32>().prop_map_into().boxed(),
        "long" => any::<i64>().prop_map_into().boxed(),
        // in the shortest digits that JSON has for it; between two of one length others choose otherwise
        "float" => any::<f32>()
            .prop_map(|n| serde_json::from_str(&serde_json::to_string(&n).unwrap()).unwrap())
            .boxed(),
        "double" => any::<f64>().prop_map_into().boxed(),
        "string" => text.prop_map_into().boxed(),
        "bytes" => vec(any::<u8>(), 0..4).prop_map(base64).boxed(),
        "fixed" => {
            let size = schema["size"].as_u64().unwrap() as usize;
            vec(any::<u8>(), size).prop_map(base64).boxed()
        }
        "enum" => prop::sample::select(schema["symbols"].as_array().unwrap().clone()).boxed(),
        // zero comes back without a sign
        "decimal" => "(0|-?[1-9][0-9]{0,35})[.][0-9]{2}|-0[.][0-9][1-9]".prop_map_into().boxed(),
        "date" => instant.prop_map(|text| json!(text[..10])).boxed(),
        "timestamp-micros" => instant.prop_map_into().boxed(),
        "uuid" => "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}".prop_map_into().boxed(),
        "array" => vec(any_fitting(&schema["items"]), 0..=3).prop_map_into().boxed(),
        "map" => btree_map(text, any_fitting(&schema["values"]), 0..=3)
            .prop_map(|members| members.into_iter().collect())
            .boxed(),
        "record" => {
            let fields = schema["fields"].as_array().unwrap().iter();
            let member = |field: &Value| {
                (Just(field["name"].as_str().unwrap().to_owned()), any_fitting(&field["type"]))
            };
            let members: Vec<_> = fields.map(member).collect();
            members.prop_map(|members| members.into_iter().collect()).boxed()
        }
        "union" => prop::strategy::Union::new(branches(schema).iter().map(any_fitting)).boxed(),
        other => panic!("no values of {other}"),
    }
}

/// A schema and a value that fits it.
fn any_pair() -> impl Strategy<Value = (Value, Value)> {
    any_schema().prop_flat_map(|schema| {
        let value = any_fitting(&schema);
        (Just(schema), value)
    })
}

/// The scalars of a value that fits: their pointers and schemas.
fn scalars<'s>(schema: &'s Value, value: &Value, at: &str) -> Vec<(String, &'s Value)> {
    let branch = branches(schema).iter().find(|branch| takes(branch, value)).unwrap();
    match value {
        Value::Array(items) => {
            let item = |(n, item)| scalars(&branch["items"], item, &format!("{at}/{n}"));
            items.iter().enumerate().flat_map(item).collect()
        }
        Value::Object(members) => {
            let member = |(name, member): (&String, _)| {
                let mut fields = branch["fields"].as_array().into_iter().flatten();
                let field = fields.find(|field| field["name"] == **name);
                let schema = field.map_or(&branch["values"], |field| &field["type"]);
                let name = name.replace('~', "~0").replace('/', "~1");
                scalars(schema, member, &format!("{at}/{name}"))
            };
            members.iter().flat_map(member).collect()
        }
        _ => vec![(at.to_owned(), schema)],
    }
}

/// Gives each named type a name of its own.
fn name_types(schema: &mut Value, next: &mut u32) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| name_types(item, next)),
        Value::Object(members) => {
            if let Some(name) = members.get_mut("name").filter(|name| *name == "") {
                *next += 1;
                *name = json!(format!("T{next}"));
            }
            members.values_mut().for_each(|member| name_types(member, next));
        }
        _ => {}
    }
}

proptest! {
    // a case builds two schemas and takes milliseconds
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn given_any_value_that_fits_then_it_comes_back_and_apache_avro_reads_and_writes_the_same(
        (kind, value) in any_pair()
    ) {
        let avro = schema(&kind);
        let datum = encode(&avro, &value).unwrap();
        prop_assert_eq!(&decode(&avro, &datum), &value);
        let reader = GenericDatumReader::builder(&avro.schema).build().unwrap();
        let writer = GenericDatumWriter::builder(&avro.schema).build().unwrap();
        let read = reader.read_value(&mut &datum[..]).unwrap();
        // has the entries of maps in an order of its own
        let theirs = writer.write_value_to_vec(read).unwrap();
        prop_assert_eq!(decode(&avro, &theirs), value);
        let mut ours = Vec::new();
        let json = avro.decode(&theirs).unwrap();
        avro.encode(&json, UnknownFields::Reject, &mut ours).unwrap();
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn given_any_bytes_for_any_schema_then_decoding_never_panics_and_gives_json_or_an_error(
        (kind, value) in any_pair(), noise in prop::collection::vec(any::<u8>(), 0..30),
        cut in any::<prop::sample::Index>(), flip in any::<u8>(),
    ) {
        let avro = schema(&kind);
        let mut datum = encode(&avro, &value).unwrap();
        if !datum.is_empty() {
            let at = cut.index(datum.len());
            datum[at] ^= flip;
        }
        for bytes in [&datum[..], &noise[..]] {
            if let Ok(json) = avro.decode(bytes) {
                prop_assert!(serde_json::from_slice::<Value>(&json).is_ok());
            }
        }
    }

    #[test]
    fn given_any_value_for_any_schema_then_encoding_says_what_is_wrong_or_decodes(
        (kind, _) in any_pair(), (_, value) in any_pair(),
    ) {
        let avro = schema(&kind);
        match encode(&avro, &value) {
            Ok(datum) => prop_assert!(avro.decode(&datum).is_ok()),
            Err(faults) => prop_assert!(faults.iter().all(|f| f.pointer.starts_with("/data"))),
        }
    }

    #[test]
    fn given_a_scalar_of_a_wrong_json_type_anywhere_in_a_record_then_the_one_fault_points_at_it(
        (inner, value) in any_pair(), at in any::<prop::sample::Index>(),
        wrong in any::<prop::sample::Index>(),
    ) {
        let kind = json!({"type": "record", "name": "R", "fields": [
            {"name": "a", "type": inner}, {"name": "b", "type": "int"}]});
        let mut value = json!({"a": value, "b": 1});
        let (pointer, there) = at.get(&scalars(&kind, &value, "")).clone();
        let misfits: Vec<_> =
            each_json_type().into_iter().filter(|json| !takes(there, json)).collect();
        *value.pointer_mut(&pointer).unwrap() = wrong.get(&misfits).clone();
        prop_assert_eq!(
            faults(&schema(&kind), &value),
            [("invalid_type", format!("/data{pointer}"))]
        );
    }
}
