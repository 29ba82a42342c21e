//! What new rules of the operator say of what is here already.

use std::sync::Arc;

use bytes::Bytes;

use super::{Ledger, entry::Handle};
use crate::{
    activation::Route,
    lifecycle::{Event, State},
    rules::{Fate, Rules},
    time::Now,
};

/// What one step of a sweep did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Where the next step begins; none: all was looked at.
    pub next: Option<usize>,
    /// How many entries were dropped.
    pub dropped: usize,
    /// How many are on their way to another topic.
    pub forwarded: usize,
    /// Entries whose arguments decide: to be looked at, and dropped by [`Ledger::drop_entry`] where a rule holds.
    pub undecided: Vec<Handle>,
}

impl Ledger {
    /// Applies the rules to up to `count` places from `from` on; 0 begins. Dropped is whatever is not on its way out
    /// already; forwarded only what waits for a worker.
    pub fn sweep(&mut self, from: usize, count: usize, rules: &Rules, now: Now) -> Swept {
        let to = from.saturating_add(count);
        let mut swept = Swept { next: (to < self.entries.capacity()).then_some(to), ..Swept::default() };
        let found: Vec<(Handle, Fate)> = (from..to)
            .filter_map(|index| {
                let entry = self.entries.get(index)?;
                let handle = Handle { key: entry.key, index: u32::try_from(index).ok()? };
                if rules.depends_on_arguments(&entry.route) {
                    swept.undecided.push(handle);
                }
                let fate = rules.fate(&entry.route, |_| false);
                (fate != Fate::Keep).then_some((handle, fate))
            })
            .collect();
        for (handle, fate) in found {
            match fate {
                Fate::Drop => swept.dropped += usize::from(self.drop_entry(handle, now)),
                Fate::Forward => swept.forwarded += usize::from(self.forward(handle, now)),
                Fate::Keep => {}
            }
        }
        swept
    }

    /// What rules look at: the route, and the payload if it is in memory. None: the entry is gone.
    pub fn look(&self, handle: Handle) -> Option<(Arc<Route>, Option<Bytes>)> {
        self.entry(handle).map(|entry| (entry.route.clone(), entry.payload.clone()))
    }

    /// A rule drops the entry, unless it is on its way out. Returns whether it did.
    pub fn drop_entry(&mut self, handle: Handle, now: Now) -> bool {
        self.end_as(handle, Event::Drop, now)
    }

    fn forward(&mut self, handle: Handle, now: Now) -> bool {
        let waits = self.entry(handle).is_some_and(|entry| matches!(entry.state, State::Pending { .. }));
        waits && self.end_as(handle, Event::Forward, now)
    }
}
