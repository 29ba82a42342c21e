//! What the loops share: the ledger behind one lock, and the bells by which they wake each other.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use taskbroker_domain::{
    admission::Full,
    ledger::{CommitWanted, Ledger, SourceAction, Stats},
    policy::Policy,
    ports::{
        clock::Clock,
        codec::ActivationCodec,
        outbox::Outbox,
        source::{ActivationSource, GroupCommit},
        store::{ActivationStore, Usage},
    },
    time::{Now, Steady},
};
use tokio::sync::Notify;
use tracing::{info, warn};

use super::{
    Feed, Options, Ports,
    durable::Durable,
    health::Pulse,
    hearing::Hearing,
    meters::{FeedMeters, Meters},
    rules::InForce,
    shares::{Share, Shares},
};

pub(super) struct Shared {
    ledger: Mutex<Ledger>,
    pub(super) store: Arc<dyn ActivationStore>,
    pub(super) feeds: Vec<Arc<FeedState>>,
    pub(super) shares: Shares,
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
    /// Rung when an application that had nothing to hand out has something.
    pub(super) ready: Notify,
    pub(super) pulse: Pulse,
    pub(super) meters: Meters,
    pub(super) rules: InForce,
    /// The applications whose workers are called; nobody is, unless this was set.
    pub(super) pushed: OnceLock<BTreeSet<Box<str>>>,
    store_is_full: AtomicBool,
    /// Its disk has less room than is kept for what is under way.
    disk_is_full: AtomicBool,
    awakenings: AtomicU64,
}

/// A feed, and what its loop goes by.
pub(super) struct FeedState {
    pub(super) index: usize,
    pub(super) topic: Arc<str>,
    pub(super) source: Arc<dyn ActivationSource>,
    pub(super) codec: Arc<dyn ActivationCodec>,
    pub(super) room_changed: Notify,
    pub(super) hearing: Hearing,
    paused: Mutex<Option<Full>>,
    pub(super) meters: FeedMeters,
}

impl FeedState {
    fn new(index: usize, feed: Feed, now: Steady) -> Arc<Self> {
        let Feed { topic, source, codec } = feed;
        let meters = FeedMeters::new(&topic);
        let (paused, hearing) = (Mutex::default(), Hearing::new(now));
        Arc::new(Self { index, topic, source, codec, room_changed: Notify::new(), hearing, paused, meters })
    }

    /// Room as it is, but for a feed that paused: too little is none.
    fn resume(&self, room: Result<usize, Full>, least: usize) -> Result<usize, Full> {
        let mut paused = self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        let room = match (room, *paused) {
            (Ok(room), Some(full)) if room < least => Err(full),
            (room, _) => room,
        };
        *paused = room.err().filter(|full| !matches!(full, Full::Memory | Full::Journal | Full::Store | Full::Disk));
        room
    }
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
        let Ports { store, feeds, outbox, codec, clock } = ports;
        let now = clock.now().steady;
        let feeds: Vec<_> =
            feeds.into_iter().enumerate().map(|(index, feed)| FeedState::new(index, feed, now)).collect();
        Self {
            ledger: Mutex::new(ledger),
            pulse: Pulse::new(now),
            store,
            outbox,
            codec,
            clock,
            rules: InForce::new(options.rules.clone()),
            pushed: OnceLock::new(),
            options,
            durable: Durable::default(),
            committer: Alarm::default(),
            timekeeper: Alarm::default(),
            payloads: Notify::new(),
            payloads_read: Notify::new(),
            outgoing: Notify::new(),
            ready: Notify::new(),
            meters: Meters::new(),
            shares: Shares::new(feeds.len()),
            feeds,
            store_is_full: AtomicBool::new(false),
            disk_is_full: AtomicBool::new(false),
            awakenings: AtomicU64::new(0),
        }
    }

    /// The ledger. A panic of another holder leaves it as its last whole step did: its methods do not panic in between.
    pub(super) fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One step on the ledger; whoever has something to do after it is woken.
    pub(super) fn step<T>(&self, act: impl FnOnce(&mut Ledger, Now) -> T) -> T {
        let now = self.clock.now();
        let (result, commit, wake, awakenings) = {
            let mut ledger = self.lock();
            let result = act(&mut ledger, now);
            (result, ledger.commit_wanted(now), ledger.next_wake(now), ledger.awakenings())
        };
        match commit {
            CommitWanted::Now => self.committer.due(now, Duration::ZERO),
            CommitWanted::In(wait) => self.committer.due(now, wait),
            CommitWanted::No => {}
        }
        if let Some(wait) = wake {
            self.timekeeper.due(now, wait);
        }
        if self.awakenings.swap(awakenings, Ordering::Relaxed) != awakenings {
            self.ready.notify_waiters();
        }
        result
    }

    /// Tells each source what the ledger wants it told.
    pub(super) fn drive_sources(&self) {
        if self.feeds.is_empty() {
            return;
        }
        let mut commits: Vec<Vec<GroupCommit>> = vec![Vec::new(); self.feeds.len()];
        for action in self.step(Ledger::source_actions) {
            let topic = match &action {
                SourceAction::Start(start) => &start.partition.topic,
                SourceAction::Commit(commit) => &commit.partition.topic,
            };
            // Only what a feed told of is assigned, so there is one.
            let Some(feed) = self.feeds.iter().find(|feed| feed.topic == *topic) else { continue };
            match action {
                SourceAction::Start(start) => feed.source.start(start),
                SourceAction::Commit(commit) => {
                    if let Some(all) = commits.get_mut(feed.index) {
                        all.push(commit);
                    }
                }
            }
        }
        for (feed, commits) in self.feeds.iter().zip(commits) {
            if !commits.is_empty() {
                feed.source.commit(commits);
            }
        }
    }

    /// How many records this feed may read now, or which limit is reached.
    pub(super) fn room(&self, feed: &FeedState) -> Result<usize, Full> {
        let room = match feed.resume(self.room_of_all(), self.least_room()) {
            Ok(room) => Ok(self.share(feed, room)),
            Err(full @ (Full::Store | Full::Disk)) => Err(full),
            Err(_) => self.part(feed),
        };
        room.map(|room| room.min(self.options.batch_max))
    }

    /// What this feed may take of the room of all.
    fn share(&self, feed: &FeedState, room: usize) -> usize {
        let Share { records, next } = self.shares.ask(feed.index, room);
        next.into_iter().for_each(|next| self.look_again(next));
        records
    }

    /// What this feed may take although there is no room for all; without any it waits for its turn.
    fn part(&self, feed: &FeedState) -> Result<usize, Full> {
        let part = self.lock().room_for(&feed.topic);
        match part {
            Ok(part) => self.shares.apart(feed.index, part),
            Err(_) => drop(self.share(feed, 0)),
        }
        part
    }

    /// Reading that paused goes on only when there is room for so many: pausing and resuming cost a fetch each.
    fn least_room(&self) -> usize {
        const LEAST: usize = 256;
        let Policy { limits, unwritten_max, .. } = &self.options.policy;
        (limits.pending / 16).min(unwritten_max / 16).min(LEAST)
    }

    /// Feeds that may read more than there is room left for look again.
    pub(super) fn room_shrank(&self) {
        if self.feeds.len() > 1 {
            let room = self.room_of_all().unwrap_or(0);
            self.shares.overdrawn(room).into_iter().for_each(|feed| self.look_again(feed));
        }
    }

    fn look_again(&self, feed: usize) {
        if let Some(feed) = self.feeds.get(feed) {
            feed.room_changed.notify_one();
        }
    }

    fn room_of_all(&self) -> Result<usize, Full> {
        if self.store_is_full.load(Ordering::Relaxed) {
            return Err(Full::Store);
        }
        if self.disk_is_full.load(Ordering::Relaxed) {
            return Err(Full::Disk);
        }
        self.lock().room()
    }

    /// The store was measured.
    pub(super) fn measured(&self, usage: Usage) {
        let full = self.options.store_bytes_max.is_some_and(|max| usage.used_bytes >= max);
        let disk_full = usage.room_bytes.is_some_and(|room| room < self.options.disk_room_min);
        let store_changed = self.store_is_full.swap(full, Ordering::Relaxed) != full;
        let disk_changed = self.disk_is_full.swap(disk_full, Ordering::Relaxed) != disk_full;
        match (disk_changed, disk_full) {
            (true, true) => warn!(
                room_bytes = usage.room_bytes,
                wanted_bytes = self.options.disk_room_min,
                "hardly any room is left on the store's disk; nothing more is taken in until there is"
            ),
            (true, false) => info!("the store's disk has room again"),
            (false, _) => {}
        }
        if disk_changed || store_changed {
            self.feeds.iter().for_each(|feed| feed.room_changed.notify_one());
        }
    }

    pub(super) fn stats(&self) -> Stats {
        self.lock().stats()
    }
}
