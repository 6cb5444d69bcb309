//! TLS of a listener: its certificate from files, read again when they change.
//!
//! The files are compared by content: renewal tools replace them in many ways, and two files are
//! never replaced at the same instant. So what does not fit together is not used: connections go
//! on with what was read last and fitted, and the log says what is wrong. What a connection was
//! accepted with, it keeps.

use std::{
    io::Read,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsAcceptor;
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage};

use crate::config::{ClientAuth, TlsConfig};

/// No certificate file is larger.
const LARGEST: u64 = 1024 * 1024;
/// From when on the log says that a certificate is about to expire.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);
/// How often it says so.
const REMIND: Duration = Duration::from_secs(24 * 60 * 60);

/// What a listener shows its clients, and whom it asks for. Clones share it.
#[derive(Clone)]
pub struct Tls {
    files: Arc<TlsConfig>,
    poll: Duration,
    current: Arc<RwLock<Current>>,
}

struct Current {
    read: Files,
    config: Arc<ServerConfig>,
}

/// The contents of the files. They hold a key: no `Debug`.
#[derive(PartialEq)]
struct Files {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// Why files make no TLS.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct TlsError {
    /// The key in `[http.tls]` that it is about.
    pub key: &'static str,
    message: String,
}

impl TlsError {
    fn new(key: &'static str, path: &Path, why: impl std::fmt::Display) -> Self {
        Self { key, message: format!("{}: {why}", path.display()) }
    }
}

impl Tls {
    /// Reads the files, and from then on looks every `poll` whether they changed.
    ///
    /// # Errors
    /// A file that cannot be read or is not what it should be, or a key of another certificate.
    pub fn open(files: &TlsConfig, poll: Duration) -> Result<Self, TlsError> {
        let read = Files::read(files)?;
        let config = Arc::new(read.config(files)?);
        read.warn_of_expiry(&files.cert);
        let current = Arc::new(RwLock::new(Current { read, config }));
        Ok(Self { files: Arc::new(files.clone()), poll, current })
    }

    /// For the next connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.config.clone().into()
    }

    /// Looks for changes for ever.
    pub(super) async fn watch(self) {
        let (mut complaint, mut reminded) = (String::new(), Instant::now());
        loop {
            sleep(self.poll).await;
            let this = self.clone();
            let remind = reminded.elapsed() >= REMIND;
            if remind {
                reminded = Instant::now();
            }
            let looked = tokio::task::spawn_blocking(move || this.look(remind)).await;
            complaint = match looked {
                Ok(Err(error)) => {
                    let error = format!("http.tls.{}: {error}", error.key);
                    if error != complaint {
                        tracing::error!("{error}; going on with the certificate read before");
                    }
                    error
                }
                _ => String::new(),
            };
        }
    }

    fn look(&self, remind: bool) -> Result<(), TlsError> {
        let read = Files::read(&self.files)?;
        let same = {
            let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
            current.read == read
        };
        if same {
            if remind {
                read.warn_of_expiry(&self.files.cert);
            }
            return Ok(());
        }
        let config = Arc::new(read.config(&self.files)?);
        read.warn_of_expiry(&self.files.cert);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = Current { read, config };
        tracing::info!("the certificate changed; new connections get the new one");
        Ok(())
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Files {
    fn read(files: &TlsConfig) -> Result<Self, TlsError> {
        let read = |key, path: &PathBuf| {
            let mut bytes = Vec::new();
            std::fs::File::open(path)
                .and_then(|file| file.take(LARGEST).read_to_end(&mut bytes))
                .map_err(|error| TlsError::new(key, path, format_args!("cannot be read: {error}")))?;
            Ok(bytes)
        };
        Ok(Self {
            cert: read("cert", &files.cert)?,
            key: read("key", &files.key)?,
            client_ca: files.client_ca.as_ref().map(|path| read("client_ca", path)).transpose()?,
        })
    }

    fn config(&self, files: &TlsConfig) -> Result<ServerConfig, TlsError> {
        let chain = certificates("cert", &files.cert, &self.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| {
            let encrypted = self.key.windows(9).any(|word| word == b"ENCRYPTED");
            let why = match encrypted {
                true => "the private key is encrypted: give it without a passphrase",
                false => "holds no private key in PEM form",
            };
            TlsError::new("key", &files.key, why)
        })?;
        let provider = Arc::new(ring::default_provider());
        let refused = |error| match error {
            rustls::Error::InconsistentKeys(_) => {
                let why = format!("is not the key of the certificate {}", files.cert.display());
                TlsError::new("key", &files.key, why)
            }
            error => TlsError::new("cert", &files.cert, format_args!("cannot be used: {error}")),
        };
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(refused)?;
        let builder = match self.clients(files)? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(refused)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    fn clients(&self, files: &TlsConfig) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
        let (Some(path), Some(pem)) = (&files.client_ca, &self.client_ca) else { return Ok(None) };
        let unfit = |error: &dyn std::fmt::Display| {
            TlsError::new("client_ca", path, format_args!("cannot be used: {error}"))
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates("client_ca", path, pem)? {
            roots.add(certificate).map_err(|error| unfit(&error))?;
        }
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let verifier = match files.client_auth {
            Some(ClientAuth::Optional) => verifier.allow_unauthenticated(),
            Some(ClientAuth::Required) | None => verifier,
        };
        Ok(Some(verifier.build().map_err(|error| unfit(&error))?))
    }

    /// An expired certificate is better than none: clients decide whether they take it.
    fn warn_of_expiry(&self, path: &Path) {
        let Some(Ok(certificate)) = CertificateDer::pem_slice_iter(&self.cert).next() else {
            return;
        };
        let now = Duration::from_secs(UnixTime::now().as_secs());
        let path = path.display();
        match expired(&certificate, now) {
            Some(true) => tracing::warn!("http.tls.cert: {path} has expired or is not valid yet"),
            Some(false) if expired(&certificate, now + SOON) == Some(true) => {
                tracing::warn!("http.tls.cert: {path} expires within 14 days");
            }
            _ => {}
        }
    }
}

fn certificates(
    key: &'static str,
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(TlsError::new(key, path, "holds no certificates in PEM form")),
    }
}

/// Whether a certificate is outside of its time at an instant since the Unix epoch; `None` when it
/// cannot be told. The time is the first thing that the verification looks at, before it misses
/// the issuer, which is not given.
fn expired(certificate: &CertificateDer<'_>, at: Duration) -> Option<bool> {
    let at = UnixTime::since_unix_epoch(at);
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let usage = KeyUsage::server_auth();
    let verified =
        certificate.verify_for_usage(ALL_VERIFICATION_ALGS, &[], &[], at, usage, None, None);
    Some(matches!(
        verified.err(),
        Some(webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. })
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_certificate_is_told_without_its_issuer() {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        let cert = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let year = |year: u64| Duration::from_secs((year - 1970) * 31_556_952 + 1_000_000);
        let told = |at| expired(cert.der(), at);
        assert_eq!(told(year(2020)), Some(false));
        assert_eq!(told(year(2019)), Some(true), "not valid yet");
        assert_eq!(told(year(2022)), Some(true));
    }
}
