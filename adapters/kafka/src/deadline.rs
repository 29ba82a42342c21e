//! Time limits on what librdkafka does. Nothing here decides about tasks.

use std::time::Instant;

/// The present moment.
#[expect(clippy::disallowed_methods, reason = "limits how long real threads wait for a real Kafka")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
