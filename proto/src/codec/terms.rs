//! From what an activation says to when it may run.

use std::time::Duration;

use taskbroker_domain::{activation::Terms, time::Timestamp};

use super::{
    RUN_LIMIT_MAX,
    envelope::{Envelope, ProtoTimestamp},
};

/// When it was produced, by its own word; `None` if it does not say so validly. Sub-milliseconds are dropped.
pub(super) fn received_at(envelope: &Envelope<'_>) -> Option<Timestamp> {
    let ProtoTimestamp { seconds, nanos } = envelope.received_at?;
    let valid = (SECONDS_MIN..=SECONDS_MAX).contains(&seconds) && (0..1_000_000_000).contains(&nanos);
    valid.then(|| Timestamp::from_millis(seconds * 1000 + i64::from(nanos / 1_000_000)))
}

/// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z: what `google.protobuf.Timestamp` may express.
const SECONDS_MIN: i64 = -62_135_596_800;
const SECONDS_MAX: i64 = 253_402_300_799;

/// Its conditions. A run limit of zero stays zero: such a task has the grace period alone, as in the existing system.
pub(super) fn terms(envelope: &Envelope<'_>, received_at: Timestamp, now: Timestamp, delay_max: Duration) -> Terms {
    let seconds_later = |s| received_at.saturating_add(Duration::from_secs(s));
    Terms {
        run_limit: Duration::from_secs(envelope.run_limit_s).min(RUN_LIMIT_MAX),
        expires_at: envelope.expires_s.map(seconds_later),
        delayed_until: delayed_until(envelope, received_at, now, delay_max),
        at_most_once: envelope.retry_state.at_most_once,
        on_failure: envelope.retry_state.on_failure,
        attempt: envelope.retry_state.attempts,
    }
}

/// Not before its delay has ended: what [`received_at`] drops of a millisecond counts as a whole one here.
fn delayed_until(envelope: &Envelope<'_>, received_at: Timestamp, now: Timestamp, max: Duration) -> Option<Timestamp> {
    let delay = Duration::from_secs(envelope.delay_s.filter(|&s| s > 0)?).min(max);
    let broken = envelope.received_at.is_some_and(|at| at.nanos % 1_000_000 != 0);
    let rest = Duration::from_millis(u64::from(broken));
    Some(received_at.saturating_add(delay + rest).min(now.saturating_add(max)))
}
