//! What an error of the driver means: try again, or not. In one place.
//!
//! The invariant: no value of an event gets into a message. So the server's own text is left out
//! wherever statements carry values; it is kept for the statements that make the tables.

use scylla::errors::{
    BadQuery, ConnectionError, ConnectionPoolError, ConnectionSetupRequestError,
    ConnectionSetupRequestErrorKind, DbError, ExecutionError, MetadataError, NewSessionError,
    PrepareError, RequestAttemptError,
};

use crate::store::StoreError;

/// An error, judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// A short name of it, for a metric.
    pub(super) name: &'static str,
    /// Whether the same request may succeed later.
    pub(super) transient: bool,
    /// Whether the store asks for less: it was too slow, or says so.
    pub(super) overload: bool,
    /// What a message says.
    pub(super) text: String,
}

impl Fault {
    fn new(name: &'static str, transient: bool, text: impl ToString) -> Self {
        Self { name, transient, overload: false, text: text.to_string() }
    }

    fn overload(name: &'static str, text: impl ToString) -> Self {
        Self { name, transient: true, overload: true, text: text.to_string() }
    }

    /// As the seam says it.
    pub(super) fn error(self) -> StoreError {
        if self.transient {
            StoreError::Retry(self.text)
        } else {
            StoreError::Fatal(format!("the CQL store refuses: {}", self.text))
        }
    }
}

impl From<&ExecutionError> for Fault {
    fn from(error: &ExecutionError) -> Self {
        match error {
            ExecutionError::BadQuery(BadQuery::SerializationError(_)) => {
                Self::new("serialization", false, "a value does not fit its column")
            }
            ExecutionError::BadQuery(_) => Self::new("bad_query", false, error),
            ExecutionError::LastAttemptError(attempt) => attempt.into(),
            ExecutionError::RequestTimeout(_) => Self::overload("client_timeout", error),
            ExecutionError::PrepareError(prepare) => prepare.into(),
            ExecutionError::ConnectionPoolError(pool) => pool.into(),
            ExecutionError::EmptyPlan => Self::new("no_node", true, "no node can be reached"),
            _ => Self::new("other", true, error),
        }
    }
}

impl From<&RequestAttemptError> for Fault {
    fn from(error: &RequestAttemptError) -> Self {
        match error {
            RequestAttemptError::DbError(db, _) => db.into(),
            RequestAttemptError::SerializationError(_)
            | RequestAttemptError::CqlRequestSerialization(_) => {
                Self::new("serialization", false, "a request cannot be encoded")
            }
            RequestAttemptError::UnableToAllocStreamId => Self::overload("no_stream", error),
            RequestAttemptError::BrokenConnectionError(_) => {
                Self::new("broken_connection", true, error)
            }
            _ => Self::new("protocol", true, "an answer cannot be understood"),
        }
    }
}

impl From<&DbError> for Fault {
    fn from(error: &DbError) -> Self {
        match error {
            DbError::SyntaxError => Self::new("syntax", false, error),
            DbError::Invalid => Self::new("invalid", false, error),
            DbError::AlreadyExists { .. } => Self::new("already_exists", false, error),
            DbError::FunctionFailure { .. } => Self::new("function", false, error),
            DbError::AuthenticationError => Self::new("authentication", false, error),
            DbError::Unauthorized => Self::new("unauthorized", false, error),
            DbError::ConfigError => Self::new("config", false, error),
            DbError::ProtocolError => Self::new("protocol", false, error),
            DbError::Overloaded => Self::overload("overloaded", error),
            DbError::WriteTimeout { .. } => Self::overload("write_timeout", error),
            DbError::ReadTimeout { .. } => Self::overload("read_timeout", error),
            DbError::RateLimitReached { .. } => Self::overload("rate_limit", error),
            DbError::Unavailable { .. } => Self::new("unavailable", true, error),
            DbError::WriteFailure { .. } => Self::new("write_failure", true, error),
            DbError::ReadFailure { .. } => Self::new("read_failure", true, error),
            DbError::IsBootstrapping => Self::new("bootstrapping", true, error),
            _ => Self::new("server", true, error),
        }
    }
}

impl From<&ConnectionPoolError> for Fault {
    fn from(error: &ConnectionPoolError) -> Self {
        if let ConnectionPoolError::Broken { last_connection_error } = error
            && let Some(why) = refused_login(last_connection_error)
        {
            return Self::new("authentication", false, why);
        }
        Self::new("no_connection", true, error)
    }
}

impl From<&PrepareError> for Fault {
    fn from(error: &PrepareError) -> Self {
        match error {
            PrepareError::ConnectionPoolError(pool) => pool.into(),
            PrepareError::AllAttemptsFailed { first_attempt, .. } => match first_attempt {
                // Statements to prepare hold no values.
                RequestAttemptError::DbError(db, text) => {
                    Self { text: format!("{db}: {text}"), ..db.into() }
                }
                attempt => attempt.into(),
            },
            _ => Self::new("prepare", true, error),
        }
    }
}

impl From<&NewSessionError> for Fault {
    fn from(error: &NewSessionError) -> Self {
        match error {
            NewSessionError::MetadataError(MetadataError::ConnectionPoolError(pool)) => pool.into(),
            NewSessionError::IllegalConfig(_) | NewSessionError::EmptyKnownNodesList => {
                Self::new("config", false, error)
            }
            _ => Self::new("connect", true, error),
        }
    }
}

/// Why a node did not let us in, if that is what happened.
fn refused_login(error: &ConnectionError) -> Option<&'static str> {
    let ConnectionError::ConnectionSetupRequestError(ConnectionSetupRequestError {
        error: kind,
        ..
    }) = error
    else {
        return None;
    };
    match kind {
        ConnectionSetupRequestErrorKind::MissingAuthentication => {
            Some("the cluster asks for a user: set store.user and store.password")
        }
        ConnectionSetupRequestErrorKind::DbError(
            DbError::AuthenticationError | DbError::Unauthorized,
            _,
        ) => Some("the cluster does not accept store.user with store.password"),
        _ => None,
    }
}
