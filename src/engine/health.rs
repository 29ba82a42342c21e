//! Health means progress: not "the process answers" but "work that could move has moved".

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use taskbroker_domain::{ledger::Unserved, time::Steady};

use super::shared::Shared;

/// Whether the broker makes progress.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// What stands still; empty: healthy.
    pub troubles: Vec<Trouble>,
    /// What waits and nobody asks for. Nothing that the broker could mend: it is alive, but not ready. Where workers are
    /// called, one that does not answer is told of otherwise, and the others still report here.
    pub unserved: Vec<Unserved>,
}

/// Something that stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// A commit is stuck.
    #[error("a commit has been under way for {0:?}")]
    CommitStuck(Duration),
    /// Timers are not served.
    #[error("timers are {0:?} late")]
    TimersLate(Duration),
    /// Work is ready, workers ask, and nothing is handed out.
    #[error("work is ready and workers ask, but nothing was handed out for {0:?}")]
    NothingHandedOut(Duration),
}

impl Health {
    /// Nothing stands still.
    pub fn is_good(&self) -> bool {
        self.troubles.is_empty()
    }
}

/// Signs of life, in steady milliseconds; 0 stands for "not the case".
pub(super) struct Pulse {
    commit_began: AtomicU64,
    ticked: AtomicU64,
    claim_waits: AtomicU64,
}

impl Pulse {
    pub(super) fn new(now: Steady) -> Self {
        Self {
            commit_began: AtomicU64::new(0),
            ticked: AtomicU64::new(now.as_millis().max(1)),
            claim_waits: AtomicU64::new(0),
        }
    }

    pub(super) fn commit_began(&self, now: Steady) {
        self.commit_began.store(now.as_millis().max(1), Ordering::Relaxed);
    }

    pub(super) fn commit_ended(&self) {
        self.commit_began.store(0, Ordering::Relaxed);
    }

    pub(super) fn ticked(&self, now: Steady) {
        self.ticked.store(now.as_millis().max(1), Ordering::Relaxed);
    }

    /// A claim is made and waits for its payload or for the journal.
    pub(super) fn claim_waits(&self, now: Steady) {
        let now = now.as_millis().max(1);
        self.claim_waits.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed).ok();
    }

    /// It was handed out, or undone.
    pub(super) fn claim_over(&self) {
        self.claim_waits.store(0, Ordering::Relaxed);
    }

    fn since(moment: &AtomicU64, now: Steady) -> Duration {
        match moment.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            at => now.since(Steady::from_millis(at)),
        }
    }
}

impl Shared {
    pub(super) fn health(&self) -> Health {
        let (now, limit) = (self.clock.now().steady, self.options.unhealthy_after);
        let over = |moment: &AtomicU64| Some(Pulse::since(moment, now)).filter(|since| *since > limit);
        let troubles = [
            over(&self.pulse.commit_began).map(Trouble::CommitStuck),
            over(&self.pulse.ticked).map(Trouble::TimersLate),
            over(&self.pulse.claim_waits).map(Trouble::NothingHandedOut),
        ];
        let mut unserved = self.lock().unserved();
        if let Some(pushed) = self.pushed.get() {
            unserved.retain(|unserved| !pushed.contains(&unserved.application));
        }
        Health { troubles: troubles.into_iter().flatten().collect(), unserved }
    }
}
