//! Why the registry did not answer or did not change, by what the caller can do.

use eventlog::LogError;

/// Why the registry did not answer, by what the caller can do.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum RegistryError {
    /// Not now: a later try may succeed.
    #[error("the schema registry cannot answer now: {0}")]
    Retry(String),
    /// A retry will not help.
    #[error("the schema registry cannot be used: {0}")]
    Fatal(String),
}

impl From<LogError> for RegistryError {
    fn from(e: LogError) -> Self {
        match e {
            LogError::Retry(detail) => Self::Retry(detail),
            other => Self::Fatal(other.to_string()),
        }
    }
}

/// What is not there, or not as it must be for what was asked.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Denied {
    /// The namespace has no such subject.
    #[error("subject `{0}` is not known")]
    SubjectNotFound(String),
    /// The subject has no such version.
    #[error("version {0} is not known")]
    VersionNotFound(String),
    /// The namespace has no such schema.
    #[error("the schema is not known")]
    SchemaNotFound,
    /// The subject is deleted already.
    #[error("subject `{0}` was deleted before: `permanent=true` deletes it for good")]
    SubjectDeleted(String),
    /// Only a deleted subject is deleted for good.
    #[error("subject `{0}` was not deleted first, without `permanent=true`")]
    SubjectNotDeleted(String),
    /// The version is deleted already.
    #[error(
        "version {1} of subject `{0}` was deleted before: `permanent=true` deletes it for good"
    )]
    VersionDeleted(String, u32),
    /// Only a deleted version is deleted for good.
    #[error("version {1} of subject `{0}` was not deleted first, without `permanent=true`")]
    VersionNotDeleted(String, u32),
    /// The subject has no level of its own.
    #[error("subject `{0}` has no compatibility of its own")]
    NoLevel(String),
    /// The subject has no mode of its own.
    #[error("subject `{0}` has no mode of its own")]
    NoMode(String),
    /// The mode is READONLY.
    #[error("the mode is READONLY: nothing of subject `{0}` may change")]
    ReadOnly(String),
    /// Other schemas name types of it.
    #[error("version {1} of subject `{0}` is referenced by the schemas {2:?}: delete those first")]
    Referenced(String, u32, Vec<u32>),
}

impl Denied {
    /// Whether it says that what a deletion wants is so already.
    pub(super) fn says_done(&self) -> bool {
        matches!(
            self,
            Self::SubjectNotFound(_)
                | Self::VersionNotFound(_)
                | Self::SubjectDeleted(_)
                | Self::VersionDeleted(..)
        )
    }
}

/// Why a schema was not registered, or something else not changed.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum RegisterError {
    /// It is no schema, or one that Penstock cannot use.
    #[error("not a usable Avro schema: {0}")]
    Invalid(String),
    /// Its versions do not get along as the subject's level asks.
    #[error("not compatible with version {version}: {detail}")]
    Incompatible {
        /// The earlier version.
        version: u32,
        /// What differs.
        detail: String,
    },
    /// What is there does not allow it.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The registry did not answer.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}
