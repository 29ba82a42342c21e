//! Lets time do what it does: leases, delays, expiry; and group commits that are due.

use std::{sync::Arc, time::Duration};

use taskbroker_domain::ledger::Ledger;
use tokio_util::sync::CancellationToken;

use super::shared::Shared;

/// The longest sleep: bounds what a wall clock that was set forward can delay.
const SLEEP_MAX: Duration = Duration::from_millis(500);

/// Ticks until it is stopped.
pub(super) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        shared.timekeeper.listen();
        let now = shared.clock.now();
        let wait = shared.lock().next_wake(now).map_or(SLEEP_MAX, |wait| wait.min(SLEEP_MAX));
        if !wait.is_zero() {
            tokio::select! {
                () = shared.timekeeper.sleep(shared.clock.as_ref(), wait) => {}
                () = stop.cancelled() => break,
            }
        }
        let due = shared.step(Ledger::tick);
        shared.pulse.ticked(shared.clock.now().steady);
        shared.meters.timers.increment(due as u64);
        shared.drive_sources();
        if wait.is_zero() {
            tokio::task::yield_now().await;
        }
    }
}
