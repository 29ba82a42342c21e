//! What workers get and report.

use std::sync::Arc;

use async_trait::async_trait;
use taskbroker_domain::{
    ledger::{Claimed, Settling},
    ports::service::{Offer, Report, Reported, TaskService, Unavailable, Wanted},
};
use tokio_util::sync::CancellationToken;

use super::{
    claims::{durable, grant, put_back},
    shared::Shared,
};

pub(super) struct Service {
    shared: Arc<Shared>,
    closed: CancellationToken,
}

impl Service {
    pub(super) fn new(shared: Arc<Shared>, closed: CancellationToken) -> Self {
        Self { shared, closed }
    }

    async fn answer(&self, claimed: Claimed) -> Result<Option<Offer>, Unavailable> {
        let Some((payload, claim)) = grant(&self.shared, claimed).await? else { return Ok(None) };
        let (handle, lease) = claim.stand();
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
        durable(&self.shared, ticket).await?;
        Ok(reported)
    }

    async fn report_all(&self, reports: Vec<Report>) -> Result<Vec<Reported>, Unavailable> {
        let settled: Vec<Result<Settling, Unavailable>> =
            self.shared.step(|ledger, now| reports.iter().map(|report| ledger.settle(report, now)).collect());
        let ticket = settled.iter().flatten().filter_map(|settling| settling.ticket).max();
        durable(&self.shared, ticket).await?;
        let mut answers = Vec::with_capacity(settled.len());
        for (report, settling) in reports.iter().zip(settled) {
            let reported = settling?.reported;
            self.shared.meters.reported(&report.verdict, reported);
            answers.push(reported);
        }
        Ok(answers)
    }
}
