//! Time limits on what librdkafka does. Nothing here decides about tasks.

use std::time::{Duration, Instant};

/// The present moment.
#[expect(clippy::disallowed_methods, reason = "limits how long real threads wait for a real Kafka")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A moment by which something is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    pub(crate) fn after(limit: Duration) -> Self {
        Self(now() + limit)
    }

    /// What is left of the time.
    pub(crate) fn left(self) -> Duration {
        self.0.saturating_duration_since(now())
    }

    /// What is left of the time, and at most `limit`.
    pub(crate) fn left_of(self, limit: Duration) -> Duration {
        self.left().min(limit)
    }
}
