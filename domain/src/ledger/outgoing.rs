//! What leaves through Kafka: published only when a row says so, removed only when Kafka has it.

use bytes::Bytes;

use super::{
    Ledger,
    entry::{Entry, Handle},
};
use crate::{
    activation::{ActivationId, Origin, RetryWish},
    lifecycle::{Event, State},
    ports::store::FailureCause,
    time::Now,
};

/// An entry to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Which.
    pub handle: Handle,
    /// Its id.
    pub id: ActivationId,
    /// Its payload, if it is in memory; else it is to be read back.
    pub payload: Option<Bytes>,
    /// Where it was read.
    pub origin: Option<Origin>,
    /// As what.
    pub kind: OutgoingKind,
}

/// As what an entry is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutgoingKind {
    /// As a retry with this derived id.
    Retry {
        /// The retry's id.
        id: ActivationId,
        /// What the worker asked for.
        wish: RetryWish,
    },
    /// As it is, to another topic.
    Forward,
    /// As a dead letter.
    DeadLetter {
        /// Why it failed.
        cause: FailureCause,
    },
}

impl Ledger {
    /// Takes up to `count` entries that are durably on their way out. From here on nothing else is believed about them.
    pub fn take_outgoing(&mut self, count: usize, now: Now) -> Vec<Outgoing> {
        let mut taken = Vec::new();
        while taken.len() < count {
            let Some(handle) = self.outgoing.pop_front() else { break };
            if self.is_durable(handle) && self.publication_begins(handle, now) {
                taken.extend(self.entry(handle).and_then(|entry| describe(handle, entry)));
            }
        }
        taken
    }

    /// Whether it may be sent now. That an at-most-once task may have been sent is durable before it is: it comes again with
    /// the commit that says so.
    fn publication_begins(&mut self, handle: Handle, now: Now) -> bool {
        let Some(entry) = self.entry(handle) else { return false };
        let journalled = entry.journals_beginning();
        if journalled && entry.has_begun() {
            return true;
        }
        let begins = self.apply(handle, Event::PublishBegins, now).is_ok();
        if begins && journalled {
            self.mark_now(handle, now);
        }
        begins && !journalled
    }

    /// It is durable at its destination: it leaves with the next commit.
    pub fn published(&mut self, handle: Handle, now: Now) {
        if self.apply(handle, Event::Published, now).is_ok() {
            self.mark_soon(handle, now);
        }
    }

    /// It was not published, or nobody knows; `sent`: it may have been. Returns whether it is to be sent again: an
    /// at-most-once task that may have been sent is not.
    pub fn publish_failed(&mut self, handle: Handle, sent: bool, now: Now) -> bool {
        let Some(entry) = self.entry(handle) else { return false };
        if sent && entry.journals_beginning() {
            self.give_up(handle, FailureCause::InDoubt, now);
            return false;
        }
        self.apply(handle, Event::PublishFailed, now).is_ok()
    }

    /// The broker stops, and it was certainly not sent since its beginning was journalled: the journal says so, and the next
    /// start sends it. For others than at-most-once tasks there is nothing to say: they are sent again in any case.
    pub fn publish_undone(&mut self, handle: Handle, now: Now) {
        if self.entry(handle).is_some_and(Entry::journals_beginning)
            && self.apply(handle, Event::PublishUndone, now).is_ok()
        {
            self.mark_soon(handle, now);
        }
    }

    /// The same of all that nobody took since its beginning was journalled, or is to be.
    pub(super) fn undo_untaken(&mut self, now: Now) {
        let journalling = self.journal.changed().to_vec();
        for handle in std::mem::take(&mut self.outgoing).into_iter().chain(journalling) {
            self.publish_undone(handle, now);
        }
    }

    /// Kafka refuses it for good: it is parked.
    pub fn publish_refused(&mut self, handle: Handle, reason: &str, now: Now) {
        if self.apply(handle, Event::PublishRefused(reason.into()), now).is_ok() {
            self.mark_soon(handle, now);
        }
    }

    /// From here on a row may publish the retry's id: its tombstone stays meanwhile.
    pub(super) fn publishes(&mut self, handle: Handle) {
        if let Some(entry) = self.entry_mut(handle)
            && !std::mem::replace(&mut entry.flags.retries, true)
        {
            let id = entry.id.retry(entry.terms.attempt().saturating_add(1));
            self.memory.publishes(id);
        }
    }

    pub(super) fn no_longer_publishes(&mut self, entry: &Entry, now: Now) {
        if entry.flags.retries {
            let id = entry.id.retry(entry.terms.attempt().saturating_add(1));
            self.memory.no_longer_publishes(&id);
            self.bury_again(&id, now);
        }
    }
}

fn describe(handle: Handle, entry: &Entry) -> Option<Outgoing> {
    let kind = match &entry.state {
        State::Retry { wish, .. } => {
            OutgoingKind::Retry { id: entry.id.retry(entry.terms.attempt().saturating_add(1)), wish: **wish }
        }
        State::Forward { .. } => OutgoingKind::Forward,
        State::Failed { cause, .. } => {
            OutgoingKind::DeadLetter { cause: crate::ports::store::FailureCause::clone(cause) }
        }
        State::Pending { .. } | State::Processing(_) | State::Done(_) => return None,
    };
    Some(Outgoing { handle, id: entry.id.clone(), payload: entry.payload.clone(), origin: entry.origin.get(), kind })
}
