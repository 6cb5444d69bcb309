//! The issuer's public keys (RFC 7517): read, kept, and read again.
//!
//! Keys that were read once stay in force while their source is away. A token with an unknown key id
//! may be the first after a rotation, so it makes the set be read at once; at most once in
//! [`UNKNOWN_PAUSE`], whoever sends how many.

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{EllipticCurve, Jwk, JwkSet, PublicKeyUse},
};
use serde_json::Value;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

use super::{ALGORITHMS, TokenFault, Unproven, fetch};
use crate::{backoff::Backoff, health::Part};

/// How soon an unknown key id makes the set be read again.
const UNKNOWN_PAUSE: Duration = Duration::from_secs(10);
/// How often a file is read again: that costs nothing.
const FILE_PERIOD: Duration = Duration::from_secs(5);
/// No issuer has more; what is beyond is left out.
const MOST_KEYS: usize = 256;

/// A set of keys and where it comes from.
#[derive(Debug)]
pub(super) struct Jwks {
    source: Source,
    refresh: Duration,
    pub(super) unknown_pause: Duration,
    keys: RwLock<Option<Arc<Vec<Key>>>>,
    /// When the set was last asked for; held while it is.
    asked: Mutex<Option<Instant>>,
}

#[derive(Debug)]
enum Source {
    File(PathBuf),
    Url(String),
}

#[derive(Debug)]
struct Key {
    id: Option<String>,
    /// What it may verify.
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

impl Jwks {
    pub fn new(location: &str, refresh: Duration) -> Self {
        let source = match location.contains("://") {
            true => Source::Url(location.to_owned()),
            false => Source::File(location.into()),
        };
        Self {
            source,
            refresh,
            unknown_pause: UNKNOWN_PAUSE,
            keys: RwLock::default(),
            asked: Mutex::default(),
        }
    }

    /// The key of that id for that algorithm; reads the set again if it is not there.
    pub async fn find(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<DecodingKey, Unproven> {
        if let Some(key) = self.known(id, algorithm) {
            return Ok(key);
        }
        {
            let mut asked = self.asked.lock().await;
            if asked.is_none_or(|at| at.elapsed() >= self.unknown_pause) {
                // A failure is told by the part that keeps the set fresh.
                let _ = self.read(&mut asked).await;
            }
        }
        let absent = match *self.keys.read().unwrap_or_else(PoisonError::into_inner) {
            None => Unproven::NoKeys,
            Some(_) => TokenFault::UnknownKeyId.into(),
        };
        self.known(id, algorithm).ok_or(absent)
    }

    fn known(&self, id: Option<&str>, algorithm: Algorithm) -> Option<DecodingKey> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()?;
        let mut fitting = keys.iter().filter(|key| {
            key.algorithms.contains(&algorithm) && (id.is_none() || key.id.as_deref() == id)
        });
        let found = fitting.next()?;
        // A token without a key id can only mean the one key that fits.
        (id.is_some() || fitting.next().is_none()).then(|| found.key.clone())
    }

    /// Reads the set again and again.
    pub async fn keep_fresh(&self, part: Part) {
        let first = Duration::from_secs(1).min(self.refresh);
        let mut backoff = Backoff::new(first, self.refresh.min(Duration::from_secs(60)));
        let period = match self.source {
            Source::File(_) => FILE_PERIOD.min(self.refresh),
            Source::Url(_) => self.refresh,
        };
        loop {
            let read = {
                let mut asked = self.asked.lock().await;
                self.read(&mut asked).await
            };
            let pause = match read {
                Ok(()) => {
                    backoff.reset();
                    part.clear_notes();
                    part.ready();
                    period
                }
                Err(reason) => {
                    tracing::warn!(reason, "the issuer's keys (jwt.jwks) cannot be read");
                    if self.keys.read().unwrap_or_else(PoisonError::into_inner).is_none() {
                        part.failing("the issuer's keys (jwt.jwks) could not be read yet");
                    } else {
                        part.ready();
                        part.note(
                            "the issuer's keys (jwt.jwks) cannot be read: the former are used",
                        );
                    }
                    backoff.next_wait()
                }
            };
            sleep(pause).await;
        }
    }

    async fn read(&self, asked: &mut Option<Instant>) -> Result<(), String> {
        *asked = Some(Instant::now());
        let text = match &self.source {
            Source::File(path) => fetch::file(path).await?,
            Source::Url(url) => fetch::url(url).await?,
        };
        let keys = parse(&text)?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(keys));
        Ok(())
    }
}

/// The keys of a set that can verify something; kinds that are not known here are left out.
fn parse(text: &[u8]) -> Result<Vec<Key>, String> {
    // One strange key must not take the others away, so each is read by itself.
    let set: Value = serde_json::from_slice(text).map_err(|_| "it is not JSON".to_owned())?;
    let list = set.get("keys").and_then(Value::as_array).ok_or("it has no list `keys`")?;
    let one = |jwk: &Value| {
        let set: JwkSet = serde_json::from_value(serde_json::json!({ "keys": [jwk] })).ok()?;
        key_of(set.keys.first()?)
    };
    let keys: Vec<Key> = list.iter().take(MOST_KEYS).filter_map(one).collect();
    if keys.is_empty() { Err("it has no key that can verify a token".into()) } else { Ok(keys) }
}

fn key_of(jwk: &Jwk) -> Option<Key> {
    use jsonwebtoken::jwk::AlgorithmParameters as P;
    if jwk.common.public_key_use.as_ref().is_some_and(|u| *u != PublicKeyUse::Signature) {
        return None;
    }
    let of_kind = |algorithm: Algorithm| match (&jwk.algorithm, algorithm) {
        (P::RSA(_), _) => algorithm.family() == jsonwebtoken::AlgorithmFamily::Rsa,
        (P::EllipticCurve(key), Algorithm::ES256) => key.curve == EllipticCurve::P256,
        (P::EllipticCurve(key), Algorithm::ES384) => key.curve == EllipticCurve::P384,
        (P::OctetKeyPair(key), Algorithm::EdDSA) => key.curve == EllipticCurve::Ed25519,
        _ => false,
    };
    let named = jwk.common.key_algorithm.map(|named| named.to_string());
    let algorithms: Vec<Algorithm> = ALGORITHMS
        .iter()
        .filter(|(name, algorithm)| {
            of_kind(*algorithm) && named.as_deref().is_none_or(|named| named == *name)
        })
        .map(|(_, algorithm)| *algorithm)
        .collect();
    let key = DecodingKey::from_jwk(jwk).ok()?;
    (!algorithms.is_empty()).then(|| Key { id: jwk.common.key_id.clone(), algorithms, key })
}
