//! From a claim to a task that may leave: its payload is there, and what must be durable is.

use std::sync::Arc;

use bytes::Bytes;
use taskbroker_domain::{
    ledger::{Claimed, Handle, Ticket},
    lifecycle::Lease,
    ports::service::Unavailable,
};
use tokio::time::timeout;

use super::shared::Shared;

/// A claim that is undone when it is dropped, unless it is left to stand.
pub(super) struct Claim {
    shared: Arc<Shared>,
    handle: Handle,
    lease: Lease,
    stands: bool,
    /// The application that it has made wait.
    waits: Option<Box<str>>,
}

impl Claim {
    pub(super) fn new(shared: Arc<Shared>, handle: Handle, lease: Lease) -> Self {
        Self { shared, handle, lease, stands: false, waits: None }
    }

    /// From here on the task may be with a worker, whatever becomes of this call.
    pub(super) fn stand(mut self) -> (Handle, Lease) {
        self.stands = true;
        (self.handle, self.lease)
    }

    /// Its payload is to be read back, or it is to be journalled first.
    fn wait(&mut self) {
        if let Some(application) = self.application() {
            self.shared.pulse.claims.waits(&application, self.shared.clock.now().steady);
            self.waits = Some(application);
        }
    }

    /// Its task is handed out.
    fn go(&mut self) {
        let claims = &self.shared.pulse.claims;
        if !claims.any() {
            return;
        }
        let waited = self.waits.take();
        if let Some(application) = waited.clone().or_else(|| self.application()) {
            claims.handed_out(&application, waited.is_some(), self.shared.clock.now().steady);
        }
    }

    fn application(&self) -> Option<Box<str>> {
        self.shared.lock().look(self.handle).map(|look| look.route.application.clone())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(application) = self.waits.take() {
            self.shared.pulse.claims.gives_up(&application, self.shared.clock.now().steady);
        }
        if !self.stands {
            put_back(&self.shared, self.handle, self.lease);
        }
    }
}

/// The task did certainly not reach a worker.
pub(super) fn put_back(shared: &Shared, handle: Handle, lease: Lease) {
    shared.meters.put_back.increment(1);
    shared.step(|ledger, now| ledger.put_back(handle, lease, now));
}

/// Waits for what a claimed task needs before it may leave. `None`: the claim is void, because its payload cannot be read or
/// its lease ended meanwhile.
pub(super) async fn grant(shared: &Arc<Shared>, claimed: Claimed) -> Result<Option<(Bytes, Claim)>, Unavailable> {
    let Claimed { handle, lease, ticket, .. } = claimed;
    let mut claim = Claim::new(shared.clone(), handle, lease);
    if claimed.payload.is_none() || ticket.is_some() {
        claim.wait();
    }
    let Some(payload) = payload(shared, &claimed).await? else { return Ok(None) };
    durable(shared, ticket).await?;
    if !shared.lock().is_claimed(handle, lease) {
        return Ok(None); // The lease ended while we waited: it may be somebody else's by now.
    }
    claim.go();
    Ok(Some((payload, claim)))
}

/// Waits until a commit is durable, as long as a worker may be kept waiting.
pub(super) async fn durable(shared: &Shared, ticket: Option<Ticket>) -> Result<(), Unavailable> {
    let Some(ticket) = ticket else { return Ok(()) };
    match timeout(shared.options.store_wait, shared.durable.wait(ticket)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Unavailable::new("the broker is stopping")),
        Err(_) => Err(Unavailable::new("the store is slow; try again")),
    }
}

/// The payload of a claimed task; none: it cannot be read, and the claim is void.
async fn payload(shared: &Shared, claimed: &Claimed) -> Result<Option<Bytes>, Unavailable> {
    if claimed.payload.is_some() {
        return Ok(claimed.payload.clone());
    }
    match timeout(shared.options.store_wait, payload_read(shared, claimed)).await {
        Ok(payload) => Ok(payload),
        Err(_) => Err(Unavailable::new("the store is slow; try again")),
    }
}

async fn payload_read(shared: &Shared, claimed: &Claimed) -> Option<Bytes> {
    loop {
        let read = shared.payloads_read.notified();
        tokio::pin!(read);
        read.as_mut().enable();
        {
            let mut ledger = shared.lock();
            if let Some(payload) = ledger.payload(claimed.handle) {
                return Some(payload);
            }
            if !ledger.is_claimed(claimed.handle, claimed.lease) {
                return None;
            }
        }
        shared.payloads.notify_one();
        read.await;
    }
}
