//! What the broker offers to workers; driven by the gRPC adapter, implemented by the engine.

use async_trait::async_trait;
use bytes::Bytes;

use crate::activation::{ActivationId, RetryWish};

/// Hands tasks out and takes reports.
#[async_trait]
pub trait TaskService: Send + Sync {
    /// Claims the oldest task that fits. `None`: there is nothing to do.
    async fn fetch(&self, wanted: Wanted) -> Result<Option<Offer>, Unavailable>;

    /// Takes a worker's report. Answers when what it says, or what refuses it, is durable.
    async fn report(&self, report: Report) -> Result<Reported, Unavailable>;

    /// Takes several reports, in order, with one wait for all.
    async fn report_all(&self, reports: Vec<Report>) -> Result<Vec<Reported>, Unavailable>;
}

/// Which tasks a worker asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Any task of any application.
    Any,
    /// Any task of this application.
    Application(String),
    /// Tasks of this namespace of this application.
    Namespace {
        /// The application.
        application: String,
        /// The namespace.
        namespace: String,
    },
}

/// A claimed task on its way to a worker. Dropped before [`Offer::sent`], it puts the task back at once: a call that was
/// cancelled between claim and answer costs nothing.
pub struct Offer {
    activation: Bytes,
    put_back: Option<Box<dyn FnOnce() + Send>>,
}

impl Offer {
    /// An offer of these activation bytes; `put_back` undoes the claim.
    pub fn new(activation: Bytes, put_back: impl FnOnce() + Send + 'static) -> Self {
        Self { activation, put_back: Some(Box::new(put_back)) }
    }

    /// The bytes of the activation, for a look; it is not sent by that.
    pub fn activation(&self) -> &Bytes {
        &self.activation
    }

    /// The same offer, which also does this when it puts the task back, before somebody else can have it.
    #[must_use]
    pub fn and_when_put_back(mut self, also: impl FnOnce() + Send + 'static) -> Self {
        if let Some(put_back) = self.put_back.take() {
            self.put_back = Some(Box::new(move || {
                also();
                put_back();
            }));
        }
        self
    }

    /// The bytes of the activation, which are now on their way: the claim stands.
    pub fn sent(mut self) -> Bytes {
        self.put_back = None;
        std::mem::take(&mut self.activation)
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        if let Some(put_back) = self.put_back.take() {
            put_back();
        }
    }
}

impl std::fmt::Debug for Offer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Offer").field("bytes", &self.activation.len()).finish_non_exhaustive()
    }
}

/// What a worker says of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The task.
    pub id: ActivationId,
    /// How it ended.
    pub verdict: Verdict,
}

/// How an execution ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The work is done.
    Complete,
    /// It failed for good.
    Failure,
    /// It is to be tried again.
    Retry(RetryWish),
}

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reported {
    /// It settled the task, durably; or it repeats the report that did.
    Settled,
    /// It is remembered for a task that is still to be read again after a restart.
    Remembered,
    /// The task is not here.
    Unknown,
    /// The task's state does not admit it (late or repeated). Existing clients are answered OK all the same.
    Refused,
}

/// The broker cannot do it now; trying again helps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Unavailable {
    /// In words, for the client.
    pub reason: String,
}

impl Unavailable {
    /// From the reason in words.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}
