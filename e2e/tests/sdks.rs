//! Other people's code against the real binary: the CloudEvents SDKs for Python and JavaScript, and a
//! validator of OpenAPI documents. The scripts are in `conformance/`, what they need is pinned there
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
