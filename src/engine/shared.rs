//! What the loops share: the ledger behind one lock, and the bells by which they wake each other.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use taskbroker_domain::{
    admission::Full,
    ledger::{CommitWanted, Ledger, SourceAction, Stats},
    ports::{
        clock::Clock,
        codec::ActivationCodec,
        outbox::Outbox,
        source::ActivationSource,
        store::{ActivationStore, Usage},
    },
    time::Now,
};
use tokio::sync::Notify;

use super::{Options, Ports, durable::Durable, health::Pulse, meters::Meters};

pub(super) struct Shared {
    ledger: Mutex<Ledger>,
    pub(super) store: Arc<dyn ActivationStore>,
    pub(super) source: Option<Arc<dyn ActivationSource>>,
    pub(super) outbox: Arc<dyn Outbox>,
    pub(super) codec: Arc<dyn ActivationCodec>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) options: Options,
    pub(super) durable: Durable,
    pub(super) committer: Alarm,
    pub(super) timekeeper: Alarm,
    pub(super) payloads: Notify,
    pub(super) payloads_read: Notify,
    pub(super) outgoing: Notify,
    pub(super) pulse: Pulse,
    pub(super) meters: Meters,
    pub(super) less_room: Notify,
    store_is_full: AtomicBool,
    /// Its disk has less room than is kept for what is under way.
    disk_is_full: AtomicBool,
}

/// A loop that sleeps until a moment, and is only woken if something is due before that. It listens from before it looks
/// what is due, until it wakes; while it works nobody need ring, since it looks again after that.
#[derive(Default)]
pub(super) struct Alarm {
    bell: Notify,
    set_for_ms: AtomicU64,
}

impl Alarm {
    /// From here on every bell counts: call it before looking what is due.
    pub(super) fn listen(&self) {
        self.set_for_ms.store(u64::MAX, Ordering::SeqCst);
    }

    /// Sleeps for `wait`, or until something earlier comes up.
    pub(super) async fn sleep(&self, clock: &dyn Clock, wait: Duration) {
        let until = clock.now().steady.saturating_add(wait).as_millis();
        self.set_for_ms.store(until, Ordering::SeqCst);
        // Either way it is time to look.
        tokio::time::timeout(wait, self.bell.notified()).await.ok();
        self.set_for_ms.store(0, Ordering::SeqCst);
    }

    /// Something is due in `wait`: wakes the loop if it would sleep longer.
    fn due(&self, now: Now, wait: Duration) {
        if now.steady.saturating_add(wait).as_millis() < self.set_for_ms.load(Ordering::SeqCst) {
            self.bell.notify_one();
        }
    }
}

impl Shared {
    pub(super) fn new(ports: Ports, options: Options, ledger: Ledger) -> Self {
        let Ports { store, source, outbox, codec, clock } = ports;
        Self {
            ledger: Mutex::new(ledger),
            pulse: Pulse::new(clock.now().steady),
            store,
            source,
            outbox,
            codec,
            clock,
            options,
            durable: Durable::default(),
            committer: Alarm::default(),
            timekeeper: Alarm::default(),
            payloads: Notify::new(),
            payloads_read: Notify::new(),
            outgoing: Notify::new(),
            meters: Meters::new(),
            less_room: Notify::new(),
            store_is_full: AtomicBool::new(false),
            disk_is_full: AtomicBool::new(false),
        }
    }

    /// The ledger. A panic of another holder leaves it as its last whole step did: its methods do not panic in between.
    pub(super) fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One step on the ledger; whoever has something to do after it is woken.
    pub(super) fn step<T>(&self, act: impl FnOnce(&mut Ledger, Now) -> T) -> T {
        let now = self.clock.now();
        let (result, commit, wake) = {
            let mut ledger = self.lock();
            let result = act(&mut ledger, now);
            (result, ledger.commit_wanted(now), ledger.next_wake(now))
        };
        match commit {
            CommitWanted::Now => self.committer.due(now, Duration::ZERO),
            CommitWanted::In(wait) => self.committer.due(now, wait),
            CommitWanted::No => {}
        }
        if let Some(wait) = wake {
            self.timekeeper.due(now, wait);
        }
        result
    }

    /// Tells the source what the ledger wants it told.
    pub(super) fn drive_source(&self) {
        let Some(source) = &self.source else { return };
        let actions = self.step(Ledger::source_actions);
        let mut commits = Vec::new();
        for action in actions {
            match action {
                SourceAction::Start(start) => source.start(start),
                SourceAction::Commit(commit) => commits.push(commit),
            }
        }
        if !commits.is_empty() {
            source.commit(commits);
        }
    }

    /// How many records may be read now, or which limit is reached.
    pub(super) fn room(&self) -> Result<usize, Full> {
        if self.store_is_full.load(Ordering::Relaxed) {
            return Err(Full::Store);
        }
        if self.disk_is_full.load(Ordering::Relaxed) {
            return Err(Full::Disk);
        }
        self.lock().room().map(|room| room.min(self.options.batch_max))
    }

    /// The store was measured.
    pub(super) fn measured(&self, usage: Usage) {
        let full = self.options.store_bytes_max.is_some_and(|max| usage.used_bytes >= max);
        let disk_full = usage.room_bytes.is_some_and(|room| room < self.options.disk_room_min);
        let store_changed = self.store_is_full.swap(full, Ordering::Relaxed) != full;
        if self.disk_is_full.swap(disk_full, Ordering::Relaxed) != disk_full || store_changed {
            self.less_room.notify_one();
        }
    }

    pub(super) fn stats(&self) -> Stats {
        self.lock().stats()
    }
}
