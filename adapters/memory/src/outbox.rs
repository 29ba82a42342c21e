//! Keeps what was published.

use std::{collections::VecDeque, sync::Arc};

use async_trait::async_trait;
use taskbroker_domain::ports::outbox::{Message, Outbox, PublishError};
use tokio::sync::Notify;

use crate::lock::Lock;

/// What publishing one message comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// It is durable.
    #[default]
    Delivered,
    /// It did not arrive; trying again may help.
    Unavailable,
    /// It certainly did not leave; trying again may help.
    NotSent,
    /// It never will.
    Refused,
    /// It is durable, but its sender learns that it is not.
    AcknowledgementLost,
    /// It does not arrive, and its sender learns nothing.
    Hangs,
    /// The outbox has a bug.
    Panics,
}

/// An outbox whose messages can be looked at. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryOutbox {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Lock<State>,
    delivered: Notify,
}

#[derive(Debug, Default)]
struct State {
    messages: Vec<Message>,
    attempts: usize,
    next: VecDeque<Outcome>,
    usual: Outcome,
}

impl MemoryOutbox {
    /// The next message that has no plan yet comes to this.
    pub fn next(&self, outcome: Outcome) {
        self.shared.state.lock().next.push_back(outcome);
    }

    /// Messages without a plan of their own come to this from here on.
    pub fn usually(&self, outcome: Outcome) {
        self.shared.state.lock().usual = outcome;
    }

    /// What was delivered, in order; copies too.
    pub fn messages(&self) -> Vec<Message> {
        self.shared.state.lock().messages.clone()
    }

    /// Removes and returns what was delivered.
    pub fn take(&self) -> Vec<Message> {
        std::mem::take(&mut self.shared.state.lock().messages)
    }

    /// How often somebody tried to publish.
    pub fn attempts(&self) -> usize {
        self.shared.state.lock().attempts
    }

    /// Waits until at least `count` messages were delivered and not taken.
    pub async fn delivered(&self, count: usize) {
        loop {
            let changed = self.shared.delivered.notified();
            if self.shared.state.lock().messages.len() >= count {
                return;
            }
            changed.await;
        }
    }

    fn decide(&self) -> Outcome {
        let mut state = self.shared.state.lock();
        state.attempts += 1;
        state.next.pop_front().unwrap_or(state.usual)
    }

    fn deliver(&self, message: Message) {
        self.shared.state.lock().messages.push(message);
        self.shared.delivered.notify_waiters();
    }
}

#[async_trait]
impl Outbox for MemoryOutbox {
    async fn publish(&self, message: Message) -> Result<(), PublishError> {
        match self.decide() {
            Outcome::Delivered => {
                self.deliver(message);
                Ok(())
            }
            Outcome::Unavailable => Err(PublishError::Unavailable("as the test wished".into())),
            Outcome::NotSent => Err(PublishError::NotSent("as the test wished".into())),
            Outcome::Refused => Err(PublishError::Refused("as the test wished".into())),
            Outcome::AcknowledgementLost => {
                self.deliver(message);
                Err(PublishError::Unavailable("the acknowledgement was lost".into()))
            }
            Outcome::Hangs => std::future::pending().await,
            Outcome::Panics => std::panic::resume_unwind(Box::new("as the test wished")),
        }
    }
}
