//! The listener behind TLS, with certificates made here.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use axum::{Router, routing::get};
use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use service::{
    config::{ClientAuth, TlsConfig},
    http::{HttpOptions, serve, tls::Tls},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::{CancellationToken, DropGuard};

const SOON: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);

/// An authority of this test's own.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
struct Shown {
    cert: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, name: &str) -> Shown {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.0).unwrap();
        Shown { cert, key }
    }
}

impl Shown {
    fn write(&self, dir: &Path) {
        std::fs::write(dir.join("cert.pem"), self.cert.pem()).unwrap();
        std::fs::write(dir.join("key.pem"), self.key.serialize_pem()).unwrap();
    }
}

struct Server {
    addr: SocketAddr,
    authority: Authority,
    dir: TempDir,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    _stop: DropGuard,
}

impl Server {
    async fn start(client_auth: Option<ClientAuth>) -> Self {
        let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
        authority.issue("localhost").write(dir.path());
        std::fs::write(dir.path().join("ca.pem"), authority.0.pem()).unwrap();
        let files = TlsConfig {
            cert: dir.path().join("cert.pem"),
            key: dir.path().join("key.pem"),
            client_ca: client_auth.map(|_| dir.path().join("ca.pem")),
            client_auth,
        };
        let options = HttpOptions {
            tls: Some(Tls::open(&files, POLL).unwrap()),
            header_timeout: Duration::from_millis(500),
            ..HttpOptions::default()
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let router = Router::new().route("/fast", get(|| async { "fast" })).route(
            "/slow",
            get(|| async {
                sleep(Duration::from_millis(300)).await;
                "slow"
            }),
        );
        let task = tokio::spawn(serve(listener, router, options, shutdown.clone()));
        let _stop = shutdown.clone().drop_guard();
        Self { addr, authority, dir, shutdown, task, _stop }
    }

    /// Connects, trusting this server's authority. What the client is refused with, it may learn
    /// only when it reads.
    async fn connect(
        &self,
        alpn: &[&str],
        shown: Option<&Shown>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.0.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match shown {
            None => builder.with_no_client_auth(),
            Some(Shown { cert, key }) => {
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                builder.with_client_auth_cert(vec![cert.der().clone()], key).unwrap()
            }
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(self.addr).await?;
        let name = "localhost".try_into().unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    async fn shown(&self) -> CertificateDer<'static> {
        let stream = self.connect(&[], None).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    }
}

async fn ask(mut stream: TlsStream<TcpStream>, path: &str) -> std::io::Result<String> {
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn the_protocol_is_the_one_that_was_agreed_on() {
    let server = Server::start(None).await;
    for alpn in [&[][..], &["http/1.1"]] {
        let answer = ask(server.connect(alpn, None).await.unwrap(), "/fast").await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("fast"), "{answer}");
    }
    let stream = server.connect(&["h2", "http/1.1"], None).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("https://localhost/fast").body(()).unwrap();
    let mut sender: h2::client::SendRequest<Bytes> = sender.ready().await.unwrap();
    let (answer, _) = sender.send_request(request, true).unwrap();
    assert_eq!(answer.await.unwrap().status().as_u16(), 200);
}

#[tokio::test]
async fn a_request_under_way_at_shutdown_is_answered() {
    let server = Server::start(None).await;
    let asked = ask(server.connect(&[], None).await.unwrap(), "/slow");
    let stop = async {
        sleep(Duration::from_millis(100)).await;
        server.shutdown.cancel();
    };
    let (answer, ()) = tokio::join!(asked, stop);
    assert!(answer.unwrap().ends_with("slow"));
    timeout(SOON, server.task).await.expect("stops in time").unwrap();
}

#[tokio::test]
async fn where_certificates_are_required_only_those_of_the_authority_are_let_in() {
    let server = Server::start(Some(ClientAuth::Required)).await;
    let ours = server.authority.issue("client");
    let theirs = Authority::new().issue("client");
    let answer = async |shown: Option<&Shown>| match server.connect(&[], shown).await {
        Ok(stream) => ask(stream, "/fast").await.ok(),
        Err(_) => None,
    };
    assert!(answer(Some(&ours)).await.is_some_and(|answer| answer.ends_with("fast")));
    assert_eq!(answer(Some(&theirs)).await, None);
    assert_eq!(answer(None).await, None);
}

#[tokio::test]
async fn where_certificates_are_optional_none_is_fine_and_a_foreign_one_is_not() {
    let server = Server::start(Some(ClientAuth::Optional)).await;
    let answer = ask(server.connect(&[], None).await.unwrap(), "/fast").await.unwrap();
    assert!(answer.ends_with("fast"));
    let theirs = Authority::new().issue("client");
    let refused = match server.connect(&[], Some(&theirs)).await {
        Ok(stream) => ask(stream, "/fast").await.is_err(),
        Err(_) => true,
    };
    assert!(refused);
}

#[tokio::test]
async fn a_new_certificate_is_shown_without_a_restart_and_a_broken_one_is_not() {
    let server = Server::start(None).await;
    let first = server.shown().await;
    let next = server.authority.issue("localhost");
    // Half of a renewal: the key is not that of the certificate.
    std::fs::write(server.dir.path().join("cert.pem"), next.cert.pem()).unwrap();
    sleep(POLL * 10).await;
    assert_eq!(server.shown().await, first);
    next.write(server.dir.path());
    let renewed = async {
        while server.shown().await != *next.cert.der() {
            sleep(POLL).await;
        }
    };
    timeout(SOON, renewed).await.expect("shown in time");
    std::fs::remove_file(server.dir.path().join("key.pem")).unwrap();
    sleep(POLL * 10).await;
    assert_eq!(server.shown().await, *next.cert.der());
}

#[tokio::test]
async fn who_speaks_no_tls_or_nothing_at_all_is_dropped() {
    let server = Server::start(None).await;
    for begun in ["", "GET /fast HTTP/1.1\r\nHost: localhost\r\n\r\n"] {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let _ = timeout(SOON, stream.read_to_end(&mut rest)).await.expect("dropped in time");
        assert!(!rest.starts_with(b"HTTP"));
    }
}
