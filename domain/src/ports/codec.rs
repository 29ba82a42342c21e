//! Reading and writing activations as bytes: the one place where the core meets the wire format.

use bytes::Bytes;

use crate::{
    activation::{Activation, ActivationId, PartitionId, RetryWish},
    ports::source::Record,
    rules::Selector,
    time::Timestamp,
};

/// Decodes what the source read and composes what the outbox publishes. Pure; never panics, whatever the bytes.
pub trait ActivationCodec: Send + Sync {
    /// The activation in `record`, which was read from `partition`: where a record says nothing of an id, it is derived from
    /// its place. `now` stands in where neither the activation nor Kafka says when it was produced.
    fn decode(&self, record: &Record, partition: &PartitionId, now: Timestamp) -> Result<Activation, Undecodable>;

    /// Whether any condition of the selector holds for the arguments in these bytes. What cannot be read matches nothing.
    fn selects(&self, payload: &Bytes, selector: &Selector) -> bool;

    /// The retry of a stored activation: the same bytes but for the id, `received_at`, the delay and the retry state.
    fn retry(&self, payload: &Bytes, retry: &Retry) -> Result<Bytes, Undecodable>;
}

/// What a retry changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The derived id.
    pub id: ActivationId,
    /// The new `received_at`: when it is published.
    pub received_at: Timestamp,
    /// What the worker asked for.
    pub wish: RetryWish,
}

/// Why bytes are no activation that can be run: which field, and what is wrong with it. Holds no payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Undecodable {
    /// In words, for a header and a log line.
    pub reason: String,
}

impl Undecodable {
    /// From the reason in words.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}
