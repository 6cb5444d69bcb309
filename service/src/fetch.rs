//! Asking other servers, over `http` or `https`: answers of a bounded size, within a deadline. Redirects
//! are not followed: the address that was given is the one that is trusted.
//!
//! A connection is kept for the next question. One that the server has closed meanwhile is noticed
//! only by using it, so what is asked must be safe to send twice.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{
    CertificateError, ClientConfig, OtherError, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::OnceCell,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// How long a connection may take to be made, TLS included.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Connections kept, at most.
const MOST_IDLE: usize = 32;
/// For how long; servers close those that are quiet for longer.
const KEPT_FOR: Duration = Duration::from_secs(15);

/// Asks other servers.
#[derive(Debug)]
pub struct Fetcher {
    /// Bytes of an answer at most.
    largest: usize,
    /// How long a whole answer may take.
    deadline: Duration,
    authorization: Option<HeaderValue>,
    /// Whom to trust in place of whom the operating system trusts.
    authorities: Option<RootCertStore>,
    /// Made when the first `https` address is asked.
    tls: OnceCell<TlsSetup>,
    idle: Mutex<Vec<Idle>>,
}

/// A connection without a question on it.
#[derive(Debug)]
struct Idle {
    origin: String,
    since: Instant,
    sender: SendRequest<Full<Bytes>>,
}

#[derive(Clone)]
struct TlsSetup(TlsConnector);

impl std::fmt::Debug for TlsSetup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsSetup")
    }
}

/// Why there is no whole answer. No credential is in the text.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FetchError {
    /// The server cannot be trusted, which asking again does not change.
    #[error("{0}")]
    Untrusted(String),
    /// Anything else.
    #[error("{0}")]
    Unanswered(String),
}

impl From<String> for FetchError {
    fn from(why: String) -> Self {
        Self::Unanswered(why)
    }
}

impl From<FetchError> for String {
    fn from(error: FetchError) -> Self {
        error.to_string()
    }
}

/// What a server answered.
#[derive(Debug)]
pub struct Fetched {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Fetcher {
    /// Answers of at most so many bytes, within that time.
    pub fn new(largest: usize, deadline: Duration) -> Self {
        Self {
            largest,
            deadline,
            authorization: None,
            authorities: None,
            tls: OnceCell::new(),
            idle: Mutex::default(),
        }
    }

    /// With this `Authorization` in every question.
    #[must_use]
    pub fn with_authorization(self, mut value: HeaderValue) -> Self {
        value.set_sensitive(true);
        Self { authorization: Some(value), ..self }
    }

    /// With Basic authentication (RFC 7617).
    #[must_use]
    pub fn with_basic(self, user: &str, password: &str) -> Self {
        let pair = STANDARD.encode(format!("{user}:{password}"));
        match HeaderValue::try_from(format!("Basic {pair}")) {
            Ok(value) => self.with_authorization(value),
            Err(_) => self, // base64 always is a header's value
        }
    }

    /// Trusting these authorities alone, a PEM file, in place of those of the operating system
    /// (or of `SSL_CERT_FILE`).
    ///
    /// # Errors
    /// It cannot be read, or holds no certificate.
    pub fn trusting(self, authorities: &Path) -> Result<Self, String> {
        Ok(Self { authorities: Some(roots_in(authorities)?), ..self })
    }

    /// `GET`.
    ///
    /// # Errors
    /// Why there is no whole answer; what status it has is no error.
    pub async fn get(&self, url: &str) -> Result<Fetched, FetchError> {
        self.ask(Method::GET, url, None).await
    }

    /// `POST` of a body of that media type.
    ///
    /// # Errors
    /// As [`Fetcher::get`].
    pub async fn post(
        &self,
        url: &str,
        kind: &'static str,
        body: Bytes,
    ) -> Result<Fetched, FetchError> {
        self.ask(Method::POST, url, Some((HeaderValue::from_static(kind), body))).await
    }

    async fn ask(
        &self,
        method: Method,
        url: &str,
        body: Option<(HeaderValue, Bytes)>,
    ) -> Result<Fetched, FetchError> {
        let uri: Uri = url.parse().map_err(|_| "the URL cannot be read".to_owned())?;
        let origin = format!(
            "{}://{}",
            uri.scheme_str().unwrap_or("http"),
            uri.authority().map_or("", |a| a.as_str())
        );
        let answer = async {
            while let Some(mut sender) = self.idle(&origin) {
                // It may be closed: that is no answer, and another connection may have one.
                let request = self.request(&method, &uri, body.as_ref())?;
                if sender.ready().await.is_ok()
                    && let Ok(fetched) = self.exchange(&mut sender, request).await
                {
                    self.keep(&origin, sender);
                    return Ok(fetched);
                }
            }
            let connected = timeout(CONNECT_WITHIN, self.connect(&uri)).await;
            let mut sender =
                connected.map_err(|_| format!("no connection within {CONNECT_WITHIN:?}"))??;
            let request = self.request(&method, &uri, body.as_ref())?;
            let fetched = self.exchange(&mut sender, request).await?;
            self.keep(&origin, sender);
            Ok::<Fetched, FetchError>(fetched)
        };
        let late = || Err(format!("there was no answer within {:?}", self.deadline).into());
        timeout(self.deadline, answer).await.unwrap_or_else(|_| late())
    }

    fn request(
        &self,
        method: &Method,
        uri: &Uri,
        body: Option<&(HeaderValue, Bytes)>,
    ) -> Result<Request<Full<Bytes>>, String> {
        let mut request = Request::builder()
            .method(method)
            .uri(uri.path_and_query().map_or("/", |path| path.as_str()))
            .header(header::HOST, uri.authority().map_or("", |authority| authority.as_str()))
            .header(header::ACCEPT, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        if let Some((kind, _)) = body {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        let body = body.map(|(_, body)| body.clone()).unwrap_or_default();
        request.body(Full::new(body)).map_err(|error| error.to_string())
    }

    async fn exchange(
        &self,
        sender: &mut SendRequest<Full<Bytes>>,
        request: Request<Full<Bytes>>,
    ) -> Result<Fetched, String> {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, self.largest).collect().await.map_err(|_| {
            format!("its answer broke off or is larger than {} bytes", self.largest)
        })?;
        Ok(Fetched { status: head.status, headers: head.headers, body: body.to_bytes() })
    }

    async fn connect(&self, uri: &Uri) -> Result<SendRequest<Full<Bytes>>, FetchError> {
        let host = uri.host().ok_or_else(|| "the URL names no host".to_owned())?;
        let host = host.trim_matches(['[', ']']).to_owned();
        let secure = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let stream = TcpStream::connect((host.as_str(), port)).await.map_err(|e| e.to_string())?;
        let _ = stream.set_nodelay(true); // it would only be slower
        if !secure {
            return Ok(open(stream).await?);
        }
        let name =
            ServerName::try_from(host).map_err(|_| "the host has no name for TLS".to_owned())?;
        let TlsSetup(connector) = self.tls.get_or_try_init(|| self.tls()).await?.clone();
        let secured = connector.connect(name, stream).await.map_err(|error| unsecured(&error))?;
        Ok(open(secured).await?)
    }

    /// Trusts whom it was told to, or whom the operating system trusts.
    async fn tls(&self) -> Result<TlsSetup, String> {
        let roots = match &self.authorities {
            Some(roots) => roots.clone(),
            None => {
                let load = tokio::task::spawn_blocking(roots_of_system);
                load.await.map_err(|_| "the trusted certificates cannot be read".to_owned())??
            }
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(TlsSetup(TlsConnector::from(Arc::new(config))))
    }

    /// A connection that was kept, the latest first.
    fn idle(&self, origin: &str) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|idle| idle.since.elapsed() < KEPT_FOR);
        let found = idle.iter().rposition(|idle| idle.origin == origin)?;
        Some(idle.remove(found).sender)
    }

    fn keep(&self, origin: &str, sender: SendRequest<Full<Bytes>>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MOST_IDLE {
            idle.push(Idle { origin: origin.to_owned(), since: Instant::now(), sender });
        }
    }
}

fn roots_in(path: &Path) -> Result<RootCertStore, String> {
    let unusable = |why: String| format!("{} cannot be trusted: {why}", path.display());
    let mut roots = RootCertStore::empty();
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(error.to_string()))?;
    for certificate in found {
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unusable("it holds no certificate".into()));
    }
    Ok(roots)
}

fn roots_of_system() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("there are no trusted certificates: install ca-certificates".into());
    }
    Ok(roots)
}

/// Why a connection could not be made secure.
fn unsecured(error: &io::Error) -> FetchError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(why)) = inner else {
        return FetchError::Unanswered(error.to_string());
    };
    let authority = match why {
        CertificateError::Other(OtherError(why)) => {
            matches!(why.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
        }
        _ => false,
    };
    FetchError::Untrusted(match authority {
        true => "the server's certificate is an authority's own (CA:TRUE) and cannot stand for a \
                 server: give the server one with CA:FALSE"
            .into(),
        false => error.to_string(),
    })
}

async fn open<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(|error| error.to_string())?;
    // Ends with the connection, at the latest when its sender is dropped.
    tokio::spawn(connection);
    Ok(sender)
}
