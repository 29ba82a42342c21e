//! The activation source and the outbox on Kafka, through librdkafka.
//!
//! - [`KafkaSource`] reads a topic as a member of a consumer group. One thread polls; nothing blocks in a callback.
//! - [`KafkaOutbox`] publishes retries, dead letters and forwarded tasks with an idempotent producer for each cluster.
//! - [`probe`] dials a cluster and says what it found.
//! - [`TopicMaker`] creates topics that do not exist yet.
//! - [`embedded`] starts a Kafka-protocol broker in the process, for trying things out.
//!
//! GSSAPI (Kerberos) and OAUTHBEARER are not built in; asking for them is an error that names the key.

mod context;
mod deadline;
pub mod embedded;
mod native;
pub mod options;
mod outbox;
mod probe;
mod source;
mod topics;

pub use options::{ClusterOptions, GroupProtocol, KafkaOutboxOptions, KafkaSourceOptions, OptionsError, Target};
pub use outbox::{KafkaOutbox, OutboxError};
pub use probe::{Finding, ProbedTopic, probe};
pub use source::{KafkaSource, SourceError, SourceStatus, TopicStatus};
pub use topics::{TopicMaker, TopicMakerError, TopicShape};
