//! What can be set, and how it becomes librdkafka's configuration.

mod cluster;
mod outbox;
mod source;
#[cfg(test)]
mod tests;

pub use self::{
    cluster::ClusterOptions,
    outbox::{KafkaOutboxOptions, Target},
    source::{GroupProtocol, KafkaSourceOptions},
};

pub(crate) use self::{cluster::connection_config, outbox::BATCH_BYTES};

/// A setting that cannot be used: which key, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {reason}")]
pub struct OptionsError {
    /// The name of the setting.
    pub key: String,
    /// What is wrong with its value.
    pub reason: String,
}

impl OptionsError {
    fn new(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { key: key.into(), reason: reason.into() }
    }
}
