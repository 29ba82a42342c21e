//! What time does.

use super::{Ledger, entry::Handle};
use crate::{
    lifecycle::{Event, State},
    time::Now,
};

impl Ledger {
    /// Does everything that is due: leases end, delays are over, activations expire. Returns how many timers went off.
    pub fn tick(&mut self, now: Now) -> usize {
        let mut due = 0;
        while let Some(handle) = self.timers.pop_due(now) {
            self.review(handle, now);
            due += 1;
        }
        self.tick_partitions(now);
        self.review_demand(now);
        due
    }

    /// A timer went off for this entry: does what is due for the state it is in by now.
    fn review(&mut self, handle: Handle, now: Now) {
        let Some(entry) = self.entry(handle) else { return };
        let expired = entry.is_expired(now.wall);
        match &entry.state {
            State::Pending { .. } if expired => self.expire(handle, now),
            State::Pending { ready_at } if entry.flags.delayed && *ready_at <= now.wall => self.release(handle, now),
            State::Pending { .. } if entry.flags.delayed => {}
            State::Pending { .. } => self.release_held(handle, now),
            State::Processing(lease) if lease.ends <= now.steady => self.lease_ended(handle, now),
            State::Processing(_) | State::Done(_) => {}
            State::Retry { .. } | State::Forward { .. } | State::Failed { .. } => {}
        }
    }

    fn release(&mut self, handle: Handle, now: Now) {
        if let Some(entry) = self.entries.get_mut(handle.index as usize) {
            self.depths.leave(entry);
            entry.flags.delayed = false;
            self.depths.enter(entry);
        }
        self.place(handle, now);
    }

    fn release_held(&mut self, handle: Handle, now: Now) {
        let hold_until = self.hold_until;
        let Some(entry) = self.entry_mut(handle) else { return };
        if now.steady >= hold_until && std::mem::take(&mut entry.flags.held) {
            self.place(handle, now);
        }
    }

    fn lease_ended(&mut self, handle: Handle, now: Now) {
        if self.apply(handle, Event::LeaseEnd, now).is_ok() {
            self.journal.lost_leases += 1;
            self.mark_soon(handle, now);
        }
    }
}
