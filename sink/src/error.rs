//! Why the sink stops. What a retry can mend never gets here.

use eventlog::LogError;
use schemas::RegistryError;

use crate::store::StoreError;

/// An error that a retry does not mend.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The store cannot be used.
    #[error("the store cannot be used: {0}")]
    Store(StoreError),
    /// The log cannot be used.
    #[error("the log cannot be used: {0}")]
    Log(LogError),
    /// The schema registry cannot be used.
    #[error(transparent)]
    Registry(RegistryError),
    /// A dead letter was refused, so its record cannot be passed.
    #[error("a record that cannot be stored was refused by the dead letters too: {0}")]
    DeadLetter(String),
    /// A definition cannot be folded.
    #[error("a rollup cannot be folded: {0}")]
    Definition(String),
    /// The topic began a new epoch while partitions of the former one were held.
    #[error("the topic's log went backwards while it was read (epoch {0} began): start again")]
    Epoch(u32),
    /// A task ended in a way that it never should.
    #[error("a partition's task failed: {0}")]
    Task(String),
}
