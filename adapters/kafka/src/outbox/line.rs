//! The producer on one cluster.

use std::{
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rdkafka::{
    ClientConfig, ClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, KafkaResult},
    message::{Header, OwnedHeaders},
    producer::{BaseRecord, DeliveryResult, Producer, ProducerContext},
    types::RDKafkaErrorCode,
};
use taskbroker_domain::ports::outbox::Message;
use tokio::{
    sync::oneshot::{self, error::RecvError},
    task,
    time::{error::Elapsed, sleep, timeout},
};

use super::{
    OutboxError,
    polled::PolledProducer,
    refusal::{self, Refusal},
};
use crate::{
    deadline, native,
    options::{ClusterOptions, KafkaOutboxOptions},
};

/// An idempotent producer, made anew when it failed for good.
pub(super) struct Line {
    cluster: ClusterOptions,
    config: ClientConfig,
    delivery_limit: Duration,
    send_limit: Duration,
    /// Nothing waits for room any more.
    hurried: Arc<AtomicBool>,
    /// `None` once it is closed.
    producer: Mutex<Option<Arc<ReportingProducer>>>,
}

type ReportingProducer = PolledProducer<Reports>;

/// How a message ended.
type Ending = Result<(), Undelivered>;

/// A message's end, once the producer tells it.
type Delivery = oneshot::Receiver<Ending>;

/// A message that was given up.
struct Undelivered {
    error: KafkaError,
    /// Whether a copy may be in the log.
    written: bool,
}

/// Beyond the delivery limit, for the report to come through.
const REPORT_MARGIN: Duration = Duration::from_secs(1);
/// From when on a missing acknowledgement is spoken of: no change of leader takes so long.
const SAID_AFTER: Duration = Duration::from_secs(30);
/// How soon to look for room in the producer's queue again.
const ROOM_AGAIN_AFTER: Duration = Duration::from_millis(10);

impl Line {
    pub(super) fn new(
        options: &KafkaOutboxOptions,
        cluster: &ClusterOptions,
        hurried: Arc<AtomicBool>,
    ) -> Result<Self, OutboxError> {
        let config = options.producer_config(cluster);
        let refused =
            |error: KafkaError| OutboxError::Client { address: cluster.address.clone(), reason: error.to_string() };
        let producer = producer(&config).map_err(refused)?;
        Ok(Self {
            cluster: cluster.clone(),
            config,
            delivery_limit: options.delivery_limit,
            send_limit: options.send_limit,
            hurried,
            producer: Mutex::new(Some(producer)),
        })
    }

    pub(super) fn cluster(&self) -> &ClusterOptions {
        &self.cluster
    }

    pub(super) async fn attempt(&self, topic: &str, message: &Message) -> Result<(), Refusal> {
        let delivery = self.enqueue(topic, message).await?;
        match self.report(topic, delivery).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(Undelivered { error, written }))) => Err(refusal::not_delivered(topic, &error, written)),
            Ok(Err(_)) => Err(Refusal::MayPass(format!("topic {topic}: the producer was closed meanwhile"))),
            Err(_) => Err(Refusal::MayPass(format!("topic {topic}: no answer in time"))),
        }
    }

    /// The producer's report, waited for as long as it may take. That it takes long is said.
    async fn report(&self, topic: &str, delivery: Delivery) -> Result<Result<Ending, RecvError>, Elapsed> {
        let mut report = pin!(timeout(self.delivery_limit + REPORT_MARGIN, delivery));
        if let Ok(report) = timeout(SAID_AFTER, &mut report).await {
            return report;
        }
        let cluster = &self.cluster.address;
        tracing::warn!(cluster, topic, "Kafka has not acknowledged a message yet; it is still waited for");
        report.await
    }

    /// Gives the message to the producer, waiting for room in its queue for as long as it may, unless there is a hurry.
    async fn enqueue(&self, topic: &str, message: &Message) -> Result<Delivery, Refusal> {
        let give_up_at = deadline::now() + self.send_limit;
        let may_wait = || deadline::now() < give_up_at && !self.hurried.load(Ordering::Relaxed);
        loop {
            match send(self.usable_producer()?.as_ref(), topic, message) {
                Ok(delivery) => return Ok(delivery),
                Err(error) if is_full(&error) && may_wait() => sleep(ROOM_AGAIN_AFTER).await,
                Err(error) => return Err(refusal::not_taken(topic, &error)),
            }
        }
    }

    /// The producer, or a new one if it failed for good: an idempotent producer whose sequence broke never recovers.
    fn usable_producer(&self) -> Result<Arc<ReportingProducer>, Refusal> {
        let mut slot = self.lock();
        let Some(present) = slot.as_ref() else {
            return Err(Refusal::NotSent("the outbox is closed".to_owned()));
        };
        let Some((code, reason)) = present.client().fatal_error() else {
            return Ok(Arc::clone(present));
        };
        tracing::error!(?code, reason, "the Kafka producer failed for good, making a new one");
        let new = producer(&self.config).map_err(|error| Refusal::NotSent(error.to_string()))?;
        if let Some(failed) = slot.replace(Arc::clone(&new)) {
            drop_in_background(failed);
        }
        Ok(new)
    }

    /// Sends what is still to be sent, for at most `limit`, and closes.
    pub(super) async fn close(&self, limit: Duration) {
        let Some(producer) = self.lock().take() else {
            return;
        };
        let flushed = task::spawn_blocking(move || {
            let flushed = producer.flush(limit);
            drop_in_background(producer);
            flushed
        });
        let cluster = &self.cluster.address;
        match timeout(limit + REPORT_MARGIN, flushed).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(cluster, %error, "some messages were not published before closing"),
            Ok(Err(error)) => tracing::warn!(cluster, %error, "flushing the Kafka producer failed"),
            Err(_) => tracing::warn!(cluster, "flushing the Kafka producer took too long: left to itself"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<ReportingProducer>>> {
        self.producer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(producer) = self.lock().take() {
            drop_in_background(producer);
        }
    }
}

fn send(producer: &ReportingProducer, topic: &str, message: &Message) -> KafkaResult<Delivery> {
    let (report, delivery) = oneshot::channel();
    let mut record = BaseRecord::<[u8], [u8], _>::with_opaque_to(topic, Box::new(report)).payload(&message.payload);
    if let Some(key) = &message.key {
        record = record.key(key);
    }
    if !message.headers.is_empty() {
        record = record.headers(headers(message));
    }
    producer.send(record).map(|()| delivery).map_err(|(error, _)| error)
}

fn is_full(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull)
}

fn headers(message: &Message) -> OwnedHeaders {
    let new = OwnedHeaders::new_with_capacity(message.headers.len());
    let add = |headers: OwnedHeaders, (key, value): &(String, bytes::Bytes)| {
        headers.insert(Header { key, value: Some(value.as_ref()) })
    };
    message.headers.iter().fold(new, add)
}

fn producer(config: &ClientConfig) -> KafkaResult<Arc<ReportingProducer>> {
    PolledProducer::new(config, Reports).map(Arc::new)
}

/// Dropping a producer may wait for what it can still flush.
fn drop_in_background(producer: Arc<ReportingProducer>) {
    if let Err(error) = thread::Builder::new().name("kafka-reaper".to_owned()).spawn(move || drop(producer)) {
        tracing::warn!(%error, "no thread to close a Kafka producer on");
    }
}

struct Reports;

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<oneshot::Sender<Ending>>;

    fn delivery(&self, result: &DeliveryResult<'_>, report: Self::DeliveryOpaque) {
        let ending = match result {
            Ok(_) => Ok(()),
            Err((error, message)) => {
                Err(Undelivered { error: error.clone(), written: native::may_be_written(message) })
            }
        };
        // Nobody waits for it any more: the caller has counted it as in doubt.
        report.send(ending).ok();
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        crate::context::log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // Each message's own outcome says what matters.
        tracing::debug!(%error, reason, "trouble of the Kafka producer");
    }
}
