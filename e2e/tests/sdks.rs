//! Other people's code against the real binary: the CloudEvents SDKs for Python and JavaScript, a client of
//! the Confluent Schema Registry, and a validator of OpenAPI documents. The scripts are in `conformance/`, what they need is pinned there
//! and is kept from run to run.
//!
//! Without Python or Node these tests say that they were skipped; where `CI` is set, that is a failure.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use e2e::process::Site;

const ROLLUP: &str = r#"
[[rollups]]
name = "orders"
type = "order.placed"
windows = ["1h"]
group_by = { carrier = "data.carrier" }
measures = { delay = { field = "data.delay", of = ["sum", "avg"] } }
"#;

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance")
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    ensure!(output.status.success(), "{command:?} failed:\n{}", said.concat());
    Ok(said.concat())
}

/// A folder in which what `pins` asks for was installed once, for as long as it asks for that.
fn installed(name: &str, pins: &str, install: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let (mark, pins) = (dir.join("installed"), fs::read_to_string(scripts().join(pins))?);
    if fs::read_to_string(&mark).is_ok_and(|found| found == pins) {
        return Ok(dir);
    }
    let _ = fs::remove_dir_all(&dir); // it may not be there
    fs::create_dir_all(&dir)?;
    install(&dir)?;
    fs::write(mark, pins)?;
    Ok(dir)
}

/// A Python with the pinned packages, in a folder of the test that asks.
fn python(name: &str) -> Result<Command> {
    let dir = installed(name, "requirements.txt", |dir| {
        run(Command::new("python3").args(["-m", "venv"]).arg(dir))?;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
        run(Command::new(dir.join("bin/python"))
            .args(pip)
            .arg(scripts().join("requirements.txt")))?;
        Ok(())
    })?;
    Ok(Command::new(dir.join("bin/python")))
}

/// A folder with the pinned modules.
fn node() -> Result<PathBuf> {
    installed("conformance-node", "package-lock.json", |dir| {
        for file in ["package.json", "package-lock.json"] {
            fs::copy(scripts().join(file), dir.join(file))?;
        }
        let npm = ["ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"];
        run(Command::new("npm").args(npm).current_dir(dir))?;
        Ok(())
    })
}

/// What was prepared, or nothing where that is allowed.
fn or_skip<T>(prepared: Result<T>) -> Option<T> {
    match prepared {
        Ok(prepared) => Some(prepared),
        Err(error) if std::env::var_os("CI").is_none() => {
            eprintln!("skipped: {error:#}");
            None
        }
        Err(error) => panic!("{error:#}"),
    }
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
    println!("{}", script(vec![site.url(""), digits]).await.unwrap().unwrap());
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
