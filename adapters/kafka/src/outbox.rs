//! Publishing retries and dead letters: an idempotent producer, `Ok` only when the message is durable on all replicas in sync.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use async_trait::async_trait;
use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    error::KafkaError,
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord, Producer},
    types::RDKafkaErrorCode,
};
use taskbroker_domain::ports::outbox::{Destination, Message, Outbox, PublishError};
use tokio::{sync::RwLock, task, time::timeout};

use crate::options::{KafkaOutboxOptions, OptionsError};

/// Publishes to the retry and dead-letter topics.
///
/// Nothing is refused for its company's sake: a message that was called too large is tried once more alone, since the cluster
/// judges whole batches.
pub struct KafkaOutbox {
    options: KafkaOutboxOptions,
    /// `None` once it is closed.
    producer: Mutex<Option<Arc<LoggingProducer>>>,
    /// Held by all while they publish, and alone by one that must travel alone.
    company: RwLock<()>,
}

type LoggingProducer = FutureProducer<Logging>;

/// Beyond the delivery limit, for the report to come through.
const REPORT_MARGIN: Duration = Duration::from_secs(1);

/// Why an outbox was not made.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// A setting cannot be used.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// librdkafka refuses the configuration as a whole.
    #[error("the Kafka producer cannot be made: {0}")]
    Client(String),
}

impl KafkaOutbox {
    /// Makes the producer. Kafka need not be there.
    pub fn new(options: KafkaOutboxOptions) -> Result<Self, OutboxError> {
        options.validate()?;
        let producer = producer(&options).map_err(|error| OutboxError::Client(error.to_string()))?;
        Ok(Self { options, producer: Mutex::new(Some(producer)), company: RwLock::new(()) })
    }

    /// Sends what is still to be sent, for at most `limit`, and closes. Afterwards nothing is published any more.
    pub async fn close(&self, limit: Duration) {
        let Some(producer) = self.lock().take() else {
            return;
        };
        let flushed = task::spawn_blocking(move || {
            let flushed = producer.flush(limit);
            drop_in_background(producer);
            flushed
        });
        match timeout(limit + REPORT_MARGIN, flushed).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "some messages were not published before closing"),
            Ok(Err(error)) => tracing::warn!(%error, "flushing the Kafka producer failed"),
            Err(_) => tracing::warn!("flushing the Kafka producer took too long: left to itself"),
        }
    }

    fn topic(&self, destination: Destination) -> &str {
        match destination {
            Destination::Retry => &self.options.retry_topic,
            Destination::DeadLetter => &self.options.dead_letter_topic,
            Destination::Forward => &self.options.forward_topic,
        }
    }

    async fn attempt(&self, message: &Message) -> Result<(), Refusal> {
        let producer = self.usable_producer()?;
        let topic = self.topic(message.destination);
        let mut record = FutureRecord::<[u8], [u8]>::to(topic).payload(&message.payload);
        if let Some(key) = &message.key {
            record = record.key(key);
        }
        if !message.headers.is_empty() {
            record = record.headers(headers(message));
        }
        let delivery = producer.send_result(record).map_err(|(error, _)| refusal(topic, &error))?;
        match timeout(self.options.delivery_limit + REPORT_MARGIN, delivery).await {
            Ok(Ok(Ok(_))) => Ok(()),
            Ok(Ok(Err((error, _)))) => Err(refusal(topic, &error)),
            Ok(Err(_)) => Err(Refusal::MayPass(format!("topic {topic}: the producer was closed meanwhile"))),
            Err(_) => Err(Refusal::MayPass(format!("topic {topic}: no answer in time"))),
        }
    }

    /// The producer, or a new one if it failed for good: an idempotent producer whose sequence broke never recovers.
    fn usable_producer(&self) -> Result<Arc<LoggingProducer>, Refusal> {
        let mut slot = self.lock();
        let Some(present) = slot.as_ref() else {
            return Err(Refusal::MayPass("the outbox is closed".to_owned()));
        };
        let Some((code, reason)) = present.client().fatal_error() else {
            return Ok(Arc::clone(present));
        };
        tracing::error!(?code, reason, "the Kafka producer failed for good, making a new one");
        let new = producer(&self.options).map_err(|error| Refusal::MayPass(error.to_string()))?;
        if let Some(failed) = slot.replace(Arc::clone(&new)) {
            drop_in_background(failed);
        }
        Ok(new)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<LoggingProducer>>> {
        self.producer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for KafkaOutbox {
    fn drop(&mut self) {
        if let Some(producer) = self.lock().take() {
            drop_in_background(producer);
        }
    }
}

impl std::fmt::Debug for KafkaOutbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaOutbox").field("options", &self.options).finish_non_exhaustive()
    }
}

#[async_trait]
impl Outbox for KafkaOutbox {
    async fn publish(&self, message: Message) -> Result<(), PublishError> {
        let in_company = {
            let _company = self.company.read().await;
            self.attempt(&message).await
        };
        let outcome = match in_company {
            Err(Refusal::TooLarge(_)) => {
                let _alone = self.company.write().await;
                self.attempt(&message).await
            }
            outcome => outcome,
        };
        outcome.map_err(PublishError::from)
    }
}

/// Why a message did not go out.
enum Refusal {
    /// The cluster calls its batch too large.
    TooLarge(String),
    /// The cluster refuses the message itself.
    ForGood(String),
    /// Anything else.
    MayPass(String),
}

impl From<Refusal> for PublishError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::TooLarge(reason) | Refusal::ForGood(reason) => Self::Refused(reason),
            Refusal::MayPass(reason) => Self::Unavailable(reason),
        }
    }
}

fn refusal(topic: &str, error: &KafkaError) -> Refusal {
    use RDKafkaErrorCode as Code;
    let reason = format!("topic {topic}: {error}");
    match error.rdkafka_error_code() {
        Some(Code::MessageSizeTooLarge) => Refusal::TooLarge(reason),
        Some(Code::InvalidMessage | Code::InvalidMessageSize | Code::InvalidRecord | Code::InvalidTimestamp) => {
            Refusal::ForGood(reason)
        }
        _ => Refusal::MayPass(reason),
    }
}

fn headers(message: &Message) -> OwnedHeaders {
    let new = OwnedHeaders::new_with_capacity(message.headers.len());
    let add = |headers: OwnedHeaders, (key, value): &(String, bytes::Bytes)| {
        headers.insert(Header { key, value: Some(value.as_ref()) })
    };
    message.headers.iter().fold(new, add)
}

fn producer(options: &KafkaOutboxOptions) -> Result<Arc<LoggingProducer>, KafkaError> {
    options.producer_config().create_with_context(Logging).map(Arc::new)
}

/// Dropping a producer waits for its thread and what it can still flush.
fn drop_in_background(producer: Arc<LoggingProducer>) {
    if let Err(error) = thread::Builder::new().name("kafka-reaper".to_owned()).spawn(move || drop(producer)) {
        tracing::warn!(%error, "no thread to close a Kafka producer on");
    }
}

struct Logging;

impl ClientContext for Logging {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        crate::context::log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // Each message's own outcome says what matters.
        tracing::debug!(%error, reason, "trouble of the Kafka producer");
    }
}
