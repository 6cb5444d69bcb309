//! Reading and writing structured events.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::extension::tests::any_extension;

fn read(text: &str) -> Result<(Event, Filled), Vec<Fault>> {
    let namespace = Arc::from("shop");
    let mut defaults =
        Defaults { namespace: &namespace, now: 1_000_000, fill_id: None, fill_specversion: false };
    event_from_json(text.as_bytes(), &mut defaults)
}

fn with(member: &str, value: Value) -> String {
    let mut event = json!({"specversion": "1.0", "id": "1", "source": "/a", "type": "t"});
    event[member] = value;
    event.to_string()
}

fn faults(text: &str) -> Vec<(&'static str, String)> {
    let found = read(text).expect_err("it should be refused");
    found.into_iter().map(|f| (f.code, f.pointer)).collect()
}

fn one(code: &'static str, pointer: &str) -> Vec<(&'static str, String)> {
    vec![(code, pointer.to_owned())]
}

#[test]
fn given_a_whole_event_then_every_attribute_is_read() {
    let (event, filled) = read(
        r#"{"specversion":"1.0","id":"1","source":"/a","type":"t","subject":"s",
            "time":"2020-01-01T00:00:00+01:00","datacontenttype":"application/json",
            "dataschema":"urn:x","text":"x","flag":true,"number":-5,"none":null,"data":{"a" : 1}}"#,
    )
    .unwrap();
    assert_eq!(filled, Filled::default());
    assert_eq!((&*event.namespace, &*event.id, &*event.source), ("shop", "1", "/a"));
    assert_eq!((&*event.kind, event.subject.as_deref()), ("t", Some("s")));
    assert_eq!(event.time.text, "2020-01-01T00:00:00+01:00");
    assert_eq!(event.data_content_type.as_deref(), Some("application/json"));
    assert_eq!(event.data_schema.as_deref(), Some("urn:x"));
    let extensions: Vec<_> = event.extensions.iter().map(|(n, v)| (&**n, v.clone())).collect();
    assert_eq!(
        extensions,
        [
            ("flag", Extension::Boolean(true)),
            ("number", Extension::Integer(-5)),
            ("text", "x".into())
        ]
    );
    assert_eq!(event.data, Data::Json(r#"{"a" : 1}"#.into()));
}

#[test]
fn given_no_time_then_now_is_filled_in_and_said_so() {
    let (event, filled) = read(&with("time", Value::Null)).unwrap();
    assert_eq!((&*event.time.text, event.time_filled), ("1970-01-01T00:00:01Z", true));
    assert_eq!(filled, Filled { id: false, time: true });
}

#[test]
fn given_the_plain_form_then_id_and_specversion_are_filled_in() {
    let namespace = Arc::from("shop");
    let mut name = || "new".to_owned();
    let mut defaults = Defaults {
        namespace: &namespace,
        now: 0,
        fill_id: Some(&mut name),
        fill_specversion: true,
    };
    let (event, filled) = event_from_json(br#"{"source":"/a","type":"t"}"#, &mut defaults).unwrap();
    assert_eq!((&*event.id, filled.id), ("new", true));
    let faults = event_from_json(br#"{"id":"","source":"/a","type":"t"}"#, &mut defaults);
    assert_eq!(faults.unwrap_err()[0].pointer, "/id", "an empty id is not an absent one");
}

#[test]
fn given_several_faults_then_all_are_reported() {
    assert_eq!(
        faults(r#"{"specversion":"0.3","id":7,"type":"","time":"today","Bad":1}"#),
        [
            ("invalid_attribute", "/specversion"),
            ("invalid_attribute", "/id"),
            ("missing_attribute", "/source"),
            ("invalid_attribute", "/type"),
            ("invalid_attribute", "/time"),
            ("invalid_attribute_name", "/Bad"),
        ]
        .map(|(code, pointer)| (code, pointer.to_owned()))
    );
}

#[test]
fn given_a_wrong_attribute_then_its_fault_points_at_it() {
    for (name, value) in [
        ("source", json!("a b")),
        ("source", json!([])),
        ("subject", json!("")),
        ("subject", json!("a\u{1}")),
        ("datacontenttype", json!("json")),
        ("source", json!("/Zürich")),
        ("id", json!("\u{FFFE}")),
        ("type", json!("x".repeat(MAX_ATTRIBUTE_BYTES + 1))),
        ("datacontenttype", json!("text/plain; charset")),
        ("dataschema", json!("a b")),
        ("dataschema", json!("/schema")),
        ("ext", json!("\u{FDD0}")),
        ("ext", json!({})),
        ("ext", json!(1.5)),
        ("ext", json!(3_000_000_000_i64)),
        ("time", json!(5)),
    ] {
        assert_eq!(faults(&with(name, value)), one("invalid_attribute", &format!("/{name}")));
    }
}

#[test]
fn given_a_member_twice_then_it_is_refused() {
    for member in ["\"id\":\"2\"", "\"x\":1,\"x\":1", "\"data\":1,\"data\":1"] {
        let text = with("a", json!(1)).replacen('{', &format!("{{{member},"), 1);
        assert_eq!(faults(&text)[0].0, "duplicate_attribute", "{text}");
    }
}

#[test]
fn given_what_is_not_json_then_the_position_is_said_and_no_value() {
    for text in ["{\"id\":\"secret\",", "{\"id\":\"secret\"} x", "", "nul", "{\"id\": secret}"] {
        let fault = read(text).unwrap_err().remove(0);
        assert_eq!((fault.code, &*fault.pointer), ("invalid_json", ""));
        assert!(fault.detail.contains(" at column ") && !fault.detail.contains("secret"));
    }
    assert!(read("\u{feff}{}").unwrap_err()[0].detail.contains("byte order mark"));
    let namespace = Arc::from("n");
    let mut defaults =
        Defaults { namespace: &namespace, now: 0, fill_id: None, fill_specversion: false };
    let fault = event_from_json(b"{\"\xFF\":1}", &mut defaults).unwrap_err().remove(0);
    assert_eq!((fault.code, &*fault.detail), ("invalid_json", "not UTF-8 at byte 2"));
}

#[test]
fn given_json_that_is_no_object_then_it_is_said_without_its_value() {
    for text in ["\"secret\"", "[1]", "null", "5"] {
        let fault = read(text).unwrap_err().remove(0);
        assert_eq!((fault.code, &*fault.detail), ("not_an_object", "an event is a JSON object"));
    }
}

#[test]
fn given_data_and_data_base64_then_they_exclude_each_other() {
    let text = with("data_base64", json!("AA==")).replacen('{', "{\"data\":1,", 1);
    assert_eq!(faults(&text), one("invalid_data", "/data_base64"));
    assert_eq!(faults(&with("data_base64", json!("?"))), one("invalid_data", "/data_base64"));
    let (event, _) = read(&with("data_base64", json!("AP8="))).unwrap();
    assert_eq!(event.data, Data::Bytes(vec![0, 255].into()));
}

#[test]
fn given_a_content_type_that_is_not_json_then_data_is_its_text() {
    let text =
        |data: Value| with("data", data).replacen('{', "{\"datacontenttype\":\"text/csv\",", 1);
    assert_eq!(read(&text(json!("a\n\"b"))).unwrap().0.data, Data::Bytes("a\n\"b".into()));
    assert_eq!(faults(&text(json!({"a": 1}))), one("invalid_data", "/data"));
}

#[test]
fn given_data_that_no_reader_could_build_then_it_is_refused() {
    let text = |data: &str| format!("{{\"data\":{data},{}", &with("a", json!(1))[1..]);
    for data in ["\"\\ud800\"", "1e999", &format!("{}{}", "[".repeat(101), "]".repeat(101))] {
        assert_eq!(faults(&text(data)), one("invalid_data", "/data"));
    }
}

#[test]
fn given_media_types_then_json_is_told_from_the_rest() {
    let json = ["application/json", "Application/JSON", "text/json; charset=x", "a/b+json"];
    assert!(json.into_iter().all(is_json));
    assert!(
        !["text/plain", "application/jsonx", "json", "application/xml"].into_iter().any(is_json)
    );
}

proptest! {
    #[test]
    fn given_any_event_then_what_is_written_reads_back(
        text in "[ -~äß😀]{1,10}", uri in "[a-z][a-z0-9+.-]{0,3}:[a-z0-9/]{0,6}", extension in any_extension(),
        data in prop::sample::select(vec![
            Data::None, Data::Json("null".into()), Data::Json("{\"a\":[1,2]}".into()),
            Data::Bytes("".into()), Data::Bytes(vec![0, 200].into()),
        ]),
        media in prop::sample::select(vec![None, Some("application/json"), Some("a/x+json")]),
    ) {
        let event = Event {
            namespace: "shop".into(), id: text.clone(), source: uri.clone(), kind: text.clone(),
            subject: Some(text), time: Timestamp::from_micros(5), time_filled: false,
            data_content_type: media.map(str::to_owned), data_schema: Some(uri),
            extensions: Extensions::from([("ext".to_owned(), extension)]), data,
        };
        let mut out = Vec::new();
        event_to_json(&event, &mut out);
        prop_assert_eq!(read(std::str::from_utf8(&out).unwrap()), Ok((event, Filled::default())));
    }

    #[test]
    fn given_any_bytes_then_reading_them_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let namespace = Arc::from("n");
        let mut defaults = Defaults { namespace: &namespace, now: 0, fill_id: None, fill_specversion: true };
        let _ = event_from_json(&bytes, &mut defaults);
    }
}
