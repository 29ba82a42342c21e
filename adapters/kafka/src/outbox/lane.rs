//! A topic that is published to.

use std::sync::{Arc, Mutex, PoisonError};

use taskbroker_domain::ports::outbox::{Message, PublishError};
use tokio::sync::RwLock;

use super::{line::Line, refusal::Refusal};
use crate::options::BATCH_BYTES;

/// A topic, and the producer that reaches it.
///
/// Nothing is refused for its company's sake: a message that was called too large is tried once more alone, since the cluster
/// judges whole batches. Only this topic waits for that.
pub(super) struct Lane {
    line: Arc<Line>,
    topic: String,
    /// Held by all while they publish, and alone by one that must travel alone.
    company: RwLock<()>,
    /// Why messages do not go out at present.
    trouble: Mutex<Option<String>>,
}

impl Lane {
    pub(super) fn new(line: Arc<Line>, topic: &str) -> Self {
        Self { line, topic: topic.to_owned(), company: RwLock::new(()), trouble: Mutex::default() }
    }

    pub(super) fn line(&self) -> &Arc<Line> {
        &self.line
    }

    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    pub(super) async fn publish(&self, message: &Message) -> Result<(), PublishError> {
        let in_company = {
            let _company = self.company.read().await;
            self.line.attempt(&self.topic, message).await
        };
        let outcome = match in_company {
            // A larger one was alone in its batch.
            Err(Refusal::TooLarge(_)) if size(message) < BATCH_BYTES => {
                let _alone = self.company.write().await;
                self.line.attempt(&self.topic, message).await
            }
            outcome => outcome,
        };
        let outcome = outcome.map_err(PublishError::from);
        self.mention(&outcome);
        outcome
    }

    /// Says once why nothing goes out, and once that something does again.
    fn mention(&self, outcome: &Result<(), PublishError>) {
        let reason = match outcome {
            Ok(()) => None,
            Err(PublishError::NotSent(reason) | PublishError::Unavailable(reason)) => Some(reason),
            Err(PublishError::Refused(_)) => return,
        };
        let before = {
            let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
            if trouble.as_ref() == reason {
                return;
            }
            std::mem::replace(&mut *trouble, reason.cloned())
        };
        let (topic, cluster) = (&self.topic, &self.line.cluster().address);
        match (reason, before) {
            (Some(reason), _) => {
                tracing::warn!(
                    topic,
                    cluster,
                    reason,
                    "publishing to the topic fails; it is tried again until it succeeds"
                );
            }
            (None, Some(_)) => tracing::info!(topic, cluster, "publishing to the topic works again"),
            (None, None) => {}
        }
    }
}

fn size(message: &Message) -> usize {
    let headers: usize = message.headers.iter().map(|(key, value)| key.len() + value.len()).sum();
    message.payload.len() + message.key.as_ref().map_or(0, bytes::Bytes::len) + headers
}
