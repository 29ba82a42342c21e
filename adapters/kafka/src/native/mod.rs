//! What librdkafka offers and the safe bindings lack: a topic's id, all log ranges in one request, a partition's queue read
//! in batches with the offset of its end, leader epochs, whether a group knows us. All unsafe code of this crate is here.
#![expect(unsafe_code, reason = "calls into librdkafka; each block says why it is sound")]

mod admin;
mod delivery;
mod describe;
mod handles;
mod membership;
mod message;
mod mock;
mod positions;
mod queue;

pub(crate) use admin::log_ranges;
pub(crate) use delivery::may_be_written;
pub(crate) use describe::{TopicSight, rights_on_topic, sight_topic};
pub(crate) use membership::is_member;
pub(crate) use message::Fetched;
pub(crate) use mock::assign_at_once;
pub(crate) use positions::{CommittedEntry, committed_entries, set_leader_epoch};
pub(crate) use queue::{ConsumerQueue, PartitionQueue, Waker};

use rdkafka::types::RDKafkaErrorCode;

/// Whether this is what credentials, certificates or protocols that do not fit bring.
pub(crate) fn is_of_the_connection(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::Authentication
            | Code::SSL
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::IllegalSASLState
    )
}

/// A call that failed: the code, and what librdkafka says of it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text} ({code:?})")]
pub(crate) struct Failure {
    pub(crate) code: RDKafkaErrorCode,
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn new(code: RDKafkaErrorCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// The cluster could be asked and said no: the right that whoever reads lacks.
    pub(crate) fn lacking_right(&self) -> Option<&'static str> {
        use RDKafkaErrorCode as Code;
        match self.code {
            Code::TopicAuthorizationFailed => Some("READ on the topic"),
            Code::GroupAuthorizationFailed => Some("READ on the group"),
            Code::ClusterAuthorizationFailed => Some("DESCRIBE on the cluster"),
            _ => None,
        }
    }

    /// There is a cluster, and it does not let us in, or we do not trust it.
    pub(crate) fn is_of_the_connection(&self) -> bool {
        is_of_the_connection(self.code)
    }

    fn timed_out(what: &str) -> Self {
        Self::new(RDKafkaErrorCode::OperationTimedOut, format!("{what}: no answer in time"))
    }
}
