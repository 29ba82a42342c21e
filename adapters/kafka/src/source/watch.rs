//! Watches, from a client of its own, whether the cluster answers and what it says of the topic: one that does not exist
//! yet is waited for and named; one that was deleted and created again is noticed by its id.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult},
};

use super::KafkaSourceOptions;
use crate::native::{self, Failure, TopicSight};

/// How long the cluster may take to answer before it counts as away.
const ANSWER_WITHIN: Duration = Duration::from_millis(2500);
/// How soon to ask again while it is away or the topic is missing.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(300);

/// What the last question brought.
pub(super) type Sight = Result<TopicSight, Failure>;

/// The watching thread. Ends some time after this is dropped.
pub(super) struct Watch {
    nudge: mpsc::SyncSender<()>,
    ended: Arc<AtomicBool>,
}

impl Watch {
    /// Starts watching; `report` is called with each sight.
    pub(super) fn start(
        options: &KafkaSourceOptions,
        report: impl Fn(Sight) + Send + 'static,
    ) -> Result<Self, WatchError> {
        let client = options.connection_config().create_with_context(Quiet::default())?;
        let (nudge, nudged) = mpsc::sync_channel(1);
        let ended = Arc::new(AtomicBool::new(false));
        let watcher = Watcher {
            client,
            topic: options.topic.clone(),
            interval: options.topic_check_interval,
            nudged,
            ended: Arc::clone(&ended),
        };
        thread::Builder::new().name("kafka-watch".to_owned()).spawn(move || watcher.run(report))?;
        Ok(Self { nudge, ended })
    }

    /// Something is wrong, or may have become right: look now.
    pub(super) fn nudge(&self) {
        match self.nudge.try_send(()) {
            // A nudge that waits already is enough.
            Ok(()) | Err(mpsc::TrySendError::Full(())) => {}
            Err(mpsc::TrySendError::Disconnected(())) => tracing::debug!("the watch on Kafka has ended"),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        self.nudge();
    }
}

/// Why watching did not start.
#[derive(Debug, thiserror::Error)]
pub(super) enum WatchError {
    #[error(transparent)]
    Client(#[from] KafkaError),
    #[error(transparent)]
    Thread(#[from] std::io::Error),
}

struct Watcher {
    client: BaseConsumer<Quiet>,
    topic: String,
    interval: Duration,
    nudged: mpsc::Receiver<()>,
    ended: Arc<AtomicBool>,
}

impl Watcher {
    fn run(self, report: impl Fn(Sight)) {
        while !self.ended.load(Ordering::Acquire) {
            let sight = native::sight_topic(self.client.client(), &self.topic, ANSWER_WITHIN);
            self.serve_logs();
            let sight = self.client.context().explain(sight);
            let again_after = match sight {
                Ok(TopicSight::Present(_)) => self.interval,
                Ok(TopicSight::Missing) | Err(_) => ASK_AGAIN_AFTER.min(self.interval),
            };
            report(sight);
            if self.nudged.recv_timeout(again_after) == Err(RecvTimeoutError::Disconnected) {
                break;
            }
        }
    }

    /// Log lines and errors wait in a queue until somebody takes them.
    fn serve_logs(&self) {
        const AT_ONCE: usize = 100;
        for _ in 0..AT_ONCE {
            drop(self.client.poll(Duration::ZERO));
        }
    }
}

/// Logs at DEBUG: the group's consumer says the same. Remembers why no connection came about: a question that is not answered
/// only says that it was not.
#[derive(Default)]
struct Quiet {
    refusal: Mutex<Option<Failure>>,
}

impl Quiet {
    /// The sight, with the reason where there is one. What was remembered counts once.
    fn explain(&self, sight: Sight) -> Sight {
        let refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (sight, refusal) {
            (Err(failure), Some(refusal)) if failure.lacking_right().is_none() => Err(refusal),
            (sight, _) => sight,
        }
    }
}

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, line: &str) {
        crate::context::log(RDKafkaLogLevel::Debug, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code().filter(|code| native::is_of_the_connection(*code)) {
            let refusal = Failure::new(code, reason);
            *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
        }
    }
}

impl ConsumerContext for Quiet {
    fn commit_callback(&self, _: KafkaResult<()>, _: &rdkafka::TopicPartitionList) {}
}
