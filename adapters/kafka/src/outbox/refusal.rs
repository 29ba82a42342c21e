//! Why a message did not go out, and what may be done about it.

use rdkafka::{error::KafkaError, types::RDKafkaErrorCode};
use taskbroker_domain::ports::outbox::PublishError;

/// Why a message did not go out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The cluster calls its batch too large.
    TooLarge(String),
    /// It is refused itself.
    ForGood(String),
    /// It never left.
    NotSent(String),
    /// Anything else; it may have arrived.
    MayPass(String),
}

impl From<Refusal> for PublishError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::TooLarge(reason) | Refusal::ForGood(reason) => Self::Refused(reason),
            Refusal::NotSent(reason) => Self::NotSent(reason),
            Refusal::MayPass(reason) => Self::Unavailable(reason),
        }
    }
}

/// The producer did not take the message: it was never on its way.
pub(super) fn not_taken(topic: &str, error: &KafkaError) -> Refusal {
    use RDKafkaErrorCode as Code;
    let reason = format!("topic {topic}: {error}");
    match error.rdkafka_error_code() {
        Some(Code::MessageSizeTooLarge | Code::InvalidArgument) => Refusal::ForGood(reason),
        _ => Refusal::NotSent(reason),
    }
}

/// The producer gave the message up.
pub(super) fn not_delivered(topic: &str, error: &KafkaError) -> Refusal {
    use RDKafkaErrorCode as Code;
    let reason = format!("topic {topic}: {error}");
    match error.rdkafka_error_code() {
        Some(Code::MessageSizeTooLarge) => Refusal::TooLarge(reason),
        Some(Code::InvalidMessage | Code::InvalidMessageSize | Code::InvalidRecord | Code::InvalidTimestamp) => {
            Refusal::ForGood(reason)
        }
        // librdkafka itself found no such topic or partition: there was nobody to send it to.
        Some(Code::UnknownTopic | Code::UnknownPartition) => Refusal::NotSent(reason),
        _ => Refusal::MayPass(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn produced(code: RDKafkaErrorCode) -> KafkaError {
        KafkaError::MessageProduction(code)
    }

    #[test]
    fn only_what_never_left_is_called_not_sent() {
        use RDKafkaErrorCode as Code;
        let reason = |refusal| match PublishError::from(refusal) {
            PublishError::NotSent(_) => "not sent",
            PublishError::Unavailable(_) => "in doubt",
            PublishError::Refused(_) => "refused",
        };
        assert_eq!(reason(not_taken("t", &produced(Code::QueueFull))), "not sent");
        assert_eq!(reason(not_taken("t", &produced(Code::MessageSizeTooLarge))), "refused");
        assert_eq!(reason(not_delivered("t", &produced(Code::UnknownTopic))), "not sent");
        for doubtful in
            [Code::MessageTimedOut, Code::RequestTimedOut, Code::NotEnoughReplicasAfterAppend, Code::PurgeInflight]
        {
            assert_eq!(reason(not_delivered("t", &produced(doubtful))), "in doubt", "{doubtful:?}");
        }
    }
}
