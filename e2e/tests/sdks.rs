//! Other people's code against the real binary: the CloudEvents SDKs for Python, JavaScript and Go, a client of
//! the Confluent Schema Registry, and a validator of OpenAPI documents. The scripts are in `conformance/`, what they need is pinned there
//! and is kept from run to run.
//!
//! Without Python, Node or Go these tests say that they were skipped; where `CI` is set, that is a failure.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, ensure};
use e2e::{
    conformance::{self, ROLLUP, installed, or_skip, run, scripts},
    process::Site,
};

/// Where what the scripts need is kept.
const KEPT: &str = env!("CARGO_TARGET_TMPDIR");

/// A Python with the pinned packages, in a folder of the test that asks.
fn python(name: &str) -> Result<Command> {
    let programs = conformance::python(KEPT.as_ref(), name, "requirements.txt")?;
    Ok(Command::new(programs.join("python")))
}

/// A folder with the pinned modules.
fn node() -> Result<PathBuf> {
    installed(KEPT.as_ref(), "conformance-node", "package-lock.json", |dir| {
        for file in ["package.json", "package-lock.json"] {
            fs::copy(scripts().join(file), dir.join(file))?;
        }
        let npm = ["ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"];
        run(Command::new("npm").args(npm).current_dir(dir))?;
        Ok(())
    })
}

/// The program of the folder `go`, built with what is pinned there.
fn go() -> Result<Command> {
    let program = Path::new(KEPT).join("conformance-go");
    let build = ["build", "-mod=readonly", "-o"];
    run(Command::new("go").args(build).arg(&program).arg(".").current_dir(scripts().join("go")))?;
    Ok(Command::new(program))
}

/// Runs a script against a node of its own, which has to stop in good order after it.
async fn passes(mut command: Command) {
    let site = Site::new(ROLLUP).unwrap();
    let node = site.start().await.unwrap();
    command.arg(site.url(""));
    let said = tokio::task::spawn_blocking(move || run(&mut command)).await.unwrap();
    println!("{}", said.unwrap());
    node.stop().await.unwrap();
}

#[tokio::test]
async fn what_the_python_sdk_posts_it_reads_back_as_it_was_sent() {
    let Some(mut python) = or_skip(python("conformance-python-sdk")) else { return };
    python.arg(scripts().join("post.py"));
    passes(python).await;
}

#[tokio::test]
async fn what_the_javascript_sdk_posts_it_reads_back_as_it_was_sent() {
    let Some(dir) = or_skip(node()) else { return };
    fs::copy(scripts().join("post.mjs"), dir.join("post.mjs")).unwrap();
    let mut node = Command::new("node");
    node.arg(dir.join("post.mjs"));
    passes(node).await;
}

#[tokio::test]
async fn what_the_go_sdk_posts_it_reads_back_as_it_was_sent() {
    let Some(go) = or_skip(go()) else { return };
    passes(go).await;
}

#[tokio::test]
async fn the_document_of_the_api_is_valid_and_answers_are_as_it_says() {
    let Some(mut python) = or_skip(python("conformance-python-api")) else { return };
    python.arg(scripts().join("api.py"));
    passes(python).await;
}

#[tokio::test]
async fn the_registry_client_of_confluent_is_served_and_decodes_what_penstock_wrote() {
    let Some(python) = or_skip(python("conformance-python-registry")) else { return };
    let script = |more: Vec<String>| {
        let mut command = Command::new(python.get_program());
        command.arg(scripts().join("registry.py")).args(more);
        tokio::task::spawn_blocking(move || run(&mut command))
    };
    let site = Site::new("").unwrap();
    let node = site.start().await.unwrap();
    println!("{}", script(vec![site.url("")]).await.unwrap().unwrap());
    let event = r#"{"specversion":"1.0","id":"1","source":"/shop","type":"order.placed","data":{"amount":12.5}}"#;
    let posted = reqwest::Client::new()
        .post(site.url("/v1/events"))
        .header("content-type", "application/cloudevents+json")
        .body(event)
        .send();
    assert_eq!(posted.await.unwrap().status(), 202);
    node.stop().await.unwrap();

    let value = only_value(&site.data().join("log"), "events.raw").await.unwrap();
    let digits: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
    let node = site.start().await.unwrap();
    println!("{}", script(vec![site.url(""), "--value".into(), digits]).await.unwrap().unwrap());
    node.stop().await.unwrap();
}

/// The value of the only record of a topic, read from the log of a node that has stopped.
async fn only_value(log: &Path, topic: &str) -> Result<Vec<u8>> {
    let url = format!("file:{}", log.display());
    let log = eventlog::open(&url, eventlog::Options::default()).await?;
    let mut values = Vec::new();
    for partition in 0..log.topic(topic).await?.partitions {
        let bounds = log.bounds(topic, partition).await?;
        let mut reader = log.read(topic, partition, bounds.start, bounds.end).await?;
        while let Some((records, _)) = reader.next().await? {
            values.extend(records.into_iter().filter_map(|stored| stored.record.value));
        }
    }
    ensure!(values.len() == 1, "{} records", values.len());
    Ok(values[0].to_vec())
}
