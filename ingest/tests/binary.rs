//! `penstock-ingest` as users type it: what it prints, and its exit code.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::process::{Command, Output};

const BINARIES: [(&str, &str); 1] = [("penstock-ingest", env!("CARGO_BIN_EXE_penstock-ingest"))];
const EMBEDDED: &str = "";

/// A run that ends by itself, with nothing of Penstock in its environment.
fn run(binary: &str, args: &[&str], config: &str) -> (i32, String, String) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("penstock.toml"), config).unwrap();
    let mut command = Command::new(binary);
    command.args(args).current_dir(&dir).env_clear();
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn help_has_examples_and_version_names_the_binary() {
    for (name, binary) in BINARIES {
        let (code, help, _) = run(binary, &["--help"], "");
        assert_eq!(code, 0, "{name}");
        assert!(help.contains("Examples:\n") && help.contains("--config <FILE>"), "{help}");
        let (code, version, _) = run(binary, &["--version"], "");
        assert_eq!(code, 0, "{name}");
        assert_eq!(version, format!("{name} {}\n", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn wrong_usage_is_exit_code_2() {
    for (name, binary) in BINARIES {
        for args in [&["--confg", "x"][..], &["file.toml"], &["--config"]] {
            let (code, _, said) = run(binary, args, "");
            assert_eq!(code, 2, "{name} {args:?}: {said}");
            assert!(said.contains("--help"), "{said}");
        }
    }
}

#[test]
fn every_mistake_of_the_configuration_is_told_whichever_service_it_is_for() {
    let mistakes =
        "[log]\nurl = 'kafka://a:'\n[ingest]\ntimeout = '1x'\n[sink]\nwindow_records = 0\n";
    for (name, binary) in BINARIES {
        let (code, _, said) = run(binary, &["--config", "penstock.toml"], mistakes);
        assert_eq!(code, 1, "{name}: {said}");
        for place in [
            "penstock.toml:2:1: log.url",
            "penstock.toml:4:11: ingest.timeout",
            "penstock.toml:6:1: sink",
        ] {
            assert!(said.contains(place), "{name}: {said}");
        }
        let (code, _, said) = run(binary, &["--config", "nowhere.toml"], "");
        assert!(code == 1 && said.contains("nowhere.toml"), "{name}: {said}");
    }
}

#[test]
fn an_embedded_log_or_store_is_refused_with_what_to_do() {
    for (name, binary) in BINARIES {
        let (code, _, said) = run(binary, &["--config", "penstock.toml"], EMBEDDED);
        assert_eq!(code, 1, "{name}: {said}");
        assert!(said.contains("is file:") && said.contains("`penstock run`"), "{name}: {said}");
    }
}
