//! What leaves through Kafka.

use async_trait::async_trait;
use bytes::Bytes;

/// Publishes messages.
///
/// Contract: `Ok` means that the message is durable at its destination. The call is bounded in time. Publishing the same
/// message again is harmless: it carries what its readers need to see that it is the same.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Publishes one message and waits until it is durable.
    async fn publish(&self, message: Message) -> Result<(), PublishError>;
}

/// A message on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where to: the adapter knows the topic of each.
    pub destination: Destination,
    /// The Kafka key, where copies must meet in one partition.
    pub key: Option<Bytes>,
    /// The payload.
    pub payload: Bytes,
    /// The headers.
    pub headers: Vec<(String, Bytes)>,
}

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    /// The retry topic.
    Retry,
    /// The dead-letter topic.
    DeadLetter,
    /// Where tasks of demoted namespaces go. The adapter knows the topic and its cluster, which may change while it runs.
    Forward,
}

/// Why a message was not published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// It may pass, and the message certainly never left: publish it again later.
    #[error("not sent, may pass: {0}")]
    NotSent(String),
    /// It may pass, and the message may have arrived all the same: publish it again later.
    #[error("not published, may pass: {0}")]
    Unavailable(String),
    /// It never will be: the destination refuses this message (too large, for example).
    #[error("refused for good: {0}")]
    Refused(String),
}
