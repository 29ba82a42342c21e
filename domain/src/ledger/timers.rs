//! What is to happen at some moment. A timer is a reminder, not a decision: when it goes off, the ledger looks at the entry.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use super::entry::{Handle, When};
use crate::time::Now;

/// Two heaps, one for each clock. Timers that lost their purpose stay until they are due, and are then ignored.
#[derive(Debug, Default)]
pub(super) struct Timers {
    wall: BinaryHeap<Reverse<(i64, Handle)>>,
    steady: BinaryHeap<Reverse<(u64, Handle)>>,
}

impl Timers {
    pub(super) fn set(&mut self, when: When, handle: Handle) {
        match when {
            When::Wall(at) => self.wall.push(Reverse((at.as_millis(), handle))),
            When::Steady(at) => self.steady.push(Reverse((at.as_millis(), handle))),
        }
    }

    /// The next entry that is due.
    pub(super) fn pop_due(&mut self, now: Now) -> Option<Handle> {
        if let Some(Reverse((at, handle))) = self.steady.peek()
            && *at <= now.steady.as_millis()
        {
            let handle = *handle;
            self.steady.pop();
            return Some(handle);
        }
        if let Some(Reverse((at, handle))) = self.wall.peek()
            && *at <= now.wall.as_millis()
        {
            let handle = *handle;
            self.wall.pop();
            return Some(handle);
        }
        None
    }

    /// How long until the next one is due.
    pub(super) fn next(&self, now: Now) -> Option<Duration> {
        let until = |ms: u64| Duration::from_millis(ms);
        let steady = self.steady.peek().map(|Reverse((at, _))| until(at.saturating_sub(now.steady.as_millis())));
        let wall = self
            .wall
            .peek()
            .map(|Reverse((at, _))| until(u64::try_from(at.saturating_sub(now.wall.as_millis())).unwrap_or(0)));
        steady.into_iter().chain(wall).min()
    }
}
