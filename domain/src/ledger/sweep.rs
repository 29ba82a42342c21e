//! What new rules of the operator say of what is here already.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Ledger,
    entry::{Entry, Handle},
};
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
    /// Entries whose arguments decide: to be looked at, and treated by [`Ledger::obey`].
    pub undecided: Vec<Handle>,
}

/// What rules look at in an entry.
#[derive(Clone, Debug)]
pub struct Look {
    /// Which.
    pub handle: Handle,
    /// Who runs it, and its name.
    pub route: Arc<Route>,
    /// The length of its payload, in bytes.
    pub payload_bytes: u32,
    /// Its payload, if that is in memory; else it is to be read back.
    pub payload: Option<Bytes>,
}

impl Ledger {
    /// Applies the rules to up to `count` places from `from` on; 0 begins. Dropped is whatever is not on its way out
    /// already; forwarded is what waits for a worker, and what a worker has as soon as it waits again.
    pub fn sweep(&mut self, from: usize, count: usize, rules: &Rules, now: Now) -> Swept {
        let to = from.saturating_add(count);
        let mut swept = Swept { next: (to < self.entries.capacity()).then_some(to), ..Swept::default() };
        let found: Vec<(Handle, Fate)> = (from..to)
            .filter_map(|index| {
                let entry = self.entries.get(index)?;
                let handle = Handle { key: entry.key, index: u32::try_from(index).ok()? };
                if rules.depends_on_arguments(&entry.route) {
                    swept.undecided.push(handle);
                    return None;
                }
                Some((handle, rules.fate(&entry.route, |_| false)))
            })
            .collect();
        for (handle, fate) in found {
            let obeyed = usize::from(self.obey(handle, fate, now));
            match fate {
                Fate::Drop => swept.dropped += obeyed,
                Fate::Forward => swept.forwarded += obeyed,
                Fate::Keep => {}
            }
        }
        swept
    }

    /// Does with an entry what the rules say of it. Returns whether it leaves for that.
    pub fn obey(&mut self, handle: Handle, fate: Fate, now: Now) -> bool {
        self.demote(handle, fate == Fate::Forward);
        match fate {
            Fate::Keep => false,
            Fate::Drop => self.end_as(handle, Event::Drop, now),
            Fate::Forward => self.may_be_forwarded(handle) && self.end_as(handle, Event::Forward, now),
        }
    }

    pub(super) fn demote(&mut self, handle: Handle, demoted: bool) {
        if let Some(entry) = self.entry_mut(handle) {
            entry.flags.demoted = demoted;
        }
    }

    /// It waits, and if it is never to be handed out twice, no other broker can read it any more.
    fn may_be_forwarded(&self, handle: Handle) -> bool {
        let Some(entry) = self.entry(handle) else { return false };
        let is_ours = |origin| entry.flags.row && self.partitions.is_acknowledged(origin);
        matches!(entry.state, State::Pending { .. })
            && (!entry.terms.at_most_once() || entry.origin.get().is_none_or(is_ours))
    }

    /// What rules look at. None: the entry is gone.
    pub fn look(&self, handle: Handle) -> Option<Look> {
        let look = |entry: &Entry| Look {
            handle,
            route: entry.route.clone(),
            payload_bytes: entry.payload_bytes,
            payload: entry.payload.clone(),
        };
        self.entry(handle).map(look)
    }
}
