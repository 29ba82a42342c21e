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
    let reason = format!("topic {topic}: {error}{}", advice(error));
    match error.rdkafka_error_code() {
        Some(Code::MessageSizeTooLarge | Code::InvalidArgument) => Refusal::ForGood(reason),
        _ => Refusal::NotSent(reason),
    }
}

/// The producer gave the message up; `written` is whether a copy of it may be in the topic's log.
///
/// librdkafka keeps account of that over all attempts: a message that was on its way when the connection broke counts as written
/// even if a later attempt is refused for certain.
pub(super) fn not_delivered(topic: &str, error: &KafkaError, written: bool) -> Refusal {
    use RDKafkaErrorCode as Code;
    let reason = format!("topic {topic}: {error}{}", advice(error));
    match error.rdkafka_error_code() {
        Some(Code::MessageSizeTooLarge) => Refusal::TooLarge(reason),
        Some(Code::InvalidMessage | Code::InvalidMessageSize | Code::InvalidRecord | Code::InvalidTimestamp) => {
            Refusal::ForGood(reason)
        }
        _ if written => Refusal::MayPass(reason),
        // The cluster, or librdkafka for want of anybody to send it to, says no for now; an operator can mend that.
        Some(
            Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicOrPartition
            | Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::PolicyViolation
            | Code::NotEnoughReplicas
            // It waited for a connection all the time, or was thrown out of the queue unsent.
            | Code::MessageTimedOut
            | Code::PurgeQueue,
        ) => Refusal::NotSent(reason),
        _ => Refusal::MayPass(reason),
    }
}

/// What an operator can do about it, where the code alone does not say.
fn advice(error: &KafkaError) -> &'static str {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        Some(Code::TopicAuthorizationFailed) => ": we lack the right to WRITE to the topic",
        Some(Code::ClusterAuthorizationFailed) => {
            ": we lack the right to WRITE to any topic, or IDEMPOTENT_WRITE on the cluster"
        }
        Some(Code::UnknownTopic | Code::UnknownTopicOrPartition) => {
            ": create the topic, or allow DESCRIBE on it (a topic that we may not know of looks like none)"
        }
        Some(Code::PolicyViolation) => ": a policy of the cluster forbids it",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use RDKafkaErrorCode as Code;

    use super::*;

    fn produced(code: RDKafkaErrorCode) -> KafkaError {
        KafkaError::MessageProduction(code)
    }

    fn outcome(refusal: Refusal) -> &'static str {
        match PublishError::from(refusal) {
            PublishError::NotSent(_) => "not sent",
            PublishError::Unavailable(_) => "in doubt",
            PublishError::Refused(_) => "refused",
        }
    }

    const CERTAIN: [Code; 9] = [
        Code::UnknownTopic,
        Code::UnknownPartition,
        Code::UnknownTopicOrPartition,
        Code::TopicAuthorizationFailed,
        Code::ClusterAuthorizationFailed,
        Code::PolicyViolation,
        Code::NotEnoughReplicas,
        Code::MessageTimedOut,
        Code::PurgeQueue,
    ];

    #[test]
    fn what_the_producer_does_not_take_never_left() {
        assert_eq!(outcome(not_taken("t", &produced(Code::QueueFull))), "not sent");
        assert_eq!(outcome(not_taken("t", &produced(Code::TopicAuthorizationFailed))), "not sent");
        assert_eq!(outcome(not_taken("t", &produced(Code::MessageSizeTooLarge))), "refused");
    }

    #[test]
    fn what_is_refused_for_want_of_a_topic_or_a_right_was_not_sent() {
        for code in CERTAIN {
            assert_eq!(outcome(not_delivered("t", &produced(code), false)), "not sent", "{code:?}");
        }
    }

    #[test]
    fn an_earlier_attempt_that_may_have_been_written_leaves_it_in_doubt() {
        for code in CERTAIN {
            assert_eq!(outcome(not_delivered("t", &produced(code), true)), "in doubt", "{code:?}");
        }
    }

    #[test]
    fn what_may_have_arrived_is_in_doubt_whatever_librdkafka_counts() {
        for code in [Code::RequestTimedOut, Code::NotEnoughReplicasAfterAppend, Code::PurgeInflight, Code::Fatal] {
            assert_eq!(outcome(not_delivered("t", &produced(code), false)), "in doubt", "{code:?}");
        }
    }

    #[test]
    fn the_reason_names_the_topic_and_the_right_that_is_missing() {
        let Refusal::NotSent(reason) = not_delivered("letters", &produced(Code::TopicAuthorizationFailed), false)
        else {
            return assert_eq!("another refusal", "not sent");
        };
        assert!(
            reason.starts_with("topic letters: ") && reason.ends_with("the right to WRITE to the topic"),
            "{reason}"
        );
    }
}
