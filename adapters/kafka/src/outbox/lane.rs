//! A topic that is published to.

use std::sync::Arc;

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
}

impl Lane {
    pub(super) fn new(line: Arc<Line>, topic: &str) -> Self {
        Self { line, topic: topic.to_owned(), company: RwLock::new(()) }
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
        outcome.map_err(PublishError::from)
    }
}

fn size(message: &Message) -> usize {
    let headers: usize = message.headers.iter().map(|(key, value)| key.len() + value.len()).sum();
    message.payload.len() + message.key.as_ref().map_or(0, bytes::Bytes::len) + headers
}
