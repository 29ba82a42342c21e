//! What workers report.

use super::{Ledger, entry::Entry, is_pending, journal::Ticket};
use crate::{
    lifecycle::{Event, Outcome, Refusal, State},
    ports::{
        service::{Report, Reported, Unavailable, Verdict},
        store::EarlyReport,
    },
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
        // Nobody in this life had it: whoever reports on it had it in the one before, and is heard as if it came first.
        let heard = self.entry(handle).is_some_and(|entry| entry.flags.earlier && is_pending(entry));
        let event = match report.verdict {
            Verdict::Failure | Verdict::Retry(_) if heard => Event::Remembered(report.verdict),
            Verdict::Complete => Event::Complete,
            Verdict::Failure => Event::Failure,
            Verdict::Retry(wish) => Event::Retry(wish),
        };
        match self.apply(handle, event, now) {
            Ok(()) => Ok(Settling { reported: Reported::Settled, ticket: Some(self.mark_now(handle, now)) }),
            Err(_)
                if report.verdict == Verdict::Complete && self.entry(handle).is_some_and(Entry::may_be_forwarded) =>
            {
                self.remember(report, true, now)
            }
            Err(refusal) => {
                let reported = match refusal {
                    Refusal::IsDone if self.repeats(handle, report.verdict) => Reported::Settled,
                    Refusal::IsDone | Refusal::IsPending | Refusal::IsProcessing => Reported::Refused,
                    Refusal::IsRetry | Refusal::IsForward | Refusal::IsFailed => Reported::Refused,
                };
                Ok(Settling { reported, ticket: self.ticket_of(handle, now) })
            }
        }
    }

    fn repeats(&self, handle: super::Handle, verdict: Verdict) -> bool {
        let done = self.entry(handle).map(|entry| &entry.state);
        matches!(done, Some(State::Done(Outcome::Completed))) && verdict == Verdict::Complete
    }

    /// A report on a task that is not here. It may be ahead of its task: after a restart, or a loss, what had been handed out
    /// is read again. And the copy of a task that was forwarded may come here.
    fn settle_unknown(&mut self, report: &Report, now: Now) -> Result<Settling, Unavailable> {
        if report.verdict == Verdict::Complete && self.memory.was_forwarded(&report.id) {
            return self.remember(report, true, now);
        }
        if self.was_finished(&report.id) || !self.is_catching_up() {
            return Ok(Settling { reported: Reported::Unknown, ticket: None });
        }
        self.remember(report, false, now)
    }

    fn remember(&mut self, report: &Report, of_copy: bool, now: Now) -> Result<Settling, Unavailable> {
        let early = EarlyReport { id: report.id.clone(), verdict: report.verdict, of_copy };
        match self.memory.remember(early, self.policy.early_reports_max) {
            true => Ok(Settling { reported: Reported::Remembered, ticket: Some(self.commit_now(now)) }),
            false => Err(Unavailable::new(
                "too many reports on tasks that are still to be read again after a restart; report again later",
            )),
        }
    }
}
