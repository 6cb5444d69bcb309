//! The binary as users type it: what it prints, and its exit code.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::process::{Command, Output};

use service::auth::key;
use tempfile::TempDir;

fn penstock(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_penstock")).args(args).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn file(name: &str, text: &str) -> (TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (dir, path)
}

#[test]
fn help_has_examples_for_every_command() {
    let commands: [&[&str]; 15] = [
        &[],
        &["demo"],
        &["run"],
        &["post"],
        &["config"],
        &["config", "check"],
        &["config", "show"],
        &["keys"],
        &["keys", "new"],
        &["schemas"],
        &["schemas", "list"],
        &["schemas", "show"],
        &["schemas", "check"],
        &["schemas", "register"],
        &["schemas", "infer"],
    ];
    for command in commands {
        let help = penstock(&[command, &["--help"]].concat());
        assert_eq!(code(&help), 0, "{command:?}");
        assert!(stdout(&help).contains("Examples:\n"), "{command:?}");
    }
    assert!(stdout(&penstock(&["--version"])).starts_with("penstock 0."));
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let wrong: [&[&str]; 9] = [
        &[],
        &["rnu"],
        &["run", "--confg", "x"],
        &["post"],
        &["post", "x", "--batch", "0"],
        &["post", "x", "--url", "ftp://example.com"],
        &["keys", "new", "--name", "a", "--namespace", "n"],
        &["keys", "new", "--name", "a", "--namespace", "n", "--scope", "wirte"],
        &["keys", "new", "--name", "a b", "--namespace", "n", "--scope", "write"],
    ];
    for args in wrong {
        let output = penstock(args);
        assert_eq!(code(&output), 2, "{args:?}: {}", stderr(&output));
        assert!(!stderr(&output).is_empty());
    }
}

#[test]
fn a_url_that_is_refused_is_not_repeated_because_it_may_hold_a_secret() {
    let refused: [(&[&str], &str); 7] = [
        (&["post", "x", "--url", "http://user:s3cret@127.0.0.1:1"], "PENSTOCK_KEY or"),
        (&["post", "x", "--url", "http://127.0.0.1:1/s3cret"], "'--url <URL>' has something after"),
        (&["schemas", "list", "--url", "http://s3cret@127.0.0.1:1"], "from --key-file"),
        (&["schemas", "list", "--url", "http://127.0.0.1:1/?k=s3cret"], "write http://HOST:PORT"),
        (&["demo", "--log", "kafka://u:s3cret"], "what stands behind the colon is not a port"),
        (&["demo", "--log", "kafka://u:s3cret@x"], "'--log <URL>' holds a user or password"),
        (&["demo", "--store", "scylla://u:s3cret@x/k"], "`password` in [store]"),
    ];
    for (args, says) in refused {
        let output = penstock(args);
        let said = stderr(&output);
        assert_eq!(code(&output), 2, "{args:?}: {said}");
        assert!(said.contains(says) && !said.contains("s3cret"), "{args:?}: {said}");
    }
}

#[test]
fn every_mistake_of_a_configuration_is_explained() {
    let text = "[htpp]\n[topics]\nretention = '7x'\n";
    let (_dir, path) = file("penstock.toml", text);
    for command in [&["config", "check"][..], &["run"]] {
        let output = penstock(&[command, &["--config", &path]].concat());
        assert_eq!(code(&output), 1);
        let said = stderr(&output);
        assert!(said.contains("penstock.toml:1:2: htpp: unknown setting"), "{said}");
        assert!(said.contains("did you mean `http`?"), "{said}");
        assert!(said.contains("penstock.toml:3:13: topics.retention"), "{said}");
    }
}

#[test]
fn a_program_that_does_not_compile_is_a_mistake_of_the_configuration() {
    let text = "processors = [{ name = 'p', steps = [{ remap = 'no.vrl' }] }]\n";
    let (_dir, path) = file("penstock.toml", text);
    let output = penstock(&["config", "check", "--config", &path]);
    assert_eq!(code(&output), 1);
    let said = stderr(&output);
    let place = "penstock.toml:1:38: processors[0].steps[0]: cannot read";
    assert!(said.contains(place) && said.contains("no.vrl"), "{said}");
}

#[test]
fn mistakes_of_every_kind_are_told_together_each_at_its_place() {
    let text = "\
[topics]
partitions = 0
[log]
url = 'kafka://127.0.0.1:1'
[log.properties]
'linger.ms' = 5
acks = 1
[http]
listen = '127.0.0.1:9090'
[[processors]]
name = 5
[[processors]]
name = 'p'
steps = [
  { remap = 'no.vrl' },
  { remap = { source = '.id = ' } },
  { redact = {} },
  {},
]
[[rollups]]
name = 'r'
type = 't'
windows = ['1h', '1ms']
[rollups.group_by]
count = 'data.x'
place = 'data..x'
";
    let (_dir, path) = file("penstock.toml", text);
    let said = stderr(&penstock(&["config", "check", "--config", &path]));
    for place in [
        "the configuration has 11 mistakes",
        "penstock.toml:2:1: topics.partitions: must be more than 0",
        "penstock.toml:7:1: log.properties: acks cannot be set",
        "penstock.toml:9:1: http.listen: 127.0.0.1:9090 is taken by admin.listen",
        "penstock.toml:11:8: processors[0].name: must be text",
        "penstock.toml:15:3: processors[1].steps[0]: cannot read",
        "penstock.toml:16:3: processors[1].steps[1]: the program does not compile",
        "penstock.toml:17:3: processors[1].steps[2]: there is no step `redact`; there is `remap`",
        "penstock.toml:18:3: processors[1].steps[3]: must be a table of one key",
        "penstock.toml:23:1: rollups[0].windows: `1ms` is not between 1s and 366d",
        "penstock.toml:25:1: rollups[0].group_by.count: every row has a column `count` already",
        "penstock.toml:26:1: rollups[0].group_by.place: ",
    ] {
        assert!(said.contains(place), "{place}: {said}");
    }
}

#[test]
fn what_the_log_would_refuse_is_a_mistake_of_the_configuration() {
    let text = "[log]\nurl = 'kafka://127.0.0.1:1'\n[log.properties]\nacks = 1\n";
    let (_dir, path) = file("penstock.toml", text);
    let output = penstock(&["config", "check", "--config", &path]);
    assert_eq!(code(&output), 1);
    let said = stderr(&output);
    assert!(said.contains("penstock.toml:4:1: log.properties: acks cannot be set"), "{said}");
}

#[test]
fn a_url_in_a_configuration_that_is_refused_is_not_repeated() {
    for url in [
        "kafka:/me:s3cret@b:9092",
        "kafka://me:s3cret",
        "kafka://me:s3cret:9092",
        "kafka://b?sasl.password=s3cret",
        "kafka://b/s3cret",
    ] {
        let (_dir, path) = file("penstock.toml", &format!("[log]\nurl = '{url}'\n"));
        let said = stderr(&penstock(&["config", "check", "--config", &path]));
        assert!(said.contains("penstock.toml:2:1: log.url: "), "{url}: {said}");
        assert!(!said.contains("s3cret") && !said.contains("mistakes"), "{url}: {said}");
    }
}

#[test]
fn what_the_log_would_refuse_from_the_environment_names_the_variable() {
    let output = Command::new(env!("CARGO_BIN_EXE_penstock"))
        .args(["config", "check"])
        .env("PENSTOCK__LOG__URL", "kafka://127.0.0.1:1")
        .env("PENSTOCK__LOG__PROPERTIES", "{ acks = 1 }")
        .output()
        .unwrap();
    let said = stderr(&output);
    let place = "environment PENSTOCK__LOG__PROPERTIES: log.properties: acks cannot be set";
    assert!(said.contains(place), "{said}");
}

#[test]
fn a_demo_elsewhere_is_told_what_is_wrong_with_a_url() {
    for (option, url, says) in [
        ("--log", "kakfa://a:9092", "did you mean `kafka://"),
        ("--store", "scylla://a:9042", "names no keyspace"),
    ] {
        let output = penstock(&["demo", option, url]);
        assert_eq!(code(&output), 2, "{url}");
        assert!(stderr(&output).contains(says), "{}", stderr(&output));
    }
}

#[test]
fn a_good_configuration_is_summed_up_and_shown_without_secrets() {
    let rollup = "rollups = [{ name = 'sales', type = 'order', windows = ['1h'] }]\n";
    let (_dir, path) = file("penstock.toml", rollup);
    let check = penstock(&["config", "check", "--config", &path]);
    assert_eq!(code(&check), 0, "{}", stderr(&check));
    assert!(stdout(&check).contains("sales: order by 1h"), "{}", stdout(&check));
    let show = penstock(&["config", "show", "--config", &path]);
    assert_eq!(code(&show), 0);
    assert!(stdout(&show).contains("listen = \"127.0.0.1:8080\""), "{}", stdout(&show));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let output = penstock(&["post", "/nowhere.ndjson"]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("cannot read /nowhere.ndjson"), "{}", stderr(&output));
}

#[test]
fn a_folder_is_not_posted_and_running_it_again_is_not_advised() {
    let folder = tempfile::tempdir().unwrap();
    let output = penstock(&["post", folder.path().to_str().unwrap()]);
    let said = stderr(&output);
    assert_eq!(code(&output), 1);
    assert!(said.contains("it is a folder") && !said.contains("again"), "{said}");
}

#[test]
fn the_demo_says_which_option_helps_when_its_address_is_taken() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = penstock(&["demo", "--once", "--listen", &address]);
    assert_eq!(code(&output), 1);
    let said = stderr(&output);
    assert!(said.contains(&format!("--listen: {address} is in use")), "{said}");
}

#[test]
fn the_demo_does_not_open_a_port_for_everybody() {
    let output = penstock(&["demo", "--once", "--listen", "0.0.0.0:0"]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("other machines can reach"), "{}", stderr(&output));
}

#[test]
fn a_new_key_is_printed_once_with_a_table_that_a_configuration_takes() {
    let new = ["keys", "new", "--name", "checkout", "--namespace", "shop", "--scope", "write"];
    let output = penstock(&[&new[..], &["--scope", "read"]].concat());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let said = stdout(&output);
    let key = said.lines().find_map(|line| line.trim().strip_prefix("pk_")).unwrap();
    assert_eq!(said.matches(key).count(), 1, "{said}");
    let table = &said[said.find("[[keys]]").unwrap()..];
    let (_dir, path) = file("penstock.toml", &format!("[http]\nlisten = '0.0.0.0:0'\n{table}"));
    let check = penstock(&["config", "check", "--config", &path]);
    assert_eq!(code(&check), 0, "{}", stderr(&check));
    let again = stdout(&penstock(&new));
    assert!(!again.contains(key), "no key comes twice");
}

#[test]
fn a_new_key_as_json_has_the_key_and_its_hash() {
    let new = ["keys", "new", "--name", "a", "--namespace", "n", "--scope", "admin", "--json"];
    let json: serde_json::Value = serde_json::from_str(&stdout(&penstock(&new))).unwrap();
    let hash = key::write_hash(&key::hash(json["key"].as_str().unwrap()));
    assert_eq!(json["hash"], hash);
    assert_eq!(json["scopes"], serde_json::json!(["admin"]));
}

#[test]
fn a_key_file_that_cannot_be_read_is_named() {
    let (_dir, path) = file("in.ndjson", "{}");
    let output = penstock(&["post", &path, "--key-file", "/nowhere.key"]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("cannot read the key in /nowhere.key"), "{}", stderr(&output));
}
