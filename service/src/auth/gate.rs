//! Who is let in: anyone, or whoever shows a key of the configuration.
//!
//! The invariant: a gate that was ever closed stays closed. Taking the last key away makes nobody
//! a caller, never everybody.

use std::sync::{Arc, PoisonError, RwLock};

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header::WWW_AUTHENTICATE};

use super::{
    Caller,
    credential::{self, Unreadable},
    keys::Keys,
    metrics::{Code, Metrics},
};
use crate::{
    config::{Config, KeyConfig},
    problem::Problem,
};

/// How callers may prove who they are.
const CHALLENGE: HeaderValue =
    HeaderValue::from_static("Bearer realm=\"penstock\", Basic realm=\"penstock\"");

/// Decides who calls; clones share it, and what it is told later.
#[derive(Clone, Debug)]
pub struct Gate {
    state: Arc<RwLock<State>>,
    pub(super) metrics: Metrics,
}

#[derive(Clone, Debug)]
enum State {
    /// Every request is this caller's.
    Open(Caller),
    Closed(Arc<Keys>),
}

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
}

impl Gate {
    /// The gate that a configuration asks for.
    pub fn new(config: &Config, metrics: Metrics) -> Self {
        let gate = Self { metrics, ..Self::open_to(Caller::anyone()) };
        if !config.keys.is_empty() {
            gate.set_keys(&config.keys);
        }
        gate
    }

    /// Lets everybody in, as this caller.
    pub fn open_to(caller: Caller) -> Self {
        let state = Arc::new(RwLock::new(State::Open(caller)));
        Self { state, metrics: Metrics::default() }
    }

    /// From the next request on these keys are good, and no others.
    pub fn set_keys(&self, keys: &[KeyConfig]) {
        let keys = Arc::new(Keys::new(keys));
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = State::Closed(keys);
    }

    /// Whether everybody is let in.
    pub fn is_open(&self) -> bool {
        matches!(*self.state.read().unwrap_or_else(PoisonError::into_inner), State::Open(_))
    }

    /// Who sends this request.
    ///
    /// # Errors
    /// What is wrong with what it shows.
    pub fn caller(&self, headers: &HeaderMap) -> Result<Caller, Denied> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner).clone();
        let keys = match state {
            State::Open(caller) => return Ok(caller),
            State::Closed(keys) => keys,
        };
        let known = credential::of(headers)
            .map_err(Denied::from)
            .and_then(|shown| keys.find(&shown).cloned().ok_or(Denied::UnknownKey));
        known.inspect_err(|denied| {
            self.metrics.refused.get_or_create(&Code { code: denied.code() }).inc();
        })
    }
}

impl Denied {
    /// A stable word for programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::Nothing | Self::Malformed => "unauthenticated",
            Self::UnknownKey => "unknown_key",
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
        let title = "The sender is not known";
        let problem = Problem::new(StatusCode::UNAUTHORIZED, self.code(), title, detail);
        ([(WWW_AUTHENTICATE, CHALLENGE)], problem).into_response()
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
        }
    }

    fn bearer(key: &str) -> HeaderMap {
        let value = HeaderValue::from_str(&format!("Bearer {key}")).unwrap();
        HeaderMap::from_iter([(http::header::AUTHORIZATION, value)])
    }

    fn name(gate: &Gate, headers: &HeaderMap) -> Result<String, Denied> {
        gate.caller(headers).map(|caller| caller.name.to_string())
    }

    #[test]
    fn without_keys_anyone_calls() {
        let gate = Gate::new(&Config::default(), Metrics::default());
        assert_eq!(gate.caller(&HeaderMap::new()), Ok(Caller::anyone()));
    }

    #[test]
    fn with_keys_only_their_holders_do() {
        let config = Config { keys: vec![key("a"), key("b")], ..Config::default() };
        let gate = Gate::new(&config, Metrics::default());
        assert_eq!(name(&gate, &bearer("pk_b")).as_deref(), Ok("b"));
        assert_eq!(name(&gate, &bearer("pk_c")), Err(Denied::UnknownKey));
        assert_eq!(name(&gate, &HeaderMap::new()), Err(Denied::Nothing));
    }

    #[test]
    fn a_key_that_was_taken_away_is_unknown_at_once_and_the_last_one_opens_nothing() {
        let gate = Gate::new(&Config::default(), Metrics::default());
        gate.set_keys(&[key("a"), key("b")]);
        assert_eq!(name(&gate, &bearer("pk_a")).as_deref(), Ok("a"));
        gate.set_keys(&[key("b")]);
        assert_eq!(name(&gate, &bearer("pk_a")), Err(Denied::UnknownKey));
        gate.set_keys(&[]);
        assert!(!gate.is_open());
        assert_eq!(name(&gate, &bearer("pk_b")), Err(Denied::UnknownKey));
    }

    #[test]
    fn a_refusal_says_how_to_authenticate() {
        let response = Denied::Nothing.into_response();
        assert_eq!(response.status(), 401);
        let challenge = response.headers()[WWW_AUTHENTICATE].to_str().unwrap();
        assert!(challenge.contains("Bearer") && challenge.contains("Basic realm="), "{challenge}");
    }
}
