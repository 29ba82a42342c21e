//! A topic's partitions, read as a member of a consumer group.
//!
//! ```text
//!  receive ◀── Inbox ◀── polling thread (Poller ─ Member ─ Partition…) ◀── librdkafka
//!  start, commit, close ──▶ commands ──▶     ▲           ▲
//!                                   Survey (threads)   Watch (thread)
//! ```
//!
//! One thread polls and decides; callbacks only note down what happened. A [`member::Member`] is one consumer in the group,
//! thrown away when its assignment is lost, so that nothing it has under way outlives the assignment. Surveys learn what
//! must be known before a partition is read. The watch tells whether Kafka answers and whether the topic is still the same.

mod commits;
mod desk;
mod happenings;
mod inbox;
mod member;
mod partition;
mod poller;
mod survey;
mod watch;

use std::{
    sync::{Arc, mpsc},
    thread,
};

use async_trait::async_trait;
use taskbroker_domain::ports::source::{ActivationSource, GroupCommit, SourceEvent, Start};
use tokio::sync::oneshot;

pub use self::desk::{SourceStatus, TopicStatus};
use self::{
    desk::{Command, Desk},
    poller::Poller,
};
use crate::{
    native::Waker,
    options::{KafkaSourceOptions, OptionsError},
};

/// Reads a topic from Kafka. Dropping it without [`ActivationSource::close`] leaves the group in the background, without
/// committing anything.
pub struct KafkaSource {
    desk: Arc<Desk>,
}

/// Why a source did not start.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A setting cannot be used.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// librdkafka refuses the configuration as a whole.
    #[error("the Kafka client cannot be made: {0}")]
    Client(String),
    /// No thread.
    #[error("the Kafka thread cannot be started: {0}")]
    Thread(#[from] std::io::Error),
}

impl KafkaSource {
    /// Starts reading in the background. Kafka need not be there: it is waited for.
    pub fn open(options: KafkaSourceOptions) -> Result<Self, SourceError> {
        options.validate()?;
        let (hand_over, handed_over) = mpsc::channel::<Poller>();
        let thread = thread::Builder::new().name("kafka-source".to_owned()).spawn(move || {
            if let Ok(poller) = handed_over.recv() {
                let _guard = poller.guard("kafka-source");
                poller.run();
            }
        })?;
        let (commands, received) = mpsc::channel();
        let desk = Arc::new(Desk::new(options, commands, Waker::of(thread.thread())));
        let poller = Poller::new(Arc::clone(&desk), received)?;
        hand_over.send(poller).map_err(|_| SourceError::Client("the Kafka thread has ended".to_owned()))?;
        Ok(Self { desk })
    }

    /// How it stands with Kafka, for metrics and health.
    pub fn status(&self) -> SourceStatus {
        self.desk.status()
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        self.desk.post(Command::Abandon);
    }
}

impl std::fmt::Debug for KafkaSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaSource").field("topic", &self.desk.topic).finish_non_exhaustive()
    }
}

#[async_trait]
impl ActivationSource for KafkaSource {
    async fn receive(&self, room: usize) -> SourceEvent {
        self.desk.inbox.next(room).await
    }

    fn start(&self, start: Start) {
        self.desk.post(Command::Start(start));
    }

    fn commit(&self, positions: Vec<GroupCommit>) {
        self.desk.post(Command::Commit(positions));
    }

    async fn close(&self, positions: Vec<GroupCommit>) {
        let (done, closed) = oneshot::channel();
        self.desk.post(Command::Close { positions, done });
        // The thread keeps to the limit by itself; the margin is for a machine that is busy.
        let limit = self.desk.options.close_limit + std::time::Duration::from_millis(500);
        if tokio::time::timeout(limit, closed).await.is_err() {
            tracing::warn!(topic = %self.desk.topic, "the Kafka consumer did not close in time: left to itself");
        }
    }
}
