//! Tokens of an identity provider as an alternative to keys: JSON Web Tokens (RFC 7519), checked
//! against the provider's public keys.
//!
//! What is refused says why in a word, and never repeats a part of the token. The algorithm is one
//! of those that the configuration allows, never what the token would like, and the key must be of
//! the algorithm's kind; so neither `none` nor a public key taken for a secret gets in.

mod fetch;
mod jwks;
mod signatures;

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header, errors::ErrorKind};
use serde_json::{Map, Value};

use self::jwks::Jwks;
use super::{Caller, Scope};
use crate::{
    config::{JwtConfig, check_name},
    health::Part,
};

/// What logs and metrics call every caller with a token. No key has this name.
pub const NAME: &str = "jwt";

/// Why a token is no proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum TokenFault {
    #[error("it is not a signed JSON Web Token")]
    Malformed,
    #[error("its algorithm is not one that is allowed here")]
    Algorithm,
    #[error("its header has `crit`: an extension that must be understood, and none is here")]
    Critical,
    #[error("its key id is not in the key set of the issuer")]
    UnknownKeyId,
    #[error("its signature does not fit")]
    BadSignature,
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet")]
    NotYetValid,
    #[error("it is from another issuer")]
    WrongIssuer,
    #[error("it is for another audience")]
    WrongAudience,
    #[error("a claim that is needed is absent: exp, iss or aud")]
    MissingClaim,
    #[error("the claim that names the namespace is absent or no name")]
    NoNamespace,
}

impl TokenFault {
    /// A stable word for programs.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::Critical => "critical",
            Self::UnknownKeyId => "unknown_key_id",
            Self::BadSignature => "bad_signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::WrongIssuer => "wrong_issuer",
            Self::WrongAudience => "wrong_audience",
            Self::MissingClaim => "missing_claim",
            Self::NoNamespace => "no_namespace",
        }
    }
}

/// What a check of a token may answer beside a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unproven {
    Fault(TokenFault),
    /// The issuer's keys were never read.
    NoKeys,
}

impl From<TokenFault> for Unproven {
    fn from(fault: TokenFault) -> Self {
        Self::Fault(fault)
    }
}

/// Judges tokens.
#[derive(Debug)]
pub(super) struct Tokens {
    jwks: Jwks,
    /// For each algorithm that is allowed.
    validations: Vec<(Algorithm, Validation)>,
    namespace_claim: String,
    scopes_claim: String,
}

impl Tokens {
    /// As a configuration that was checked asks for; none when it asks for no tokens.
    pub fn new(config: &JwtConfig) -> Option<Self> {
        let location = config.jwks.as_deref()?;
        signatures::install();
        let (issuer, audience) = (config.issuer.as_deref()?, config.audience.as_deref()?);
        let validation = |algorithm| {
            let mut validation = Validation::new(algorithm);
            validation.leeway = config.leeway.as_secs();
            validation.validate_nbf = true;
            validation.set_required_spec_claims(&["exp", "iss", "aud"]);
            validation.set_issuer(&[issuer]);
            validation.set_audience(&[audience]);
            (algorithm, validation)
        };
        let allowed = config.algorithms.iter().filter_map(|name| algorithm(name));
        Some(Self {
            jwks: Jwks::new(location, config.refresh),
            validations: allowed.map(validation).collect(),
            namespace_claim: config.namespace_claim.clone(),
            scopes_claim: config.scopes_claim.clone(),
        })
    }

    /// Keeps the issuer's keys fresh, for as long as it is polled.
    pub async fn keep_fresh(self: Arc<Self>, part: Part) {
        self.jwks.keep_fresh(part).await;
    }

    /// Whose token that is.
    pub async fn caller(&self, token: &str) -> Result<Caller, Unproven> {
        let header = header_of(token)?;
        let mut allowed = self.validations.iter().filter(|(allowed, _)| *allowed == header.alg);
        let (_, validation) = allowed.next().ok_or(TokenFault::Algorithm)?;
        let key = self.jwks.find(header.kid.as_deref(), header.alg).await?;
        let decoded = decode::<Map<String, Value>>(token, &key, validation);
        let claims = decoded.map_err(|error| fault_of(error.kind()))?.claims;
        let namespace = claims.get(&self.namespace_claim).and_then(Value::as_str);
        let namespace =
            namespace.filter(|name| check_name(name).is_ok()).ok_or(TokenFault::NoNamespace)?;
        let scopes = claims.get(&self.scopes_claim).map(scopes_of).unwrap_or_default();
        Ok(Caller::new(NAME, namespace, scopes))
    }
}

/// The header of a token, if nothing in it is beyond us.
fn header_of(token: &str) -> Result<Header, TokenFault> {
    let encoded = token.split('.').next().unwrap_or_default();
    let json = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| TokenFault::Malformed)?;
    let members: Map<String, Value> =
        serde_json::from_slice(&json).map_err(|_| TokenFault::Malformed)?;
    if members.contains_key("crit") {
        return Err(TokenFault::Critical); // RFC 7515, 4.1.11
    }
    match members.get("alg").and_then(Value::as_str) {
        Some(name) if algorithm(name).is_none() => Err(TokenFault::Algorithm),
        _ => decode_header(token).map_err(|_| TokenFault::Malformed),
    }
}

/// The algorithm of that name. Those with a shared secret are not there: who could check a token
/// could also make one.
pub(crate) fn algorithm(name: &str) -> Option<Algorithm> {
    ALGORITHMS.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
}

/// The algorithms that can be allowed.
pub(crate) const ALGORITHMS: [(&str, Algorithm); 9] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

/// The scopes of a claim: words in a text (RFC 8693, 4.2) or a list. Others' scopes do not matter.
fn scopes_of(claim: &Value) -> Vec<Scope> {
    let words: Vec<&str> = match claim {
        Value::String(text) => text.split_whitespace().collect(),
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    words.into_iter().filter_map(|word| Scope::parse(word).ok()).collect()
}

fn fault_of(error: &ErrorKind) -> TokenFault {
    match error {
        ErrorKind::ExpiredSignature => TokenFault::Expired,
        ErrorKind::ImmatureSignature => TokenFault::NotYetValid,
        ErrorKind::InvalidIssuer => TokenFault::WrongIssuer,
        ErrorKind::InvalidAudience => TokenFault::WrongAudience,
        ErrorKind::InvalidSignature => TokenFault::BadSignature,
        ErrorKind::InvalidAlgorithm => TokenFault::Algorithm,
        ErrorKind::MissingRequiredClaim(_) => TokenFault::MissingClaim,
        _ => TokenFault::Malformed,
    }
}

#[cfg(test)]
mod tests;
