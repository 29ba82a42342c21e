//! What an outbox can be told.

use std::{collections::BTreeMap, time::Duration};

use rdkafka::ClientConfig;

use super::{
    OptionsError,
    cluster::{ClusterOptions, connection_config},
};

/// A batch stays below the smallest usual limit of a topic, so that no message fails for its company's sake.
pub(crate) const BATCH_BYTES: usize = 500_000;

/// A topic on its cluster.
#[derive(Clone, Debug)]
pub struct Target {
    /// The topic's name.
    pub topic: String,
    /// Its cluster.
    pub cluster: ClusterOptions,
}

impl Target {
    pub(crate) fn validate(&self, key: &str) -> Result<(), OptionsError> {
        if self.topic.is_empty() || self.topic.contains('\0') {
            return Err(OptionsError::new(key, "must be a topic's name"));
        }
        self.cluster.validate()
    }
}

/// What an outbox needs to know.
#[derive(Clone, Debug)]
pub struct KafkaOutboxOptions {
    /// Where retries go.
    pub retry: Target,
    /// Where dead letters go.
    pub dead_letter: Target,
    /// Where tasks of demoted namespaces go, until [`crate::KafkaOutbox::set_forward`] says otherwise.
    pub forward: Target,
    /// How long a message may take to become durable. Afterwards its outcome is unknown.
    pub delivery_limit: Duration,
    /// How long a message waits for room among those that are to be sent.
    pub send_limit: Duration,
    /// How long messages wait for company before they are sent.
    pub linger: Duration,
    /// `none` (the default), `gzip`, `lz4`, `snappy` or `zstd`.
    pub compression: String,
    /// How many bytes may wait to be sent, for each cluster. A message that is larger is never sent.
    pub queue_bytes: usize,
    /// Larger messages are refused at once. By default only the cluster decides what is too large.
    pub message_bytes_max: u32,
    /// Further librdkafka properties, by name.
    pub properties: BTreeMap<String, String>,
}

impl KafkaOutboxOptions {
    /// Defaults for everything else. Forwarded tasks go where dead letters go, to `taskworker-long`.
    pub fn new(retry: Target, dead_letter: Target) -> Self {
        Self {
            forward: Target { topic: "taskworker-long".to_owned(), cluster: dead_letter.cluster.clone() },
            retry,
            dead_letter,
            delivery_limit: Duration::from_secs(10),
            send_limit: Duration::from_millis(500),
            linger: Duration::from_millis(2),
            compression: "none".to_owned(),
            queue_bytes: 64 << 20,
            message_bytes_max: 1_000_000_000,
            properties: BTreeMap::new(),
        }
    }

    /// The same, with all on one cluster.
    pub fn on(cluster: &ClusterOptions, retry_topic: &str, dead_letter_topic: &str) -> Self {
        let target = |topic: &str| Target { topic: topic.to_owned(), cluster: cluster.clone() };
        Self::new(target(retry_topic), target(dead_letter_topic))
    }

    /// Checks what can be checked without the clusters.
    pub fn validate(&self) -> Result<(), OptionsError> {
        self.retry.validate("retry_topic")?;
        self.dead_letter.validate("deadletter_topic")?;
        self.forward.validate("forward_topic")
    }

    pub(crate) fn producer_config(&self, cluster: &ClusterOptions) -> ClientConfig {
        let mut config = connection_config(cluster);
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.timeout.ms", self.delivery_limit.as_millis().max(1).to_string())
            .set("linger.ms", self.linger.as_millis().to_string())
            .set("compression.type", &self.compression)
            .set("queue.buffering.max.kbytes", (self.queue_bytes / 1024).clamp(1, 2_147_483_647).to_string())
            .set("message.max.bytes", self.message_bytes_max.clamp(1000, 1_000_000_000).to_string())
            .set("batch.size", BATCH_BYTES.to_string())
            // One fixed partitioner, the Java client's: copies of one key meet in one partition.
            .set("partitioner", "murmur2_random")
            .set("topic.metadata.propagation.max.ms", "2000");
        for (key, value) in &self.properties {
            config.set(key, value);
        }
        config
    }
}
