//! Commands that speak to a node behind TLS, with certificates made here.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    path::Path,
    process::{Command, Output},
};

use penstock::node::{Bundle, Node};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use service::config::TlsConfig;

mod support;

const EVENT: &str =
    r#"{"specversion":"1.0","id":"1","source":"/t","type":"order.placed","data":{"a":1}}"#;
const SCHEMA: &str = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"}]}"#;

/// A certificate of `localhost`, and the authority that it is of, in `ca.pem`.
fn certificates(dir: &Path) -> TlsConfig {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let shown = params.signed_by(&key, &authority).unwrap();
    std::fs::write(dir.join("ca.pem"), authority.pem()).unwrap();
    std::fs::write(dir.join("cert.pem"), shown.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    TlsConfig { cert, key, client_ca: None, client_auth: None }
}

async fn node(dir: &Path) -> Node {
    let mut loaded = support::config(dir);
    loaded.config.http.tls = Some(certificates(dir));
    Node::start(loaded, Bundle::default()).await.unwrap()
}

/// Runs a command in a folder, trusting what `system` names like an operating system does; exit code,
/// and all that it said.
async fn run(dir: &Path, system: Option<&str>, args: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_penstock"));
    command.args(args).current_dir(dir).env_remove("PENSTOCK_KEY").env_remove("SSL_CERT_DIR");
    command.env("SSL_CERT_FILE", dir.join(system.unwrap_or("none.pem")));
    let ended = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    let Output { status, stdout, stderr } = ended.unwrap();
    (status.code().unwrap(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_posted_and_schemas_registered_behind_tls_by_whom_the_command_is_told_to_trust()
{
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path()).await;
    let url = format!("https://localhost:{}", node.http_addr.port());
    std::fs::write(dir.path().join("r.avsc"), SCHEMA).unwrap();
    std::fs::write(dir.path().join("events.ndjson"), format!("{EVENT}\n").repeat(3)).unwrap();
    let register = ["schemas", "register", "r.avsc", "--type", "order.placed", "--url", &url];
    let post = ["post", "events.ndjson", "--batch", "1", "--give-up", "1s", "--url", &url];
    for command in [&register[..], &post] {
        let told = [command, &["--ca", "ca.pem"]].concat();
        let (code, said) = run(dir.path(), None, &told).await;
        assert_eq!(code, 0, "{said}");
        let (code, said) = run(dir.path(), Some("ca.pem"), command).await;
        assert_eq!(code, 0, "the operating system trusts it: {said}");
    }
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_authority_or_name_is_refused_and_said_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path()).await;
    std::fs::create_dir(dir.path().join("other")).unwrap();
    certificates(&dir.path().join("other"));
    let port = node.http_addr.port();
    for (host, ca, why) in [
        ("https://localhost", "other/ca.pem", "certificate"),
        ("https://127.0.0.1", "ca.pem", "certificate"),
        ("https://localhost", "key.pem", "key.pem cannot be trusted"),
        ("http://localhost", "key.pem", "key.pem cannot be trusted"),
        ("https://localhost", "nothing.pem", "nothing.pem cannot be trusted"),
    ] {
        let url = format!("{host}:{port}");
        let list = ["schemas", "list", "--url", &url, "--ca", ca];
        let (code, said) = run(dir.path(), Some("ca.pem"), &list).await;
        assert!(code == 1 && said.contains(why), "{ca}: {code} {said}");
    }
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_stands_for_a_server_is_named_as_such_and_not_asked_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let own = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let (cert, key) = (dir.path().join("own.pem"), dir.path().join("own.key"));
    std::fs::write(&cert, own.pem()).unwrap();
    std::fs::write(&key, own.key().serialize_pem()).unwrap();
    std::fs::write(dir.path().join("events.ndjson"), EVENT).unwrap();
    let mut loaded = support::config(dir.path());
    loaded.config.http.tls = Some(TlsConfig { cert, key, client_ca: None, client_auth: None });
    let node = Node::start(loaded, Bundle::default()).await.unwrap();
    let url = format!("https://localhost:{}", node.http_addr.port());
    let post = ["post", "events.ndjson", "--give-up", "1h", "--url", &url, "--ca", "own.pem"];
    let (code, said) = run(dir.path(), None, &post).await;
    assert!(code == 1 && said.contains("CA:TRUE") && !said.contains("run it again"), "{said}");
    node.stop().await.unwrap();
}
