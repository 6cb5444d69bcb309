//! What an error of librdkafka means to the caller.
//!
//! Messages name the operation and the code, never a record's bytes or a property's value.

use rdkafka::{error::KafkaError, types::RDKafkaErrorCode as Code};

use crate::{AppendError, LogError};

/// The error of an operation: what was tried, on which topic or group, and why it failed.
pub(super) fn log_error(what: &str, of: &str, error: &KafkaError) -> LogError {
    let told = tell(error);
    match error.rdkafka_error_code() {
        Some(code) if is_unknown(code) => LogError::Unknown(of.to_owned()),
        Some(code) if is_final(code) => LogError::Fatal(format!("{what} of {of} failed: {told}")),
        _ => LogError::Retry(format!("{what} of {of} failed: {told}")),
    }
}

/// Whether a topic or partition is not known. A broker that has just come up says so of what exists.
pub(super) fn is_unknown(code: Code) -> bool {
    matches!(code, Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition)
}

/// Whether only another configuration, or another cluster, can help.
pub(super) fn is_final(code: Code) -> bool {
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::UnsupportedVersion
            | Code::UnsupportedFeature
            | Code::InvalidTopic
            | Code::InvalidGroupId
            | Code::InvalidConfig
            | Code::InvalidReplicationFactor
            | Code::InvalidPartitions
            | Code::PolicyViolation
            | Code::Fatal
    )
}

/// Why a record was not appended. `sent` is false when it never left this process.
///
/// A topic that is not known is no refusal: it was there when its partitions were counted. What
/// librdkafka held for it may have been under way once, on a connection that broke.
pub(super) fn append_error(error: &KafkaError, sent: bool) -> AppendError {
    let told = tell(error);
    match error.rdkafka_error_code() {
        Some(
            Code::InvalidTopic
            | Code::MessageSizeTooLarge
            | Code::InvalidMessageSize
            | Code::InvalidRecord,
        ) => AppendError::Refused(told),
        Some(Code::QueueFull) => AppendError::Retry("the queue of appends is full".into()),
        // Refused before they were written, by a broker that may think otherwise later.
        Some(
            Code::PurgeQueue
            | Code::NotEnoughReplicas
            | Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed,
        ) => AppendError::Retry(told),
        _ if sent => AppendError::Unknown(told),
        _ => AppendError::Retry(told),
    }
}

/// An error in words: its code and what librdkafka calls it.
pub(super) fn tell(error: &KafkaError) -> String {
    match error {
        // These carry values of properties and texts that quote them.
        KafkaError::ClientConfig(_, _, name, _) => format!("property {name} is not accepted"),
        KafkaError::Transaction(inner) => format!("{} ({})", inner.string(), inner.name()),
        other => match other.rdkafka_error_code() {
            Some(code) => code.to_string(),
            None => other.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_is_not_known_for_a_moment_refuses_no_record() {
        for code in [Code::UnknownTopicOrPartition, Code::UnknownTopic, Code::UnknownPartition] {
            let error = KafkaError::MessageProduction(code);
            assert!(matches!(append_error(&error, false), AppendError::Retry(_)), "{code}");
            assert!(matches!(append_error(&error, true), AppendError::Unknown(_)), "{code}");
        }
    }

    #[test]
    fn a_record_that_brokers_never_take_is_refused() {
        let error = KafkaError::MessageProduction(Code::MessageSizeTooLarge);
        assert!(matches!(append_error(&error, true), AppendError::Refused(_)));
    }
}
