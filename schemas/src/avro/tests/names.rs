//! Names that a schema defines.

use super::*;

fn fixed(name: &str, more: Value) -> Value {
    let mut fixed = json!({"type": "fixed", "name": name, "size": 16});
    fixed.as_object_mut().unwrap().append(more.as_object().cloned().as_mut().unwrap());
    fixed
}

fn pair(first: &Value, second: &Value) -> Result<Avro, String> {
    let fields = json!([{"name": "a", "type": first}, {"name": "b", "type": second}]);
    Avro::parse(&json!({"type": "record", "name": "n.R", "fields": fields}).to_string())
}

#[test]
fn given_a_name_defined_twice_then_the_schema_is_refused_whatever_it_names() {
    let decimal = json!({"logicalType": "decimal", "precision": 4});
    let record = json!({"type": "record", "name": "F", "fields": []});
    let list = json!({"type": "enum", "name": "F", "symbols": ["A"]});
    let one = fixed("F", json!({}));
    for other in [
        one.clone(),
        fixed("F", json!({"size": 2})),
        fixed("n.F", json!({})),
        fixed("F", json!({"namespace": "n"})),
        fixed("F", decimal),
        fixed("F", json!({"logicalType": "uuid"})),
        record,
        json!({"type": "array", "items": ["null", list]}),
    ] {
        for (first, second) in [(&one, &other), (&other, &one)] {
            assert_eq!(pair(first, second).unwrap_err(), "it defines `n.F` twice", "{other}");
        }
    }
    let again = json!({"type": "record", "name": "R", "fields": []});
    assert_eq!(pair(&json!("int"), &again).unwrap_err(), "it defines `n.R` twice");
}

#[test]
fn given_one_name_in_several_namespaces_then_each_is_a_type_of_its_own() {
    let here = fixed("F", json!({"size": 1}));
    for other in [fixed("m.F", json!({"size": 2})), fixed("F", json!({"size": 2, "namespace": ""}))]
    {
        let avro = pair(&here, &other).unwrap();
        assert_eq!(encode(&avro, &json!({"a": "AA==", "b": "AP8="})).unwrap(), [0, 0, 255]);
    }
    assert!(pair(&here, &json!("F")).is_ok(), "to name it is not to define it");
}

#[test]
fn given_a_field_that_is_no_object_then_the_schema_is_refused() {
    let good = json!({"name": "a", "type": "int"});
    for bad in [json!("a"), json!(null), json!(["a"])] {
        let text = json!({"type": "record", "name": "R", "fields": [good, bad]}).to_string();
        assert!(Avro::parse(&text).unwrap_err().contains("item 1 of a record's `fields`"));
    }
    let attribute = json!({"type": "int", "fields": ["a"]}).to_string();
    assert!(Avro::parse(&attribute).is_ok(), "what is no record may have any attribute");
}
