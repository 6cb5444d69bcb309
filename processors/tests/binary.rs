//! Each binary of this crate as users type it: what it prints, and its exit code.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::process::{Command, Output};

const BINARIES: [(&str, &str); 2] = [
    ("penstock-processor", env!("CARGO_BIN_EXE_penstock-processor")),
    ("penstock-remap", env!("CARGO_BIN_EXE_penstock-remap")),
];
const EMBEDDED: &str = "processors = [{ name = 'clean', steps = [{ remap = { source = '.' } }] }]";

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

#[test]
fn a_processor_that_is_not_there_is_wrong_usage() {
    let (name, binary) = BINARIES[0];
    let (code, _, said) = run(binary, &["--only", "nobody"], "");
    assert_eq!(code, 2, "{name}: {said}");
    assert!(said.contains("--only nobody") && said.contains("there is clean"), "{said}");
}

#[test]
fn a_remap_without_a_program_is_wrong_usage() {
    let (_, binary) = BINARIES[1];
    for (args, says) in [
        (&[][..], "give --program FILE"),
        (&["--program", "p.vrl", "--from", "a b"], "`a b` is not a topic's name"),
        (&["--program", "p.vrl", "--name", "a b"], "`a b` is not a name"),
        (&["--program", "p.vrl", "--to", "events.raw"], "never ends"),
    ] {
        let (code, _, said) = run(binary, args, "");
        assert_eq!(code, 2, "{args:?}: {said}");
        assert!(said.contains(says), "{args:?}: {said}");
    }
}

#[test]
fn a_program_that_does_not_compile_is_told_before_the_log_is_asked() {
    let (_, binary) = BINARIES[1];
    let nobody = "[log]\nurl = 'kafka://127.0.0.1:1'\n";
    let config = format!("{nobody}[admin]\nlisten = '127.0.0.1:0'\n");
    let args = ["--config", "penstock.toml", "--program", "penstock.toml"];
    let (code, _, said) = run(binary, &args, &config);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("does not compile"), "{said}");
}
