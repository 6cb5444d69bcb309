//! Who is let in: anyone, or whoever shows a key of the configuration or a token of its issuer.
//!
//! The invariant: a gate that was ever closed stays closed. Taking the last key away makes nobody
//! a caller, never everybody.

use std::{
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
};

use axum::response::{IntoResponse, Response};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{RETRY_AFTER, WWW_AUTHENTICATE},
};

use super::{
    Caller,
    credential::{self, Unreadable},
    jwt::{TokenFault, Tokens, Unproven},
    keys::Keys,
    metrics::{Code, Metrics},
};
use crate::{
    config::{Config, KeyConfig},
    health::Part,
    problem::Problem,
};

/// How callers may prove who they are.
const CHALLENGE: HeaderValue =
    HeaderValue::from_static("Bearer realm=\"penstock\", Basic realm=\"penstock\"");

/// Work that goes on as long as the gate.
type Upkeep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Decides who calls; clones share it, and what it is told later.
#[derive(Clone, Debug)]
pub struct Gate {
    state: Arc<RwLock<State>>,
    tokens: Option<Arc<Tokens>>,
    pub(super) metrics: Metrics,
}

#[derive(Clone, Debug)]
enum State {
    /// Every request is this caller's.
    Open(Caller),
    Closed(Arc<Keys>),
}

/// A token that is refused, for the client that made or got it (RFC 6750, 3.1).
const BAD_TOKEN: HeaderValue =
    HeaderValue::from_static("Bearer realm=\"penstock\", error=\"invalid_token\"");

/// A request whose sender is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It shows nothing.
    #[error(
        "the request has no key: send it as `Authorization: Bearer KEY`, or as the password of \
         Basic authentication"
    )]
    Nothing,
    /// It has a header that cannot be read.
    #[error(
        "the Authorization header is neither `Bearer KEY` nor Basic authentication with the key as \
         password"
    )]
    Malformed,
    /// The key is none of ours.
    #[error("the key is not known here: it may have been revoked, or belong to another server")]
    UnknownKey,
    /// The token is no proof.
    #[error("the token is refused: {0}")]
    Token(TokenFault),
    /// Tokens cannot be judged yet.
    #[error("the keys of the tokens' issuer could not be read yet: retry later")]
    NoIssuerKeys,
}

impl Gate {
    /// The gate that a configuration asks for.
    pub fn new(config: &Config, metrics: Metrics) -> Self {
        let tokens = Tokens::new(&config.jwt).map(Arc::new);
        let gate = Self { metrics, tokens, ..Self::open_to(Caller::anyone()) };
        if !config.keys.is_empty() || gate.tokens.is_some() {
            gate.set_keys(&config.keys);
        }
        gate
    }

    /// Lets everybody in, as this caller.
    pub fn open_to(caller: Caller) -> Self {
        let state = Arc::new(RwLock::new(State::Open(caller)));
        Self { state, tokens: None, metrics: Metrics::default() }
    }

    /// From the next request on these keys are good, and no others.
    pub fn set_keys(&self, keys: &[KeyConfig]) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let keys = match &*state {
            State::Open(_) => Keys::new(keys, &Keys::default()),
            State::Closed(former) => Keys::new(keys, former),
        };
        *state = State::Closed(Arc::new(keys));
    }

    /// What keeps the issuer's keys fresh and tells a part of it; none where there are no tokens.
    pub(crate) fn upkeep(&self) -> Option<impl FnOnce(Part) -> Upkeep> {
        let tokens = Arc::clone(self.tokens.as_ref()?);
        Some(move |part| -> Upkeep { Box::pin(tokens.keep_fresh(part)) })
    }

    /// Whether everybody is let in.
    pub fn is_open(&self) -> bool {
        matches!(*self.state.read().unwrap_or_else(PoisonError::into_inner), State::Open(_))
    }

    /// Who sends this request.
    ///
    /// # Errors
    /// What is wrong with what it shows.
    pub async fn caller(&self, headers: &HeaderMap) -> Result<Caller, Denied> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner).clone();
        let keys = match state {
            State::Open(caller) => return Ok(caller),
            State::Closed(keys) => keys,
        };
        self.known(headers, &keys).await.inspect_err(|denied| {
            self.metrics.refused.get_or_create(&Code { code: denied.code() }).inc();
        })
    }

    async fn known(&self, headers: &HeaderMap, keys: &Keys) -> Result<Caller, Denied> {
        let shown = credential::of(headers)?;
        if let Some(caller) = keys.find(&shown) {
            return Ok(caller.clone());
        }
        match &self.tokens {
            Some(tokens) if shown.matches('.').count() == 2 => {
                // Boxed: most callers have keys, and all would hold what judging a token takes.
                Box::pin(tokens.caller(&shown)).await.map_err(Denied::from)
            }
            _ => Err(Denied::UnknownKey),
        }
    }
}

impl Denied {
    /// A stable word for programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::Nothing | Self::Malformed => "unauthenticated",
            Self::UnknownKey => "unknown_key",
            Self::Token(_) => "invalid_token",
            Self::NoIssuerKeys => "issuer_keys_unavailable",
        }
    }
}

impl From<Unproven> for Denied {
    fn from(unproven: Unproven) -> Self {
        match unproven {
            Unproven::Fault(fault) => Self::Token(fault),
            Unproven::NoKeys => Self::NoIssuerKeys,
        }
    }
}

impl From<Unreadable> for Denied {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Absent => Self::Nothing,
            Unreadable::Malformed => Self::Malformed,
        }
    }
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        let detail = self.to_string();
        let (status, title) = match self {
            Self::NoIssuerKeys => (StatusCode::SERVICE_UNAVAILABLE, "Tokens cannot be judged now"),
            _ => (StatusCode::UNAUTHORIZED, "The sender is not known"),
        };
        let problem = Problem::new(status, self.code(), title, detail);
        match self {
            Self::NoIssuerKeys => {
                ([(RETRY_AFTER, HeaderValue::from_static("1"))], problem).into_response()
            }
            Self::Token(fault) => {
                let problem = problem.with("reason", fault.reason());
                ([(WWW_AUTHENTICATE, BAD_TOKEN)], problem).into_response()
            }
            _ => ([(WWW_AUTHENTICATE, CHALLENGE)], problem).into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::key;

    fn key(name: &str) -> KeyConfig {
        KeyConfig {
            name: name.into(),
            hash: key::write_hash(&key::hash(&format!("pk_{name}"))),
            namespace: "shop".into(),
            scopes: vec!["read".into()],
            rate: None,
        }
    }

    fn bearer(key: &str) -> HeaderMap {
        let value = HeaderValue::from_str(&format!("Bearer {key}")).unwrap();
        HeaderMap::from_iter([(http::header::AUTHORIZATION, value)])
    }

    async fn name(gate: &Gate, headers: &HeaderMap) -> Result<String, Denied> {
        gate.caller(headers).await.map(|caller| caller.name.to_string())
    }

    #[tokio::test]
    async fn without_keys_anyone_calls() {
        let gate = Gate::new(&Config::default(), Metrics::default());
        assert_eq!(gate.caller(&HeaderMap::new()).await, Ok(Caller::anyone()));
    }

    #[tokio::test]
    async fn with_keys_only_their_holders_do() {
        let config = Config { keys: vec![key("a"), key("b")], ..Config::default() };
        let gate = Gate::new(&config, Metrics::default());
        assert_eq!(name(&gate, &bearer("pk_b")).await.as_deref(), Ok("b"));
        assert_eq!(name(&gate, &bearer("pk_c")).await, Err(Denied::UnknownKey));
        assert_eq!(name(&gate, &HeaderMap::new()).await, Err(Denied::Nothing));
    }

    #[tokio::test]
    async fn a_key_that_was_taken_away_is_unknown_at_once_and_the_last_one_opens_nothing() {
        let gate = Gate::new(&Config::default(), Metrics::default());
        gate.set_keys(&[key("a"), key("b")]);
        assert_eq!(name(&gate, &bearer("pk_a")).await.as_deref(), Ok("a"));
        gate.set_keys(&[key("b")]);
        assert_eq!(name(&gate, &bearer("pk_a")).await, Err(Denied::UnknownKey));
        gate.set_keys(&[]);
        assert!(!gate.is_open());
        assert_eq!(name(&gate, &bearer("pk_b")).await, Err(Denied::UnknownKey));
    }

    #[test]
    fn a_refusal_says_how_to_authenticate() {
        let response = Denied::Nothing.into_response();
        assert_eq!(response.status(), 401);
        let challenge = response.headers()[WWW_AUTHENTICATE].to_str().unwrap();
        assert!(challenge.contains("Bearer") && challenge.contains("Basic realm="), "{challenge}");
    }
}
