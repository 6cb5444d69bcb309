//! Each service as users type it: what it prints, its exit code, and how it waits for what it needs.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    process::{Command, Output},
    time::{Duration, Instant},
};

use e2e::process::{Site, free_address, named};

/// The services, each with a configuration that leaves log and store embedded.
const SERVICES: [(&str, &str); 5] = [
    ("penstock-ingest", ""),
    ("penstock-processor", EMBEDDED_PROCESSOR),
    ("penstock-remap", EMBEDDED_PROCESSOR),
    ("penstock-sink", ""),
    ("penstock-query", ""),
];
const EMBEDDED_PROCESSOR: &str =
    "processors = [{ name = 'clean', steps = [{ remap = { source = '.' } }] }]";

/// A run that ends by itself, with nothing of Penstock in its environment.
fn run(service: &str, args: &[&str], config: &str) -> (i32, String, String) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("penstock.toml"), config).unwrap();
    let mut command = Command::new(named(service));
    command.args(args).current_dir(&dir).env_clear();
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn help_has_examples_and_version_names_the_binary() {
    for (name, _) in SERVICES {
        let (code, help, _) = run(name, &["--help"], "");
        assert_eq!(code, 0, "{name}");
        assert!(help.contains("Examples:\n") && help.contains("--config <FILE>"), "{help}");
        let (code, version, _) = run(name, &["--version"], "");
        assert_eq!(code, 0, "{name}");
        assert_eq!(version, format!("{name} {}\n", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn wrong_usage_is_exit_code_2() {
    for (name, _) in SERVICES {
        for args in [&["--confg", "x"][..], &["file.toml"], &["--config"]] {
            let (code, _, said) = run(name, args, "");
            assert_eq!(code, 2, "{name} {args:?}: {said}");
            assert!(said.contains("--help"), "{said}");
        }
    }
}

#[test]
fn every_mistake_of_the_configuration_is_told_whichever_service_it_is_for() {
    let mistakes =
        "[log]\nurl = 'kafka://a:'\n[ingest]\ntimeout = '1x'\n[sink]\nwindow_records = 0\n";
    for (name, _) in SERVICES {
        let (code, _, said) = run(name, &["--config", "penstock.toml"], mistakes);
        assert_eq!(code, 1, "{name}: {said}");
        for place in [
            "penstock.toml:2:1: log.url",
            "penstock.toml:4:11: ingest.timeout",
            "penstock.toml:6:1: sink",
        ] {
            assert!(said.contains(place), "{name}: {said}");
        }
        let (code, _, said) = run(name, &["--config", "nowhere.toml"], "");
        assert!(code == 1 && said.contains("nowhere.toml"), "{name}: {said}");
    }
}

#[test]
fn an_embedded_log_or_store_is_refused_with_what_to_do() {
    for (name, embedded) in SERVICES {
        let (code, _, said) = run(name, &["--config", "penstock.toml"], embedded);
        assert_eq!(code, 1, "{name}: {said}");
        assert!(said.contains("is file:") && said.contains("`penstock run`"), "{name}: {said}");
    }
}

#[test]
fn a_processor_that_is_not_there_is_wrong_usage() {
    let (code, _, said) = run("penstock-processor", &["--only", "nobody"], "");
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("--only nobody") && said.contains("there is clean"), "{said}");
}

#[test]
fn a_remap_without_a_program_is_wrong_usage() {
    for (args, says) in [
        (&[][..], "give --program FILE"),
        (&["--program", "p.vrl", "--from", "a b"], "`a b` is not a topic's name"),
        (&["--program", "p.vrl", "--name", "a b"], "`a b` is not a name"),
        (&["--program", "p.vrl", "--to", "events.raw"], "never ends"),
    ] {
        let (code, _, said) = run("penstock-remap", args, "");
        assert_eq!(code, 2, "{args:?}: {said}");
        assert!(said.contains(says), "{args:?}: {said}");
    }
}

#[test]
fn a_program_that_does_not_compile_is_told_before_the_log_is_asked() {
    let nobody = "[log]\nurl = 'kafka://127.0.0.1:1'\n";
    let config = format!("{nobody}[admin]\nlisten = '127.0.0.1:0'\n");
    let args = ["--config", "penstock.toml", "--program", "penstock.toml"];
    let (code, _, said) = run("penstock-remap", &args, &config);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("does not compile"), "{said}");
}

/// Starts a service whose `setting` is a place where nobody listens: it is alive, not ready, and in no
/// hurry until SIGTERM. Meanwhile `request`, made with its address, is put off.
async fn is_waited_for(
    service: &str,
    (setting, url): (&str, &str),
    part: &str,
    request: impl FnOnce(&Site) -> reqwest::RequestBuilder,
) {
    let site = Site::new("").unwrap();
    let mut command = Command::new(named(service));
    command
        .env_clear()
        .env(setting, url)
        .env("PENSTOCK__HTTP__LISTEN", site.http.to_string())
        .env("PENSTOCK__ADMIN__LISTEN", site.admin.to_string());
    let node = site.spawn_command(command).unwrap();
    let get = async |path: &str| {
        let response = reqwest::get(format!("http://{}{path}", site.admin)).await.ok()?;
        Some((response.status().as_u16(), response.text().await.ok()?))
    };

    let deadline = Instant::now() + Duration::from_secs(30);
    let (status, body) = loop {
        let answer = get("/readyz").await;
        match answer {
            Some((status, body)) if body.contains("cannot") => break (status, body),
            _ if Instant::now() > deadline => panic!("never named the {part}: {answer:?}"),
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    assert_eq!(status, 503);
    assert!(body.contains(&format!("\"part\":\"{part}\"")), "{body}");
    assert_eq!(get("/livez").await.unwrap().0, 200);
    let metrics = get("/metrics").await.unwrap().1;
    assert!(metrics.contains(&format!("binary=\"{service}\"")), "{metrics}");
    let refused = request(&site).send().await.unwrap();
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "1");

    node.terminate().unwrap();
    let status = node.exited(Duration::from_secs(20)).await.unwrap();
    assert!(status.success(), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_not_there_is_waited_for_and_named_until_sigterm() {
    let url = format!("kafka://{}", free_address());
    is_waited_for("penstock-ingest", ("PENSTOCK__LOG__URL", &url), "log", |site| {
        reqwest::Client::new().post(site.url("/v1/events")).body("{}")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_not_there_is_waited_for_and_named_until_sigterm() {
    let url = format!("scylla://{}/k", free_address());
    is_waited_for("penstock-query", ("PENSTOCK__STORE__URL", &url), "store", |site| {
        reqwest::Client::new().get(site.url("/v1/types"))
    })
    .await;
}
