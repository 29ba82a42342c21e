//! What is to happen at some moment. A timer is a reminder, not a decision: when it goes off, the ledger looks at the entry.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use super::{
    Ledger,
    entry::{Entry, Handle, When},
};
use crate::{
    lifecycle::State,
    time::{Now, Steady, Timestamp},
};

/// Two heaps, one for each clock. Timers that lost their purpose stay until they are due, and are then ignored; when they
/// are many they are thrown out before.
#[derive(Debug, Default)]
pub(super) struct Timers {
    wall: BinaryHeap<Reverse<(Timestamp, Handle)>>,
    steady: BinaryHeap<Reverse<(Steady, Handle)>>,
}

/// An entry has three timers with a purpose at most: its expiry, its delay or lease, and its hold. More than this many for
/// each, and others, are too many.
const TIMERS_PER_ENTRY: usize = 4;
/// As many may lie around in any case.
const IDLE_TIMERS_MAX: usize = 8192;

impl Timers {
    fn set(&mut self, when: When, handle: Handle) {
        match when {
            When::Wall(at) => self.wall.push(Reverse((at, handle))),
            When::Steady(at) => self.steady.push(Reverse((at, handle))),
        }
    }

    fn len(&self) -> usize {
        self.wall.len() + self.steady.len()
    }

    fn retain(&mut self, has_purpose: impl Fn(When, Handle) -> bool) {
        self.wall.retain(|Reverse((at, handle))| has_purpose(When::Wall(*at), *handle));
        self.steady.retain(|Reverse((at, handle))| has_purpose(When::Steady(*at), *handle));
    }

    /// The next entry that is due.
    pub(super) fn pop_due(&mut self, now: Now) -> Option<Handle> {
        if self.steady.peek().is_some_and(|Reverse((at, _))| *at <= now.steady) {
            return self.steady.pop().map(|Reverse((_, handle))| handle);
        }
        if self.wall.peek().is_some_and(|Reverse((at, _))| *at <= now.wall) {
            return self.wall.pop().map(|Reverse((_, handle))| handle);
        }
        None
    }

    /// How long until the next one is due.
    pub(super) fn next(&self, now: Now) -> Option<Duration> {
        let steady = self.steady.peek().map(|Reverse((at, _))| at.since(now.steady));
        let wall = self.wall.peek().map(|Reverse((at, _))| at.since(now.wall));
        steady.into_iter().chain(wall).min()
    }
}

impl Ledger {
    /// Has the entry looked at then. Tasks that come and go leave timers behind (a lease of an hour, an expiry of a day):
    /// when those are the most, they go, so that what timers take depends on what is in flight.
    pub(super) fn remind(&mut self, when: When, handle: Handle) {
        self.timers.set(when, handle);
        if self.timers.len() > IDLE_TIMERS_MAX + TIMERS_PER_ENTRY * self.entries.len() {
            let entries = &self.entries;
            let entry = |handle: Handle| entries.get(handle.index as usize).filter(|entry| entry.key == handle.key);
            self.timers.retain(|when, handle| entry(handle).is_some_and(|entry| has_purpose(entry, when)));
        }
    }

    pub(super) fn remind_of_expiry(&mut self, handle: Handle) {
        if let Some(expires_at) = self.entry(handle).and_then(|entry| entry.terms.expires_at) {
            self.remind(When::Wall(expires_at), handle);
        }
    }
}

fn has_purpose(entry: &Entry, when: When) -> bool {
    match (&entry.state, when) {
        (State::Pending { ready_at }, When::Wall(at)) => entry.terms.expires_at == Some(at) || *ready_at == at,
        (State::Pending { .. }, When::Steady(_)) => entry.flags.held,
        (State::Processing(lease), When::Steady(at)) => lease.ends == at,
        (State::Processing(_), When::Wall(at)) => entry.terms.expires_at == Some(at),
        (State::Retry { .. } | State::Failed { .. } | State::Done(_), _) => false,
    }
}
