//! What workers report.

use super::{Ledger, journal::Ticket};
use crate::{
    activation::ActivationId,
    lifecycle::{Event, Outcome, Refusal, State},
    ports::service::{Report, Reported, Unavailable, Verdict},
    time::Now,
};

/// What became of a report, and what must be durable before it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settling {
    /// The answer.
    pub reported: Reported,
    /// What it waits for.
    pub ticket: Option<Ticket>,
}

impl Ledger {
    /// Takes a report.
    pub fn settle(&mut self, report: &Report, now: Now) -> Result<Settling, Unavailable> {
        let Some(handle) = self.find(&report.id) else { return self.settle_unknown(report, now) };
        let event = match report.verdict {
            Verdict::Complete => Event::Complete,
            Verdict::Failure => Event::Failure,
            Verdict::Retry(wish) => Event::Retry(wish),
        };
        match self.apply(handle, event, now) {
            Ok(()) => Ok(Settling { reported: Reported::Settled, ticket: Some(self.mark_now(handle, now)) }),
            Err(refusal) => {
                let reported = match refusal {
                    Refusal::IsDone if self.repeats(handle, report.verdict) => Reported::Settled,
                    Refusal::IsDone | Refusal::IsPending | Refusal::IsProcessing => Reported::Refused,
                    Refusal::IsRetry | Refusal::IsFailed => Reported::Refused,
                };
                Ok(Settling { reported, ticket: self.ticket_of(handle, now) })
            }
        }
    }

    fn repeats(&self, handle: super::Handle, verdict: Verdict) -> bool {
        let done = self.entry(handle).map(|entry| &entry.state);
        matches!(done, Some(State::Done(Outcome::Completed))) && verdict == Verdict::Complete
    }

    /// A report on a task that is not here. A completion may be ahead of its task: after a restart, or a loss, what had been
    /// handed out is read again.
    fn settle_unknown(&mut self, report: &Report, now: Now) -> Result<Settling, Unavailable> {
        let unknown = Settling { reported: Reported::Unknown, ticket: None };
        if report.verdict != Verdict::Complete || self.was_finished(&report.id) || !self.is_catching_up() {
            return Ok(unknown);
        }
        self.remember(&report.id)?;
        let ticket = Some(self.commit_now(now));
        Ok(Settling { reported: Reported::Remembered, ticket })
    }

    fn remember(&mut self, id: &ActivationId) -> Result<(), Unavailable> {
        match self.memory.remember(id, self.policy.early_reports_max) {
            true => Ok(()),
            false => Err(Unavailable::new(
                "too many reports on tasks that are still to be read again after a restart; report again later",
            )),
        }
    }
}
