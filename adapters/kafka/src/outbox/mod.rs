//! Publishing retries, dead letters and forwarded tasks: an idempotent producer for each cluster, `Ok` only when the message
//! is durable on all replicas in sync.
//!
//! ```text
//!  publish ──▶ Lane (a topic) ──▶ Line (a cluster's producer) ──▶ librdkafka
//! ```
//!
//! Nothing that one lane waits for is held by another: a cluster that is away stops nothing but what goes there.

mod lane;
mod line;
mod polled;
mod refusal;

use std::{
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use taskbroker_domain::ports::outbox::{Destination, Message, Outbox, PublishError};

use self::{lane::Lane, line::Line};
use crate::options::{ClusterOptions, KafkaOutboxOptions, OptionsError, Target};

/// Publishes to the topics of retries, dead letters and forwarded tasks, each with the credentials of its cluster.
pub struct KafkaOutbox {
    options: KafkaOutboxOptions,
    /// Nothing waits for room any more.
    hurried: Arc<AtomicBool>,
    lanes: RwLock<Lanes>,
}

/// A lane for each destination; destinations on the same cluster share its producer, those of the same topic the lane.
struct Lanes {
    retry: Arc<Lane>,
    dead_letter: Arc<Lane>,
    forward: Arc<Lane>,
}

/// Why an outbox was not made.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// A setting cannot be used.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// librdkafka refuses the configuration as a whole.
    #[error("the producer on the Kafka cluster {address} cannot be made: {reason}")]
    Client {
        /// Where the cluster is.
        address: String,
        /// What librdkafka says.
        reason: String,
    },
}

impl KafkaOutbox {
    /// Makes a producer for each cluster. Kafka need not be there.
    pub fn new(options: KafkaOutboxOptions) -> Result<Self, OutboxError> {
        options.validate()?;
        let hurried = Arc::default();
        let retry = lane(&options, &hurried, &options.retry, &[])?;
        let dead_letter = lane(&options, &hurried, &options.dead_letter, &[&retry])?;
        let forward = lane(&options, &hurried, &options.forward, &[&retry, &dead_letter])?;
        Ok(Self { options, hurried, lanes: RwLock::new(Lanes { retry, dead_letter, forward }) })
    }

    /// From here on, forwarded tasks go to this topic on this cluster. What is under way to another goes on.
    pub fn set_forward(&self, topic: &str, cluster: &ClusterOptions) -> Result<(), OutboxError> {
        let target = Target { topic: topic.to_owned(), cluster: cluster.clone() };
        target.validate("demoted_topic")?;
        let mut lanes = self.write();
        let present = [&lanes.forward, &lanes.retry, &lanes.dead_letter];
        let forward = lane(&self.options, &self.hurried, &target, &present)?;
        lanes.forward = forward;
        Ok(())
    }

    /// From here on, what finds no room in a producer's queue does not wait for it: it ends at once, as not sent. For whoever
    /// stops soon, and must know that of everything that did not go.
    pub fn hurry(&self) {
        self.hurried.store(true, Ordering::Relaxed);
    }

    /// Sends what is still to be sent, for at most `limit`, and closes. Afterwards nothing is published any more.
    pub async fn close(&self, limit: Duration) {
        let lines = {
            let lanes = self.read();
            [&lanes.retry, &lanes.dead_letter, &lanes.forward].map(|lane| Arc::clone(lane.line()))
        };
        // Closing a line that another lane has closed already does nothing.
        let [retry, dead_letter, forward] = &lines;
        tokio::join!(retry.close(limit), dead_letter.close(limit), forward.close(limit));
    }

    fn lane(&self, destination: Destination) -> Arc<Lane> {
        let lanes = self.read();
        Arc::clone(match destination {
            Destination::Retry => &lanes.retry,
            Destination::DeadLetter => &lanes.dead_letter,
            Destination::Forward => &lanes.forward,
        })
    }

    fn read(&self) -> RwLockReadGuard<'_, Lanes> {
        self.lanes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Lanes> {
        self.lanes.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lane to this target: one of the present ones, or a new one on the producer that one of them has on that cluster.
fn lane(
    options: &KafkaOutboxOptions,
    hurried: &Arc<AtomicBool>,
    target: &Target,
    present: &[&Arc<Lane>],
) -> Result<Arc<Lane>, OutboxError> {
    let on_cluster = |lane: &&&Arc<Lane>| lane.line().cluster().is_same_as(&target.cluster);
    let mut there = present.iter().filter(on_cluster);
    if let Some(same) = there.clone().find(|lane| lane.topic() == target.topic) {
        return Ok(Arc::clone(same));
    }
    let line = match there.next() {
        Some(lane) => Arc::clone(lane.line()),
        None => Arc::new(Line::new(options, &target.cluster, Arc::clone(hurried))?),
    };
    Ok(Arc::new(Lane::new(line, &target.topic)))
}

impl std::fmt::Debug for KafkaOutbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaOutbox").field("options", &self.options).finish_non_exhaustive()
    }
}

#[async_trait]
impl Outbox for KafkaOutbox {
    async fn publish(&self, message: Message) -> Result<(), PublishError> {
        self.lane(message.destination).publish(&message).await
    }
}
