//! Waiting for a commit: many wait, one fsync answers them all.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use taskbroker_domain::ledger::Ticket;
use tokio::sync::oneshot;

/// Who waits for which commit.
#[derive(Default)]
pub(super) struct Durable(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    confirmed: u64,
    waiting: BTreeMap<u64, Vec<oneshot::Sender<()>>>,
    ended: bool,
}

/// No further commit will come.
#[derive(Debug)]
pub(super) struct Ended;

impl Durable {
    /// Resolves when the ticket's commit is durable.
    pub(super) async fn wait(&self, ticket: Ticket) -> Result<(), Ended> {
        let Some(waiter) = self.enlist(ticket)? else { return Ok(()) };
        waiter.await.map_err(|_| Ended)
    }

    fn enlist(&self, Ticket(number): Ticket) -> Result<Option<oneshot::Receiver<()>>, Ended> {
        let mut waiting = self.lock();
        if waiting.confirmed >= number {
            return Ok(None);
        }
        if waiting.ended {
            return Err(Ended);
        }
        let (sender, receiver) = oneshot::channel();
        waiting.waiting.entry(number).or_default().push(sender);
        Ok(Some(receiver))
    }

    /// Everything up to this number is durable.
    pub(super) fn confirm(&self, number: u64) {
        let due = {
            let mut waiting = self.lock();
            waiting.confirmed = waiting.confirmed.max(number);
            let later = waiting.waiting.split_off(&(number + 1));
            std::mem::replace(&mut waiting.waiting, later)
        };
        for waiter in due.into_values().flatten() {
            // Whoever waited may be gone: its call was cancelled.
            waiter.send(()).ok();
        }
    }

    /// No commit comes any more: whoever waits is told.
    pub(super) fn end(&self) {
        let mut waiting = self.lock();
        waiting.ended = true;
        waiting.waiting.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
