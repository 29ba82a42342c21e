//! Time that passes when told to.

use std::{sync::Arc, time::Duration};

use taskbroker_domain::{
    ports::clock::Clock,
    time::{Now, Steady, Timestamp},
};

use crate::lock::Lock;

/// A clock that is moved by hand. Clones show the same time.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Lock<Now>>);

impl ManualClock {
    /// A clock that shows `now`.
    pub fn new(now: Now) -> Self {
        Self(Arc::new(Lock::new(now)))
    }

    /// Lets time pass on both clocks.
    pub fn advance(&self, by: Duration) {
        self.advance_steady(by);
        self.advance_wall(by);
    }

    /// Lets only steady time pass: the wall clock was set back meanwhile.
    pub fn advance_steady(&self, by: Duration) {
        let mut now = self.0.lock();
        now.steady = now.steady.saturating_add(by);
    }

    /// Sets the wall clock forward.
    pub fn advance_wall(&self, by: Duration) {
        let mut now = self.0.lock();
        now.wall = now.wall.saturating_add(by);
    }

    /// Sets the wall clock, back or forth.
    pub fn set_wall(&self, wall: Timestamp) {
        self.0.lock().wall = wall;
    }
}

/// Some moment in 2026, after a minute of steady time.
impl Default for ManualClock {
    fn default() -> Self {
        Self::new(Now { wall: Timestamp::from_millis(1_780_000_000_000), steady: Steady::from_millis(60_000) })
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        *self.0.lock()
    }
}
