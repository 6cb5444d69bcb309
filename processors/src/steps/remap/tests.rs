//! What a program can and cannot do with an event.

use proptest::prelude::*;
use schemas::{Data, Extension, Timestamp};

use super::*;
use crate::testing::event;

fn compile(source: &str) -> Remap {
    Remap::compile("test.vrl", source).unwrap()
}

fn run(source: &str, event: Event) -> Verdict {
    compile(source).apply(&Context::default(), event)
}

fn emitted(verdict: Verdict) -> Vec<Event> {
    match verdict {
        Verdict::Emit(Events::One(event)) => vec![event],
        Verdict::Emit(Events::Many(events)) => events,
        other => panic!("nothing was emitted: {other:?}"),
    }
}

fn one(source: &str, event: Event) -> Event {
    let [event] = emitted(run(source, event)).try_into().unwrap();
    event
}

fn detail(source: &str, event: Event) -> String {
    match run(source, event) {
        Verdict::Reject { reason, detail } => {
            assert_eq!(reason, "remap_error");
            detail
        }
        other => panic!("not rejected: {other:?}"),
    }
}

fn json(event: &Event) -> serde_json::Value {
    match &event.data {
        Data::Json(text) => serde_json::from_slice(text).unwrap(),
        other => panic!("not JSON: {other:?}"),
    }
}

#[test]
fn an_event_nobody_touches_comes_back_as_it_was() {
    let before = event(r#"{ "n": 1.50, "big": 18446744073709551615 }"#);
    assert_eq!(one("true", before.clone()), before);
}

#[test]
fn data_that_is_only_read_keeps_its_bytes() {
    let before = event(r#"{ "n": 1.50, "big": 18446744073709551615 }"#);
    let after = one(".subject = to_string!(.data.n)", before.clone());
    assert_eq!(after.data, before.data);
    assert_eq!(after.subject.as_deref(), Some("1.5"));
}

#[test]
fn attributes_and_data_can_be_written() {
    let program = r#"
        .type = "order.paid"
        .subject = "s"
        .region = "us"
        .retries = 3
        .data.total = .data.price * 2 ?? 0
        del(.data.price)
    "#;
    let after = one(program, event(r#"{"price":21}"#));
    assert_eq!((&*after.kind, after.subject.as_deref()), ("order.paid", Some("s")));
    assert_eq!(after.extensions["region"], "us".into());
    assert_eq!(after.extensions["retries"], Extension::Integer(3));
    assert_eq!(json(&after), serde_json::json!({"total": 42}));
}

#[test]
fn extensions_are_what_they_are_and_stay_so() {
    let mut before = event("{}");
    before.extensions = [
        ("flag".into(), Extension::Boolean(true)),
        ("number".into(), Extension::Integer(-7)),
        ("text".into(), "true".into()),
    ]
    .into();
    let program = r#"
        .subject = if .flag == true && .number == -7 && .text == "true" { "as they were" }
    "#;
    let after = one(program, before.clone());
    assert_eq!(after.subject.as_deref(), Some("as they were"));
    assert_eq!(after.extensions, before.extensions);
    let large = one(".number = 2147483648", before);
    assert_eq!(large.extensions["number"], "2147483648".into());
}

#[test]
fn del_alone_counts_as_a_write() {
    let after = one("del(.data.secret)", event(r#"{"secret":1,"n":2}"#));
    assert_eq!(json(&after), serde_json::json!({"n": 2}));
}

#[test]
fn members_that_a_program_does_not_name_are_as_if_it_had_had_them() {
    let mut before = event(r#"{"n":1,"items":[{"a":1},{"a":2}]}"#);
    before.extensions =
        [("region".into(), "eu".into()), ("tries".into(), Extension::Integer(2))].into();
    before.data_schema = Some("https://example.org/order".into());
    for program in [
        "true",
        ".data.n = 2",
        ".type = \"other\"",
        ".type = \"\"",
        ".time = 5",
        ".time = \"2020-01-01T00:00:00Z\"",
        ".new = 1\n.tries = null",
        "del(.subject)\ndel(.region)",
        "del(.id)",
        ".datacontenttype = \"text/plain\"\n.data = \"text\"",
        ".specversion = \"2.0\"",
        ".Bad = 1",
        "if exists(.dataschema) { .subject = .dataschema }",
        ". = merge(., {\"type\": .region})",
        ". = map_keys(.) -> |key| { key }",
        ". = [., merge(., {\"subject\": \"second\"})]",
        "rows = unnest!(.data.items)\n.subject = rows[1].type",
        ". = unnest!(.data.items)",
        ".rows = [1, 2]\nrows = unnest!(.rows)\ndel(.rows)\n.subject = encode_json(rows[1].data)",
    ] {
        let narrow = compile(program);
        let Remap { program: compiled, used, utc } = compile(program);
        let wide = Remap { program: compiled, used: used.all(), utc };
        let apply = |remap: Remap| remap.apply(&Context::default(), before.clone());
        assert_eq!(apply(narrow), apply(wide), "{program}");
    }
}

#[test]
fn an_attribute_is_removed_with_del_or_null() {
    let after = one("del(.subject)\n.region = null", event("{}"));
    assert_eq!((after.subject, after.extensions.len()), (None, 0));
}

#[test]
fn the_namespace_stays_whatever_the_program_writes() {
    let after = one(r#".namespace = "other""#, event("{}"));
    assert_eq!(&*after.namespace, "shop");
}

#[test]
fn abort_with_a_message_drops_with_that_reason() {
    assert_eq!(run(r#"abort "cancelled""#, event("{}")), Verdict::Drop("cancelled".into()));
}

#[test]
fn abort_without_a_message_drops_as_aborted() {
    assert_eq!(run("abort", event("{}")), Verdict::Drop("aborted".into()));
}

#[test]
fn a_runtime_error_rejects_with_its_message() {
    let detail = detail(".data.n = to_int!(.data.n)", event(r#"{"n":"many"}"#));
    assert!(detail.contains("to_int"), "{detail}");
}

#[test]
fn an_attribute_that_is_missing_rejects_and_is_named() {
    let detail = detail(r#". = {"id": "a", "source": "/s", "data": {}}"#, event("{}"));
    assert!(detail.contains("`.type` is missing"), "{detail}");
}

#[test]
fn an_attribute_of_the_wrong_kind_rejects_and_is_named() {
    assert!(detail(".id = 5", event("{}")).contains("`.id` must be a string"));
    assert!(detail(".source = \"\"", event("{}")).contains("`.source` must not be empty"));
    assert!(detail(".specversion = \"0.3\"", event("{}")).contains("`.specversion`"));
    assert!(detail(".time = \"noon\"", event("{}")).contains("`.time`"));
    assert!(detail(".Bad_Name = \"x\"", event("{}")).contains("`.Bad_Name`"));
    assert!(detail(".list = [1]", event("{}")).contains("`.list`"));
    assert!(detail(". = 5", event("{}")).contains("must be an object"));
}

#[test]
fn data_that_json_cannot_hold_rejects() {
    let bytes = detail(".data.x = decode_base64!(\"/w==\")", event("{}"));
    assert!(bytes.contains("not text"), "{bytes}");
    let infinite = detail(".data.x = to_float!(\"1e308\") * 10.0", event("{}"));
    assert!(infinite.contains("not finite"), "{infinite}");
}

#[test]
fn an_array_emits_several_and_names_them_after_their_parent() {
    let program = r#"
        items = array!(.data.items)
        parent = .
        . = map_values(items) -> |item| { merge(parent, {"data": item}) }
    "#;
    let events = emitted(run(program, event(r#"{"items":[1,2,3]}"#)));
    let ids: Vec<_> = events.iter().map(|event| &*event.id).collect();
    assert_eq!(ids, ["e1", "e1/1", "e1/2"]);
    assert_eq!(json(&events[2]), serde_json::json!(3));
}

#[test]
fn children_with_ids_of_their_own_keep_them() {
    let program = r#". = [., merge(., {"id": "mine"})]"#;
    let events = emitted(run(program, event("{}")));
    assert_eq!(events[1].id, "mine");
}

#[test]
fn an_empty_array_drops() {
    assert_eq!(run(". = []", event("{}")), Verdict::Drop("empty".into()));
}

#[test]
fn time_that_is_set_is_parsed_from_text_or_timestamp() {
    let text = one(r#".time = "2013-01-01T10:00:00.5Z""#, event("{}"));
    assert_eq!(text.time.micros, 1_357_034_400_500_000);
    let stamp = one("t = parse_timestamp!(.time, \"%+\")\n.time = t", event("{}"));
    let expected = Timestamp { micros: 1_357_034_400_000_000, text: "2013-01-01T10:00:00Z".into() };
    assert_eq!(stamp.time, expected);
}

#[test]
fn time_that_was_filled_in_stays_marked_when_it_is_changed() {
    let filled = Event { time_filled: true, ..event("{}") };
    assert!(one(r#".time = "2012-01-01T00:00:00Z""#, filled).time_filled);
}

#[test]
fn time_moved_ahead_is_marked_and_time_moved_back_is_not() {
    assert!(one(r#".time = "2013-01-01T10:00:01Z""#, event("{}")).time_filled);
    assert!(!one(r#".time = "2013-01-01T09:59:59Z""#, event("{}")).time_filled);
}

#[test]
fn text_data_is_a_string_and_other_bytes_are_base64() {
    let plain = |bytes: &'static [u8]| Event {
        data_content_type: Some("text/plain".into()),
        data: Data::Bytes(bytes.into()),
        ..event("{}")
    };
    let upper = one(".data = upcase(string!(.data))", plain(b"hello"));
    assert_eq!(upper.data, Data::Bytes("HELLO".into()));
    let bytes = one(".subject = .data_base64\n.data_base64 = \"AAE=\"", plain(b"\xff\xfe"));
    assert_eq!(bytes.subject.as_deref(), Some("//4="));
    assert_eq!(bytes.data, Data::Bytes(vec![0, 1].into()));
}

#[test]
fn text_data_becomes_json_with_its_content_type() {
    let csv = Event {
        data_content_type: Some("text/csv".into()),
        data: Data::Bytes("1,2".into()),
        ..event("{}")
    };
    let program = ".data = parse_csv!(.data)\n";
    assert!(detail(program, csv.clone()).contains(".datacontenttype"));
    let typed = format!("{program}.datacontenttype = \"application/json\"");
    assert_eq!(json(&one(&typed, csv)), serde_json::json!(["1", "2"]));
}

#[test]
fn each_excluded_function_is_a_load_error_that_names_it_and_the_alternative() {
    for (function, instead) in functions::EXCLUDED {
        let source = format!(".data.a = 1\n.data.b = {function}()");
        let error = Remap::compile("p.vrl", &source).err().expect(function);
        assert!(error.contains(&format!("`{function}` cannot be used")), "{error}");
        assert!(error.contains(instead), "{error}");
    }
}

#[test]
fn the_machines_time_zone_is_refused_at_load_and_at_run_time() {
    let literal = r#".data.t = format_timestamp!(parse_timestamp!(.time, "%+"), "%c", "local")"#;
    let error = Remap::compile("p.vrl", literal).err().unwrap();
    assert!(error.contains("time zone `local`"), "{error}");
    let dynamic = r#".data.t = parse_timestamp!("2013", "%Y", .data.zone)"#;
    assert!(detail(dynamic, event(r#"{"zone":"local"}"#)).contains("time zone `local`"));
}

#[test]
fn a_named_time_zone_is_allowed() {
    let program =
        r#".time = parse_timestamp!("2013-01-01 05:00", "%F %R", timezone: "America/New_York")"#;
    assert_eq!(one(program, event("{}")).time.text, "2013-01-01T10:00:00Z");
}

#[test]
fn translation_of_cef_labels_is_refused() {
    let program = ".data = parse_cef!(.data, translate_custom_fields: true)";
    let error = Remap::compile("p.vrl", program).err().unwrap();
    assert!(error.contains("translate_custom_fields"), "{error}");
}

#[test]
fn a_compile_error_shows_its_line_and_column_without_colours() {
    let error = Remap::compile("p.vrl", ".a = \"x\"\n.b = 1 +").err().unwrap();
    assert!(error.starts_with("p.vrl does not compile:"), "{error}");
    assert!(error.contains(":2:") && !error.contains('\u{1b}'), "{error}");
}

#[test]
fn metadata_cannot_be_written() {
    assert!(Remap::compile("p.vrl", "%x = 1").err().unwrap().contains("read-only"));
}

#[test]
fn settings_are_a_path_a_file_or_a_source_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("p.vrl"), ".type = \"t\"").unwrap();
    let built = |settings: &str| {
        let table: toml::Table = toml::from_str(&format!("remap = {settings}")).unwrap();
        build(&table["remap"], dir.path()).err()
    };
    assert_eq!(built(r#""p.vrl""#), None);
    assert_eq!(built(r#"{ file = "p.vrl" }"#), None);
    assert_eq!(built(r#"{ source = ".type = 'x'" }"#).map(|_| ()), Some(()));
    assert_eq!(built(r#"{ source = '.type = "x"' }"#), None);
    assert!(built(r#""gone.vrl""#).unwrap().contains("gone.vrl"));
    assert!(built(r#"{ sauce = "" }"#).unwrap().contains("sauce"));
    assert!(built("{}").unwrap().contains("either `file` or `source`"));
    assert!(built("5").unwrap().contains("path of a program"));
}

/// A row of the flights table, and a program of about the size that people write.
#[test]
fn a_typical_program_reads_a_row() {
    let program = r#"
        row = object!(.data)
        if row.dep_time == "NA" { abort "cancelled" }
        .type = "flight.departed"
        .time = from_unix_timestamp!(
            to_unix_timestamp(parse_timestamp!(row.time_hour, format: "%+")) + to_int!(row.minute) * 60)
        .data = {"carrier": string!(row.carrier), "dep_delay": to_float!(row.dep_delay)}
    "#;
    let row = r#"{"dep_time":"517","time_hour":"2013-01-01T10:00:00Z","minute":"15","carrier":"UA","dep_delay":"2"}"#;
    let after = one(program, event(row));
    assert_eq!(after.time.text, "2013-01-01T10:15:00Z");
    assert_eq!(json(&after), serde_json::json!({"carrier": "UA", "dep_delay": 2.0}));
    let cancelled = run(program, event(&row.replace("517", "NA")));
    assert_eq!(cancelled, Verdict::Drop("cancelled".into()));
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        (-1e15..1e15).prop_map(serde_json::Value::from),
        ".{0,12}".prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map("[a-zA-Z0-9_ ]{0,6}", inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_data_survives_a_program_that_writes(data in any_json()) {
        let before = event(&data.to_string());
        let after = one(". = merge(., {\"region\": \"x\"})", before);
        prop_assert_eq!(json(&after), data);
    }

    #[test]
    fn the_same_event_gets_the_same_verdict(data in any_json(), id in "[a-z]{1,8}") {
        let program = compile(r#"
            if is_null(.data) { abort "nothing" }
            if is_array(.data) {
                parent = .
                . = map_values(array!(.data)) -> |item| { merge(parent, {"data": item}) }
            } else {
                .data = {"was": to_string!(.data), "len": length(.id)}
            }
        "#);
        let event = Event { id, ..event(&data.to_string()) };
        let first = program.apply(&Context::default(), event.clone());
        for _ in 0..3 {
            prop_assert_eq!(&program.apply(&Context::default(), event.clone()), &first);
        }
        let compiled_again = compile("true"); // another program in between
        compiled_again.apply(&Context::default(), event.clone());
        let elsewhere = std::thread::scope(|scope| {
            scope.spawn(|| program.apply(&Context::default(), event.clone())).join().unwrap()
        });
        prop_assert_eq!(&elsewhere, &first);
    }
}

#[test]
fn what_would_nest_too_deep_or_become_too_many_is_an_error_of_the_event() {
    let deep = 200_000;
    let xml = format!("{}{}", "<a>".repeat(deep), "</a>".repeat(deep));
    let data = |value: serde_json::Value| event(&value.to_string());
    for (program, before, says) in [
        (".data = parse_xml!(.data.x)", data(serde_json::json!({"x": xml})), "deeper"),
        (".data = unflatten!(.data)", data(serde_json::json!({"a.".repeat(deep): 1})), "deeper"),
        (
            ".data = unflatten!(.data, \"/\")",
            data(serde_json::json!({"a/".repeat(deep): 1})),
            "deeper",
        ),
        (".data = set!({}, .data, 1)", data(vec!["a"; deep].into()), "deeper"),
        (
            ".data = unflatten!(.data, \"\")",
            data(serde_json::json!({"a": 1, "b": 2})),
            "empty separator",
        ),
        (".data = set!([], .data, 1)", data(serde_json::json!([4_000_000_000_u32])), "places"),
        (
            ".data = format_number!(1, scale: int!(.data))",
            data(serde_json::json!(4_000_000_000_u32)),
            "places",
        ),
        (". = unnest!(.data.x)", data(serde_json::json!({"x": vec![0; deep]})), "10000 events"),
        (
            ". = unnest!(.data.x)",
            data(serde_json::json!({"x": vec![0; 9_000], "y": vec![0; 100_000]})),
            "1000000 values",
        ),
        (
            ". = unnest!(.data.x)",
            data(serde_json::json!({"x": vec![0; 9_000], "y": xml})),
            "bytes of data",
        ),
    ] {
        let says_all = detail(program, before);
        assert!(says_all.contains(says), "{program}: {says_all}");
    }
    let xml = one(".data = parse_xml!(.data.x)", event(r#"{"x":"<a><b>1</b></a>"}"#));
    assert_eq!(json(&xml), serde_json::json!({"a": {"b": 1}}));
}

#[test]
fn what_is_looked_at_twice_cannot_be_deleted_meanwhile() {
    for call in ["parse_xml!(del(.data.x))", "unflatten!(.data, string!(del(.data.by)))"] {
        let error = Remap::compile("p", &format!(".data = {call}")).err().unwrap();
        assert!(error.contains("assign what was deleted to a variable first"), "{error}");
    }
    let program = "x = del(.data.x)\n.data.y = parse_xml!(x)";
    let after = one(program, event(r#"{"x":"<a>1</a>"}"#));
    assert_eq!(json(&after), serde_json::json!({"y": {"a": 1}}));
}

#[test]
fn a_program_that_takes_too_long_rejects_the_event() {
    let program = "n = 0\nfor_each(array!(.data)) -> |_, _| { for_each(array!(.data)) -> |_, _| { n = n + 1 } }";
    let many = event(&serde_json::json!(vec![0; 10_000]).to_string());
    assert!(detail(program, many).contains("more than 10000000 expressions"));
    one(program, event("[1,2,3]"));
}

/// A text cannot end the process, whatever parses it: the stack of a thread is 2 MiB.
#[test]
fn deep_texts_overflow_no_function_of_a_text() {
    let deep = 20_000;
    let texts = ["[", "{", "(", "<a>", "{\"a\":", "a=(", "{:a=>", "- ", "a.", "\"{", "a[", "!"];
    let texts: Vec<_> =
        texts.iter().map(|open| event(&serde_json::json!(open.repeat(deep)).to_string())).collect();
    let mut judged = 0;
    for function in functions::allowed() {
        let name = function.identifier();
        let required = function.parameters().iter().filter(|p| p.required).count();
        let calls = [format!("{name}!(.data)"), format!("{name}(string!(.data))")];
        let calls = calls.iter().map(|call| format!(".data = {call}"));
        let Some(program) = calls.filter_map(|call| Remap::compile(name, &call).ok()).next() else {
            continue;
        };
        assert_eq!(required, 1, "{name}");
        judged += 1;
        for text in &texts {
            let _ = program.apply(&Context::default(), text.clone());
        }
    }
    assert!(judged > 60, "only {judged}");
}
