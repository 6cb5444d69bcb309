//! `penstock schemas` against a running node.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    path::Path,
    process::{Command, Output},
};

use penstock::node::{Bundle, Node};

mod support;

const ONE: &str = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"}]}"#;
const OTHER: &str = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"string"}]}"#;

async fn node(dir: &Path) -> Node {
    Node::start(support::config(dir), Bundle::default()).await.unwrap()
}

/// Runs a command in a folder; exit code, standard output, standard error.
async fn run(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_penstock"));
    command.arg("schemas").args(args).current_dir(dir).env_remove("PENSTOCK_KEY");
    let ended = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    let Output { status, stdout, stderr } = ended.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_is_checked_registered_listed_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path()).await;
    let url = format!("http://{}", node.http_addr);
    let ask = async |args: &[&str]| run(dir.path(), &[args, &["--url", &url]].concat()).await;
    // with a byte order mark, as some editors write it
    std::fs::write(dir.path().join("one.avsc"), format!("\u{feff}{ONE}")).unwrap();
    std::fs::write(dir.path().join("other.avsc"), OTHER).unwrap();
    let kind = "org/order placed";

    let (code, said, _) = ask(&["check", "one.avsc", "--type", kind]).await;
    assert!(code == 0 && said.contains("compatible"), "{said}");
    let (code, said, _) = ask(&["register", "one.avsc", "--type", kind]).await;
    assert_eq!((code, said.as_str()), (0, "org/order placed: version 1, id 1\n"));
    let (code, _, why) = ask(&["check", "other.avsc", "--type", kind]).await;
    assert!(code == 1 && why.contains("/data/a") && why.contains("version 1"), "{why}");
    let (code, _, why) = ask(&["register", "other.avsc", "--type", kind]).await;
    assert!(code == 1 && why.contains("409") && why.contains("/data/a"), "{why}");

    let (code, listed, _) = ask(&["list", "--json"]).await;
    assert_eq!(
        (code, listed.as_str()),
        (0, "[{\"id\":1,\"type\":\"org/order placed\",\"version\":1}]\n")
    );
    let (code, shown, _) = ask(&["show", kind]).await;
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((code, shown), (0, serde_json::from_str(ONE).unwrap()));
    let (code, _, why) = ask(&["show", "nothing"]).await;
    assert!(code == 1 && why.contains("`nothing` is not known"), "{why}");
    let (code, _, why) = ask(&["register", "one.avsc", "--type", "new\tty\npe"]).await;
    assert!(code == 1 && why.contains("no control characters"), "{why}");
    node.stop().await.unwrap();
}

#[tokio::test]
async fn a_schema_is_proposed_from_samples_of_one_or_several_types() {
    let dir = tempfile::tempdir().unwrap();
    let events = concat!(
        "\u{feff}",
        r#"{"type":"a","data":{"x":1}}"#,
        "\n\n",
        r#"{"type":"b/c","data":{"y":"t"}}"#,
        "\n",
        r#"{"type":"a","data":{"x":1.5,"z":null}}"#,
        "\n",
    );
    std::fs::write(dir.path().join("events.ndjson"), events).unwrap();
    let (code, _, why) = run(dir.path(), &["infer", "events.ndjson"]).await;
    assert!(code == 1 && why.contains("a, b/c"), "{why}");
    let (code, said, _) = run(dir.path(), &["infer", "events.ndjson", "--type", "a"]).await;
    let schema: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &schema["fields"][0]["type"]), (0, &"double".into()));
    assert_eq!(run(dir.path(), &["infer", "events.ndjson", "--out", "s"]).await.0, 0);
    assert!(dir.path().join("s/a.avsc").exists() && dir.path().join("s/b_c.avsc").exists());
    std::fs::write(dir.path().join("bad.ndjson"), "{\"type\":\"a\"}\nSECRET\n").unwrap();
    let (code, _, why) = run(dir.path(), &["infer", "bad.ndjson"]).await;
    assert!(code == 1 && why.contains("line 2") && !why.contains("SECRET"), "{why}");
}
