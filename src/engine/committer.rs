//! The one that writes: takes what is to become durable, commits it, and says so. While one commit syncs, the next fills.

use std::{sync::Arc, time::Duration};

use taskbroker_domain::{
    ledger::{CommitWanted, Ledger},
    ports::store::{Commit, StoreError},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::shared::Shared;

/// How long to wait before a commit that did not go through is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// The longest sleep; it is only a precaution, everything due earlier rings.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// Commits until it is stopped; then once more, for what was left. An error is one that does not pass.
pub(super) async fn run(shared: Arc<Shared>, stop: CancellationToken) -> Result<(), StoreError> {
    let result = commit_until(&shared, &stop).await;
    if result.is_err() {
        shared.durable.end();
    }
    result
}

async fn commit_until(shared: &Shared, stop: &CancellationToken) -> Result<(), StoreError> {
    loop {
        shared.committer.listen();
        let wanted = shared.lock().commit_wanted(shared.clock.now());
        match wanted {
            CommitWanted::Now => commit(shared, Ledger::take_commit).await?,
            CommitWanted::In(_) | CommitWanted::No if stop.is_cancelled() => return Ok(()),
            CommitWanted::In(wait) => sleep(shared, stop, wait.min(SLEEP_MAX)).await,
            CommitWanted::No => sleep(shared, stop, SLEEP_MAX).await,
        }
    }
}

async fn sleep(shared: &Shared, stop: &CancellationToken, wait: Duration) {
    tokio::select! {
        () = shared.committer.sleep(shared.clock.as_ref(), wait) => {}
        () = stop.cancelled() => {}
    }
}

/// The last commit: everything becomes a row, and the store is marked as closed. Returns whether it went through.
pub(super) async fn close(shared: &Shared) -> bool {
    let result = commit(shared, Ledger::take_closing_commit).await;
    shared.durable.end();
    match result {
        Ok(()) => true,
        Err(error) => {
            warn!(%error, "the closing commit failed");
            false
        }
    }
}

async fn commit(
    shared: &Shared,
    take: impl FnOnce(&mut Ledger, taskbroker_domain::time::Now) -> Option<Commit>,
) -> Result<(), StoreError> {
    let commit = {
        let now = shared.clock.now();
        take(&mut shared.lock(), now)
    };
    if let Some(commit) = commit {
        write(shared, &commit).await?;
        shared.step(Ledger::confirm);
    }
    shared.durable.confirm(shared.lock().confirmed());
    shared.outgoing.notify_one();
    shared.drive_sources();
    Ok(())
}

/// Brings one commit into the store: again and again while the trouble may pass, since its outcome is unknown and it is
/// idempotent.
async fn write(shared: &Shared, commit: &Commit) -> Result<(), StoreError> {
    let began = shared.clock.now().steady;
    shared.pulse.commit_began(began);
    loop {
        match shared.store.commit(commit).await {
            Ok(()) => break,
            Err(error) if error.may_pass() => {
                shared.meters.commit_retries.increment(1);
                warn!(%error, rows = commit.rows(), "not committed yet; trying again");
                tokio::time::sleep(RETRY_AFTER).await;
            }
            Err(error) => return Err(error),
        }
    }
    let took = shared.clock.now().steady.since(began);
    shared.pulse.commit_ended();
    shared.meters.committed(commit, took);
    Ok(())
}
