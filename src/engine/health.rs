//! Health means progress: not "the process answers" but "work that could move has moved".

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use taskbroker_domain::{ledger::Unserved, time::Steady};

use super::{
    asking::Claims,
    shared::{FeedState, Shared},
};

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
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// A commit is stuck.
    #[error("a commit has been under way for {0:?}")]
    CommitStuck(Duration),
    /// Timers are not served.
    #[error("timers are {0:?} late")]
    TimersLate(Duration),
    /// Work of an application is ready, its workers ask, and nothing is handed out.
    #[error("work of application {application:?} is ready and workers ask, but nothing was handed out for {since:?}")]
    NothingHandedOut {
        /// The application; of several the one that has waited longest.
        application: Box<str>,
        /// Since when.
        since: Duration,
    },
    /// Kafka answers and has more of a topic, there is room, and nothing is read.
    #[error("{waiting} messages of topic {topic} wait in Kafka, which answers, but nothing was read for {since:?}")]
    NothingRead {
        /// The topic.
        topic: Arc<str>,
        /// How many records are known to be there, at least.
        waiting: u64,
        /// Since when.
        since: Duration,
    },
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
    pub(super) claims: Claims,
}

impl Pulse {
    pub(super) fn new(now: Steady) -> Self {
        Self {
            commit_began: AtomicU64::new(0),
            ticked: AtomicU64::new(now.as_millis().max(1)),
            claims: Claims::default(),
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
        let oldest = self.pulse.claims.oldest(now, limit);
        let troubles = [
            over(&self.pulse.commit_began).map(Trouble::CommitStuck),
            over(&self.pulse.ticked).map(Trouble::TimersLate),
            oldest.map(|(application, since)| Trouble::NothingHandedOut { application, since }),
        ];
        let unread = self.feeds.iter().filter_map(|feed| self.unread(feed, now));
        let mut unserved = self.lock().unserved();
        if let Some(pushed) = self.pushed.get() {
            unserved.retain(|unserved| !pushed.contains(&unserved.application));
        }
        Health { troubles: troubles.into_iter().flatten().chain(unread).collect(), unserved }
    }

    /// Kafka has more of this topic, and nothing comes.
    fn unread(&self, feed: &FeedState, now: Steady) -> Option<Trouble> {
        let since = feed.hearing.nothing_for(now).filter(|since| *since > self.options.unread_after)?;
        let waiting = self.lock().unread(&feed.topic);
        (waiting > 0).then(|| Trouble::NothingRead { topic: feed.topic.clone(), waiting, since })
    }
}
