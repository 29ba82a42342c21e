//! Workers that are given tasks instead of asking for them (push delivery).

use async_trait::async_trait;
use bytes::Bytes;

/// Gives tasks to workers.
///
/// Contract: a call is bounded in time, and ends with what is known of the task's whereabouts. [`Offered::Refused`] is
/// certain: the worker said so itself, or nothing can have reached it. Whatever leaves a doubt (a time-out, a broken
/// stream, a connection that is closed in the middle of a call, an answer that does not come from the worker) is
/// [`Offered::Unknown`]: the worker may have the task. An offer that is dropped before its end counts as unknown.
///
/// Connections are made when they are needed. A worker that is away costs its own offers time, and no other's.
#[async_trait]
pub trait WorkerGateway: Send + Sync {
    /// Offers an activation (its stored bytes) to the worker of this application.
    async fn offer(&self, application: &str, activation: Bytes) -> Offered;

    /// Whether the worker of this application would take tasks, without giving it one; the reason if not.
    async fn probe(&self, application: &str) -> Result<(), String>;
}

/// How an offer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offered {
    /// The worker has taken it.
    Delivered,
    /// The worker certainly does not have it, and why.
    Refused(Refused),
    /// The worker may have it; in words, why nobody knows.
    Unknown(String),
}

/// Why a worker certainly does not have a task. The text is for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nothing was sent: it could not be reached, or not in time.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// It is there and has no room; it will have later.
    #[error("has no room: {0}")]
    Busy(String),
    /// It answered with an error of its own.
    #[error("refuses: {0}")]
    Declined(String),
    /// This task is too large to be sent to it, and will be.
    #[error("cannot take it: {0}")]
    TooLarge(String),
}
