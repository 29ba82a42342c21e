//! Making the store fail.

use std::{collections::VecDeque, sync::Arc};

use taskbroker_domain::ports::store::StoreError;
use tokio::sync::oneshot;

use crate::lock::Lock;

/// What one commit does instead of succeeding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Whether its changes become durable all the same.
    pub applied: bool,
    /// What the caller learns.
    pub answer: Answer,
}

/// What the caller of a faulty call learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// [`StoreError::Busy`]: try again.
    Busy,
    /// [`StoreError::Full`]: try again.
    Full,
    /// [`StoreError::Failed`]: stop.
    Failed,
    /// [`StoreError::Corrupt`]: stop.
    Corrupt,
    /// Nothing, ever.
    Never,
}

impl Fault {
    /// The commit is refused; nothing changes.
    pub fn refused(answer: Answer) -> Self {
        Self { applied: false, answer }
    }

    /// The commit becomes durable, but its caller is told otherwise, or nothing.
    pub fn answer_lost(answer: Answer) -> Self {
        Self { applied: true, answer }
    }
}

impl Answer {
    pub(crate) async fn give(self) -> StoreError {
        let reason = "as the test wished".to_owned();
        match self {
            Self::Busy => StoreError::Busy(reason),
            Self::Full => StoreError::Full(reason),
            Self::Failed => StoreError::Failed(reason),
            Self::Corrupt => StoreError::Corrupt(reason),
            Self::Never => std::future::pending().await,
        }
    }
}

/// Plans what the next calls to a store do. Clones plan for the same store.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Lock<Plan>>);

#[derive(Debug, Default)]
struct Plan {
    commits: VecDeque<Step>,
    reads: VecDeque<Answer>,
}

#[derive(Debug)]
pub(crate) enum Step {
    Fail(Fault),
    Hold(Gate),
}

#[derive(Debug)]
pub(crate) struct Gate {
    applied: bool,
    reached: oneshot::Sender<()>,
    released: oneshot::Receiver<()>,
}

/// A commit that waits, half-way, until it is released. Dropping this releases it too.
#[derive(Debug)]
pub struct Held {
    reached: oneshot::Receiver<()>,
    release: oneshot::Sender<()>,
}

impl Held {
    /// Waits until the commit has come to its waiting point.
    pub async fn reached(&mut self) {
        // The sender is gone only when the commit was given up: then there is nothing to wait for.
        let _gone = (&mut self.reached).await;
    }

    /// Lets it go on.
    pub fn release(self) {
        // Nobody listens when the commit was given up.
        let _gone = self.release.send(());
    }
}

impl Faults {
    /// The next commit that has no plan yet goes wrong in this way.
    pub fn next_commit(&self, fault: Fault) {
        self.0.lock().commits.push_back(Step::Fail(fault));
    }

    /// The next commit that has no plan yet waits before it changes anything.
    pub fn hold_next_commit(&self) -> Held {
        self.hold(false)
    }

    /// The next commit that has no plan yet becomes durable, and waits before its caller learns of it.
    pub fn hold_next_answer(&self) -> Held {
        self.hold(true)
    }

    /// The next read that has no plan yet goes wrong in this way.
    pub fn next_read(&self, answer: Answer) {
        self.0.lock().reads.push_back(answer);
    }

    /// Everything goes well from here on.
    pub fn clear(&self) {
        *self.0.lock() = Plan::default();
    }

    fn hold(&self, applied: bool) -> Held {
        let (reached, on_reached) = oneshot::channel();
        let (release, on_release) = oneshot::channel();
        self.0.lock().commits.push_back(Step::Hold(Gate { applied, reached, released: on_release }));
        Held { reached: on_reached, release }
    }

    pub(crate) fn take_commit(&self) -> Option<Step> {
        self.0.lock().commits.pop_front()
    }

    pub(crate) fn take_read(&self) -> Option<Answer> {
        self.0.lock().reads.pop_front()
    }
}

impl Gate {
    /// Whether the changes come before the wait.
    pub(crate) fn applies_first(&self) -> bool {
        self.applied
    }

    pub(crate) async fn pass(self) {
        // Both fail only when the test dropped its end, which means "go on".
        let _gone = self.reached.send(());
        let _gone = self.released.await;
    }
}
