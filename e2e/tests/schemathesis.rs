//! schemathesis against the served document: whatever can be derived from it is answered as it says,
//! never with a 5xx. What it takes for valid and what not is in `conformance/schemathesis.toml`.
//!
//! `PENSTOCK_E2E_EXAMPLES` is how many requests it makes up for each operation, beside those that the
//! document itself suggests; `PENSTOCK_E2E_SEED` the seed that they follow from.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::{path::PathBuf, process::Command, sync::OnceLock, time::Duration};

use e2e::{
    conformance::{ROLLUP, or_skip, python, run, scripts},
    process::Site,
};

/// A key that may do everything, with the hash of FIPS 180-2, B.1.
const KEY: &str = "abc";
const KEYS: &str = r#"
[[keys]]
name = "all"
hash = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
namespace = "shop"
scopes = ["operator"]
"#;

/// How long a request of this test may take.
const PATIENCE: Duration = Duration::from_secs(10);

fn variable(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

/// Where its program is, installed once for all tests of this file.
fn programs() -> Option<&'static PathBuf> {
    static PROGRAMS: OnceLock<Option<PathBuf>> = OnceLock::new();
    let kept = env!("CARGO_TARGET_TMPDIR").as_ref();
    let install = || or_skip(python(kept, "conformance-schemathesis", "schemathesis.txt"));
    PROGRAMS.get_or_init(install).as_ref()
}

/// Runs it against a node of its own, which has to stop in good order after it.
async fn holds(configuration: &str, header: Option<String>) {
    let Some(programs) = programs() else { return };
    let site = Site::new(configuration).unwrap();
    let node = site.start().await.unwrap();
    prepare(&site, header.as_deref()).await;
    // Fetched here: of a document that schemathesis fetches it leaves out the route of the document.
    let document = site.dir.path().join("openapi.json");
    std::fs::write(&document, get(&site.url("/openapi.json")).await).unwrap();
    let mut command = Command::new(programs.join("st"));
    command
        .current_dir(&site.dir)
        .env("PYTHONPATH", scripts())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg("--config-file")
        .arg(scripts().join("schemathesis.toml"))
        .arg("run")
        .arg(document)
        .args(["--url", &site.url(""), "--no-color"])
        .args(["--seed", &variable("PENSTOCK_E2E_SEED", "1")])
        .args(["--max-examples", &variable("PENSTOCK_E2E_EXAMPLES", "5")])
        // what an earlier run found is no part of this one
        .args(["--generation-database", "none"]);
    if let Some(header) = header {
        command.args(["--header", &header]);
    }
    let said = tokio::task::spawn_blocking(move || run(&mut command)).await.unwrap();
    let answers = answers(&site).await;
    println!("{}\nanswers: {answers:?}", said.unwrap());
    assert!(answers.iter().map(|(_, count)| count).sum::<u64>() > 500, "{answers:?}");
    assert!(!answers.iter().any(|(status, _)| status.starts_with('5')), "{answers:?}");
    node.stop().await.unwrap();
}

/// An event and a schema, so that the examples of the document find what they name.
async fn prepare(site: &Site, header: Option<&str>) {
    let schema = r#"{"schema":"{\"type\":\"record\",\"name\":\"Order\",\"fields\":[{\"name\":\"amount\",\"type\":\"double\"}]}"}"#;
    let event = r#"{"id":"1","source":"/shop","type":"order.placed","data":{"amount":12.5}}"#;
    for (path, body) in
        [("/registry/subjects/order.placed/versions", schema), ("/v1/events", event)]
    {
        let mut request = reqwest::Client::new().post(site.url(path)).timeout(PATIENCE).body(body);
        if let Some((name, value)) = header.and_then(|header| header.split_once(": ")) {
            request = request.header(name, value);
        }
        let answer = request.header("content-type", "application/json").send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
    }
}

async fn get(url: &str) -> String {
    let answer = reqwest::Client::new().get(url).timeout(PATIENCE).send().await.unwrap();
    answer.text().await.unwrap()
}

/// How often the node has answered with each status, as it counts itself.
async fn answers(site: &Site) -> Vec<(String, u64)> {
    let text = get(&format!("http://{}/metrics", site.admin)).await;
    let counts = text.lines().filter_map(|line| {
        let (status, count) =
            line.strip_prefix("penstock_http_answers_total{status=\"")?.split_once("\"} ")?;
        Some((status.to_owned(), count.parse().ok()?))
    });
    counts.collect()
}

#[tokio::test]
async fn whatever_the_document_allows_is_answered_as_it_says() {
    holds(ROLLUP, None).await;
}

#[tokio::test]
async fn with_keys_too() {
    let configuration = format!("{ROLLUP}{KEYS}");
    let header = format!("Authorization: Bearer {KEY}");
    holds(&configuration, Some(header)).await;
}
