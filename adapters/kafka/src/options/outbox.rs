//! What an outbox can be told.

use std::{collections::BTreeMap, time::Duration};

use rdkafka::ClientConfig;

use super::{
    OptionsError,
    cluster::{ClusterOptions, connection_config},
};

/// What an outbox needs to know.
#[derive(Clone, Debug)]
pub struct KafkaOutboxOptions {
    /// The cluster; often another one than the source's.
    pub cluster: ClusterOptions,
    /// Where retries go.
    pub retry_topic: String,
    /// Where dead letters go.
    pub dead_letter_topic: String,
    /// Where tasks of demoted namespaces go (`kafka_long_topic`).
    pub forward_topic: String,
    /// How long a message may take to become durable. Afterwards its outcome is unknown.
    pub delivery_limit: Duration,
    /// How long messages wait for company before they are sent.
    pub linger: Duration,
    /// `none` (the default), `gzip`, `lz4`, `snappy` or `zstd`.
    pub compression: String,
    /// How many bytes may wait to be sent.
    pub queue_bytes: usize,
    /// Further librdkafka properties, by name.
    pub properties: BTreeMap<String, String>,
}

impl KafkaOutboxOptions {
    /// Defaults for everything else.
    pub fn new(cluster: ClusterOptions, retry_topic: impl Into<String>, dead_letter_topic: impl Into<String>) -> Self {
        Self {
            cluster,
            retry_topic: retry_topic.into(),
            dead_letter_topic: dead_letter_topic.into(),
            forward_topic: "taskworker-long".to_owned(),
            delivery_limit: Duration::from_secs(10),
            linger: Duration::from_millis(2),
            compression: "none".to_owned(),
            queue_bytes: 64 << 20,
            properties: BTreeMap::new(),
        }
    }

    /// Checks what can be checked without the cluster.
    pub fn validate(&self) -> Result<(), OptionsError> {
        self.cluster.validate()?;
        for (key, topic) in [("retry_topic", &self.retry_topic), ("deadletter_topic", &self.dead_letter_topic)] {
            if topic.is_empty() || topic.contains('\0') {
                return Err(OptionsError::new(key, "must be a topic's name"));
            }
        }
        Ok(())
    }

    pub(crate) fn producer_config(&self) -> ClientConfig {
        let mut config = connection_config(&self.cluster);
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.timeout.ms", self.delivery_limit.as_millis().max(1).to_string())
            .set("linger.ms", self.linger.as_millis().to_string())
            .set("compression.type", &self.compression)
            .set("queue.buffering.max.kbytes", (self.queue_bytes / 1024).clamp(1, 2_147_483_647).to_string())
            // The cluster decides what is too large, not the client.
            .set("message.max.bytes", "1000000000")
            // A batch stays below the smallest usual limit of a topic, so that no message fails for its company's sake.
            .set("batch.size", "500000")
            // One fixed partitioner, the Java client's: copies of one key meet in one partition.
            .set("partitioner", "murmur2_random")
            .set("topic.metadata.propagation.max.ms", "2000");
        for (key, value) in &self.properties {
            config.set(key, value);
        }
        config
    }
}
