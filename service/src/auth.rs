//! Who asks: the caller of a request, the tenant it belongs to and what it may do.
//!
//! The listener asks its [`Gate`] who calls before any handler runs and puts a [`Caller`] into the
//! request's extensions; handlers take it as an argument and ask it [`Caller::require`]. So no
//! handler knows how callers prove who they are, and none can forget to ask where a request came
//! from: a route without a caller is refused.
//!
//! `credential` reads what a request shows, [`key`] is what an API key is, `keys` looks one up,
//! `jwt` judges tokens, `gate` decides, `limits` says how much, and `reload` follows the configuration's file. What a caller shows never gets
//! further than the gate: not into a log, a label or an answer.

mod credential;
mod gate;
pub(crate) mod jwt;
pub mod key;
mod keys;
mod limits;
mod metrics;
mod reload;

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::{StatusCode, request::Parts};

use crate::{config::closest, problem::Problem};

pub(crate) use self::reload::follow;
pub use self::{
    gate::{Denied, Gate},
    jwt::TokenFault,
    limits::{Limits, OverLimit},
    metrics::Metrics,
};

/// The tenant of everything where there are no keys.
pub const DEFAULT_NAMESPACE: &str = "default";

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Post events into the namespace.
    Write,
    /// Read what the namespace holds.
    Read,
    /// Change what belongs to the namespace, such as schemas.
    Admin,
    /// All of these.
    Operator,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 4] = [Self::Write, Self::Read, Self::Admin, Self::Operator];

    /// Its name in configurations, tokens and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
            Self::Admin => "admin",
            Self::Operator => "operator",
        }
    }

    /// The scope of that name.
    ///
    /// # Errors
    /// A sentence that names the known ones, and the one that was probably meant.
    pub fn parse(name: &str) -> Result<Self, String> {
        let known = Self::ALL.map(Self::name);
        Self::ALL.into_iter().find(|scope| scope.name() == name).ok_or_else(|| {
            let meant = closest(name, &known);
            let meant = meant.map_or(String::new(), |name| format!("; did you mean `{name}`?"));
            format!("`{name}` is not a scope; known are {}{meant}", known.join(", "))
        })
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Who asks. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The name of its key, for logs and metrics; never the key.
    pub name: Arc<str>,
    /// The tenant.
    pub namespace: Arc<str>,
    scopes: u8,
    limits: Option<Arc<Limits>>,
}

impl Caller {
    /// A caller with these scopes.
    pub fn new(
        name: impl Into<Arc<str>>,
        namespace: impl Into<Arc<str>>,
        scopes: impl IntoIterator<Item = Scope>,
    ) -> Self {
        let scopes = scopes.into_iter().fold(0, |scopes, scope| scopes | scope.bit());
        Self { name: name.into(), namespace: namespace.into(), scopes, limits: None }
    }

    /// Whoever reaches the port, where the configuration has neither keys nor tokens.
    pub fn anyone() -> Self {
        Self::new("anyone", DEFAULT_NAMESPACE, Scope::ALL)
    }

    /// The same within limits, which its clones share.
    #[must_use]
    pub fn within(self, limits: Arc<Limits>) -> Self {
        Self { limits: Some(limits), ..self }
    }

    /// How much it may post, where that is limited.
    pub fn limits(&self) -> Option<&Arc<Limits>> {
        self.limits.as_ref()
    }

    /// Whether it may.
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes & (scope.bit() | Scope::Operator.bit()) != 0
    }

    /// Refuses who may not.
    ///
    /// # Errors
    /// A `403` that names the scope that is missing.
    #[expect(
        clippy::result_large_err,
        reason = "a problem is the answer; it is made once a refusal"
    )]
    pub fn require(&self, scope: Scope) -> Result<(), Problem> {
        if self.may(scope) {
            return Ok(());
        }
        let detail = format!(
            "the key `{}` lacks the scope `{}`: use one that has it",
            self.name,
            scope.name()
        );
        let problem = Problem::new(StatusCode::FORBIDDEN, "forbidden", "Forbidden", detail);
        Err(problem.with("scope", scope.name()))
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| {
            Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "Internal error",
                "the listener did not say who calls",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_may_what_its_scopes_say_and_an_operator_everything() {
        let writer = Caller::new("checkout", "shop", [Scope::Write]);
        assert!(writer.may(Scope::Write) && !writer.may(Scope::Read) && !writer.may(Scope::Admin));
        let refused = writer.require(Scope::Admin).unwrap_err();
        assert_eq!((refused.status, refused.code.as_str()), (403, "forbidden"));
        let operator = Caller::new("ops", "shop", [Scope::Operator]);
        assert!(Scope::ALL.into_iter().all(|scope| operator.may(scope)));
    }
}
