//! Gets the text of a key set, within a size and a deadline. Redirects are not followed: the address
//! in the configuration is the one that is trusted.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

const LARGEST: usize = 1 << 20;
const DEADLINE: Duration = Duration::from_secs(5);

/// The text of a file.
pub(super) async fn file(path: &Path) -> Result<Vec<u8>, String> {
    let read = timeout(DEADLINE, tokio::fs::read(path)).await;
    match read {
        Ok(Ok(text)) if text.len() <= LARGEST => Ok(text),
        Ok(Ok(_)) => Err(format!("{} is larger than {LARGEST} bytes", path.display())),
        Ok(Err(error)) => Err(format!("{}: {error}", path.display())),
        Err(_) => Err(format!("{} could not be read within {DEADLINE:?}", path.display())),
    }
}

/// The text behind an `http` or `https` URL.
pub(super) async fn url(url: &str) -> Result<Vec<u8>, String> {
    timeout(DEADLINE, get(url))
        .await
        .unwrap_or_else(|_| Err(format!("there was no answer within {DEADLINE:?}")))
}

async fn get(url: &str) -> Result<Vec<u8>, String> {
    let uri: Uri = url.parse().map_err(|_| "the URL cannot be read".to_owned())?;
    let host = uri.host().ok_or("the URL names no host")?.trim_matches(['[', ']']).to_owned();
    let secure = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let stream = TcpStream::connect((host.as_str(), port)).await.map_err(|e| e.to_string())?;
    if !secure {
        return ask(stream, &uri).await;
    }
    let name = ServerName::try_from(host).map_err(|_| "the host has no name for TLS".to_owned())?;
    let connector = TlsConnector::from(tls().await?);
    let stream = connector.connect(name, stream).await.map_err(|error| error.to_string())?;
    ask(stream, &uri).await
}

/// Trusts whom the operating system trusts (or `SSL_CERT_FILE` names).
async fn tls() -> Result<Arc<ClientConfig>, String> {
    let load = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs);
    let found = load.await.map_err(|_| "the trusted certificates cannot be read".to_owned())?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err("there are no trusted certificates: install ca-certificates".into());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

async fn ask<S>(stream: S, uri: &Uri) -> Result<Vec<u8>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
    let request = Request::get(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(header::HOST, uri.authority().map_or("", |authority| authority.as_str()))
        .header(header::ACCEPT, "application/json")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        if response.status() != StatusCode::OK {
            return Err(format!("it answered {}", response.status()));
        }
        let body = Limited::new(response.into_body(), LARGEST).collect().await;
        body.map(|body| body.to_bytes().to_vec())
            .map_err(|_| format!("its answer broke off or is larger than {LARGEST} bytes"))
    };
    tokio::pin!(answer);
    tokio::select! {
        answer = answer.as_mut() => answer,
        // The answer may be whole when the connection ends.
        _ = connection => answer.as_mut().await,
    }
}
