//! What encodes also decodes: the limits of both ways agree.

use super::*;

/// A record of which each value takes 50 bytes and, by its defaults, 10 kB of JSON.
fn unfolding(name: &str) -> Value {
    let field = |at: usize| json!({"name": format!("{}{at}", "f".repeat(200)), "type": ["null", "int"], "default": null});
    json!({"type": "record", "name": name, "fields": (0..50).map(field).collect::<Vec<_>>()})
}

#[test]
fn given_data_that_would_unfold_beyond_what_decodes_then_it_is_too_large_at_once() {
    let many = |items: Value| schema(&json!({"type": "array", "items": items}));
    let decimal = json!({"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 37});
    for (items, item, fits, beyond) in [
        (unfolding("R"), "{}", 1_450, 1_600),
        (decimal, "1", 356_000, 385_000),
        (json!("double"), "1e15", 806_000, 844_000),
    ] {
        let avro = many(items);
        let encoded = |count: usize| {
            let text = format!("[{}]", vec![item; count].join(","));
            let mut out = b"before".to_vec();
            avro.encode(text.as_bytes(), UnknownFields::Reject, &mut out).map(|()| out)
        };
        let fitting = encoded(fits).unwrap();
        assert!(avro.decode(&fitting[6..]).unwrap().len() > MAX_JSON - MAX_JSON / 20, "{item}");
        let found = encoded(beyond).unwrap_err();
        assert_eq!((found[0].code, &*found[0].pointer), ("too_large", "/data"), "{item}");
    }
}

#[test]
fn given_defaults_that_unfold_beyond_what_decodes_then_the_schema_is_refused() {
    let wrap = |name: &str, inner: Value| {
        let field = |at: usize| {
            let kind = if at == 0 { inner.clone() } else { inner["name"].clone() };
            json!({"name": format!("f{at}"), "type": kind, "default": {}})
        };
        json!({"type": "record", "name": name, "fields": (0..50).map(field).collect::<Vec<_>>()})
    };
    let half_a_megabyte = wrap("B", unfolding("A"));
    assert!(Avro::parse(&half_a_megabyte.to_string()).is_ok());
    let refused = Avro::parse(&wrap("C", half_a_megabyte).to_string()).unwrap_err();
    assert_eq!(refused, format!("the defaults take more than {MAX_JSON} bytes of JSON"));
}

#[test]
fn given_a_union_around_the_deepest_json_that_is_taken_then_it_comes_back() {
    let avro = schema(&json!(["null", {"type": "record", "name": "L", "fields": [
        {"name": "next", "type": ["null", "L"]}]}]));
    let deepest = format!("{}null{}", "{\"next\":".repeat(100), "}".repeat(100));
    crate::json::check_skimmed(&deepest).unwrap();
    let mut datum = Vec::new();
    avro.encode(deepest.as_bytes(), UnknownFields::Reject, &mut datum).unwrap();
    assert_eq!(avro.decode(&datum), Ok(deepest.into_bytes()));
    // 101 records, each in its branch
    assert_eq!(avro.decode(&[vec![2; 101], vec![0]].concat()), Err("nested too deep"));
}
