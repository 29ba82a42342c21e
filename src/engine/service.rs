//! What workers get and report.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use taskbroker_domain::{
    ledger::{Claimed, Handle, Settling, Ticket},
    lifecycle::Lease,
    ports::service::{Offer, Report, Reported, TaskService, Unavailable, Wanted},
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::shared::Shared;

pub(super) struct Service {
    shared: Arc<Shared>,
    closed: CancellationToken,
}

/// Undoes a claim unless it was handed on.
struct Claim {
    shared: Arc<Shared>,
    handle: Handle,
    lease: Lease,
    kept: bool,
}

impl Claim {
    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.kept {
            self.shared.pulse.claim_over();
            put_back(&self.shared, self.handle, self.lease);
        }
    }
}

fn put_back(shared: &Shared, handle: Handle, lease: Lease) {
    shared.meters.put_back.increment(1);
    shared.step(|ledger, now| ledger.put_back(handle, lease, now));
}

impl Service {
    pub(super) fn new(shared: Arc<Shared>, closed: CancellationToken) -> Self {
        Self { shared, closed }
    }

    async fn durable(&self, ticket: Option<Ticket>) -> Result<(), Unavailable> {
        let Some(ticket) = ticket else { return Ok(()) };
        match timeout(self.shared.options.store_wait, self.shared.durable.wait(ticket)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Unavailable::new("the broker is stopping")),
            Err(_) => Err(Unavailable::new("the store is slow; try again")),
        }
    }

    /// The payload of a claimed task; none: it cannot be read, and the claim is void.
    async fn payload(&self, claimed: &Claimed) -> Result<Option<Bytes>, Unavailable> {
        if claimed.payload.is_some() {
            return Ok(claimed.payload.clone());
        }
        match timeout(self.shared.options.store_wait, self.payload_read(claimed)).await {
            Ok(payload) => Ok(payload),
            Err(_) => Err(Unavailable::new("the store is slow; try again")),
        }
    }

    async fn payload_read(&self, claimed: &Claimed) -> Option<Bytes> {
        loop {
            let read = self.shared.payloads_read.notified();
            tokio::pin!(read);
            read.as_mut().enable();
            {
                let mut ledger = self.shared.lock();
                if let Some(payload) = ledger.payload(claimed.handle) {
                    return Some(payload);
                }
                if !ledger.is_claimed(claimed.handle, claimed.lease) {
                    return None;
                }
            }
            self.shared.payloads.notify_one();
            read.await;
        }
    }

    async fn answer(&self, claimed: Claimed) -> Result<Option<Offer>, Unavailable> {
        let Claimed { handle, lease, ticket, .. } = claimed;
        let claim = Claim { shared: self.shared.clone(), handle, lease, kept: false };
        if claimed.payload.is_none() || ticket.is_some() {
            self.shared.pulse.claim_waits(self.shared.clock.now().steady);
        }
        let Some(payload) = self.payload(&claimed).await? else { return Ok(None) };
        self.durable(ticket).await?;
        if !self.shared.lock().is_claimed(handle, lease) {
            return Ok(None); // The lease ended while we waited: it may be somebody else's by now.
        }
        claim.keep();
        self.shared.pulse.claim_over();
        let shared = self.shared.clone();
        Ok(Some(Offer::new(payload, move || put_back(&shared, handle, lease))))
    }
}

#[async_trait]
impl TaskService for Service {
    async fn fetch(&self, wanted: Wanted) -> Result<Option<Offer>, Unavailable> {
        loop {
            if self.closed.is_cancelled() {
                return Err(Unavailable::new("the broker is shutting down"));
            }
            let Some(claimed) = self.shared.step(|ledger, now| ledger.claim(&wanted, now)) else { return Ok(None) };
            self.shared.meters.claimed(claimed.waited);
            if let Some(offer) = self.answer(claimed).await? {
                return Ok(Some(offer));
            }
        }
    }

    async fn report(&self, report: Report) -> Result<Reported, Unavailable> {
        let Settling { reported, ticket } = self.shared.step(|ledger, now| ledger.settle(&report, now))?;
        self.shared.meters.reported(&report.verdict, reported);
        self.durable(ticket).await?;
        Ok(reported)
    }

    async fn report_all(&self, reports: Vec<Report>) -> Result<Vec<Reported>, Unavailable> {
        let settled: Vec<Result<Settling, Unavailable>> =
            self.shared.step(|ledger, now| reports.iter().map(|report| ledger.settle(report, now)).collect());
        let ticket = settled.iter().flatten().filter_map(|settling| settling.ticket).max();
        self.durable(ticket).await?;
        let mut answers = Vec::with_capacity(settled.len());
        for (report, settling) in reports.iter().zip(settled) {
            let reported = settling?.reported;
            self.shared.meters.reported(&report.verdict, reported);
            answers.push(reported);
        }
        Ok(answers)
    }
}
