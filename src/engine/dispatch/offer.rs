//! One offer: from a claim to what is known of the task afterwards.

use std::sync::Arc;

use taskbroker_domain::{
    ledger::Claimed,
    ports::worker::{Offered, Refused, WorkerGateway},
};
use tracing::warn;

use super::meters::LaneMeters;
use crate::engine::{
    claims::{Claim, grant},
    shared::Shared,
};

/// How an offer ended, for its lane.
pub(super) enum Ended {
    /// The worker has it.
    Delivered,
    /// The worker may have it, and why nobody knows.
    Unknown(String),
    /// The worker does not have it. The claim is undone when it is dropped.
    Refused(Refused, Claim),
    /// No worker can have it; it has left.
    Undeliverable,
    /// It was not offered: the claim was void.
    Void,
    /// It was not offered: the store did not come along.
    StoreSlow,
}

/// Offers a claimed task and records what becomes of it. Dropped after the task left, it leaves the lease to run out.
pub(super) async fn offer(
    shared: &Arc<Shared>,
    gateway: &dyn WorkerGateway,
    meters: &LaneMeters,
    application: &str,
    claimed: Claimed,
) -> Ended {
    let (payload, claim) = match grant(shared, claimed).await {
        Ok(Some(granted)) => granted,
        Ok(None) => return Ended::Void,
        Err(_unavailable) => return Ended::StoreSlow,
    };
    let began = shared.clock.now().steady;
    let (handle, lease) = claim.stand();
    let offered = gateway.offer(application, payload).await;
    meters.offered(&offered, shared.clock.now().steady.since(began));
    let accepted = || shared.step(|ledger, now| ledger.accepted(handle, lease, now));
    match offered {
        Offered::Delivered => {
            accepted();
            Ended::Delivered
        }
        Offered::Unknown(reason) => {
            accepted();
            Ended::Unknown(reason)
        }
        Offered::Refused(Refused::TooLarge(reason)) => {
            warn!(application, reason, "a task cannot be given to its worker; it goes to the dead-letter topic");
            shared.step(|ledger, now| ledger.undeliverable(handle, lease, &reason, now));
            Ended::Undeliverable
        }
        Offered::Refused(refused) => Ended::Refused(refused, Claim::new(shared.clone(), handle, lease)),
    }
}
