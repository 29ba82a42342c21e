//! Who saw what: every task that was produced, handed out and reported on, and what of it must not be.
//!
//! - Lost: a task of which nobody's last report was answered, and that was not dead-lettered.
//! - Executed after it was answered: a hand-out that was asked for after a report on it had been answered.
//! - Repeated without need: a hand-out of a task that was handed out before, with no loss of a broker's memory in between.
//! - Early: a hand-out before the task's delay had ended. Expired: one that was asked for when its time was over.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use taskbroker_proto::pb::TaskActivation;
use taskbroker_support::broker::Task;

pub(crate) use super::kind::{Kind, Verdict};

/// Sees everything.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    seen: Mutex<Seen>,
    takeovers: bool,
}

#[derive(Debug, Default)]
struct Seen {
    produced: BTreeMap<usize, (Kind, String)>,
    handed: HashMap<String, Vec<Instant>>,
    answered: HashMap<String, (Instant, Verdict)>,
    done: BTreeMap<usize, Vec<Verdict>>,
    /// When brokers lost what they had in memory.
    crashes: Vec<Instant>,
    dead: BTreeSet<String>,
    /// The attempts that were handed out, in their order.
    attempts: BTreeMap<usize, Vec<u32>>,
    /// How long after the ends of their delays tasks were with workers.
    lateness: Vec<Duration>,
    tally: Tally,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Tasks that were produced.
    pub(crate) produced: usize,
    /// Hand-outs.
    pub(crate) handed: usize,
    /// Reports that were answered.
    pub(crate) answered: usize,
    /// Hand-outs of what had been handed out and not been answered when a broker crashed.
    pub(crate) repeated: usize,
    /// Reports to a later life of the broker than the one that handed the task out.
    pub(crate) later: usize,
    /// Tasks that ended in the dead-letter topic.
    pub(crate) dead: usize,
    /// Tasks of which nothing became.
    pub(crate) lost: Vec<String>,
    /// What must not be.
    pub(crate) wrong: Vec<String>,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} produced, {} handed out, {} answered, {} dead-lettered, {} repeated after a crash, {} reported to a later life, {} lost, {} wrong",
            self.produced,
            self.handed,
            self.answered,
            self.dead,
            self.repeated,
            self.later,
            self.lost.len(),
            self.wrong.len()
        )
    }
}

impl Witness {
    /// One that allows what two stores cannot know of each other: when a broker takes over from one that is frozen, what
    /// that had not committed is repeated, answered or not. At-most-once holds all the same, and nothing may be lost.
    pub(crate) fn of_takeovers() -> Self {
        Self { takeovers: true, ..Self::default() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A task of this kind, noted down as produced.
    pub(crate) fn produce(&self, kind: Kind) -> Task {
        let mut seen = self.seen();
        let serial = seen.produced.len();
        let task = kind.task(serial);
        seen.produced.insert(serial, (kind, task.id()));
        task
    }

    /// A broker lost its memory, or somebody else may have taken over what it had.
    pub(crate) fn crashed(&self) {
        self.seen().crashes.push(Instant::now());
    }

    /// A worker got a task that it had asked for at `asked`.
    pub(crate) fn handed(&self, task: &TaskActivation, asked: Instant) {
        let (kind, serial) = Kind::of(task);
        let mut seen = self.seen();
        let now = Instant::now();
        seen.note_times(task, serial, asked);
        let attempt = task.retry_state.as_ref().map_or(0, |retry| retry.attempts);
        seen.attempts.entry(serial).or_default().push(attempt);
        let before = seen.handed.entry(task.id.clone()).or_default().clone();
        seen.tally.handed += 1;
        let answered = seen.answered.get(&task.id).copied().filter(|(at, _)| *at < asked && !self.takeovers);
        if let Some((at, verdict)) = answered {
            let ago = at.elapsed();
            seen.wrong(format!("{kind:?} {serial} {} came again {ago:?} after its {verdict:?} was answered", task.id));
        }
        if let Some(last) = before.last().copied() {
            let crashed = self.takeovers || seen.crashes.iter().any(|crash| last < *crash && *crash < now);
            match (kind, crashed) {
                (Kind::AtMostOnce, _) => seen.wrong(format!("at-most-once {serial} {} was handed out twice", task.id)),
                (_, true) => seen.tally.repeated += 1,
                (_, false) => {
                    let ago = last.elapsed();
                    seen.wrong(format!("{kind:?} {serial} {} was repeated without need, {ago:?} later", task.id));
                }
            }
        }
        seen.handed.entry(task.id.clone()).or_default().push(now);
    }

    /// A worker's report on a task was answered.
    pub(crate) fn answered(&self, task: &TaskActivation, verdict: Verdict) {
        let (_, serial) = Kind::of(task);
        let mut seen = self.seen();
        let now = Instant::now();
        let handed = seen.handed.get(&task.id).and_then(|times| times.last().copied()).unwrap();
        let crashed = seen.crashes.iter().any(|crash| handed < *crash);
        seen.tally.answered += 1;
        seen.tally.later += usize::from(crashed);
        seen.answered.entry(task.id.clone()).or_insert((now, verdict));
        if verdict != Verdict::Retry {
            seen.done.entry(serial).or_default().push(verdict);
        }
    }

    /// A task was found in the dead-letter topic.
    pub(crate) fn dead(&self, task: &TaskActivation) {
        let (_, serial) = Kind::of(task);
        self.seen().dead.insert(serial.to_string());
    }

    /// How many tasks nobody has reported the end of.
    pub(crate) fn open(&self) -> usize {
        let seen = self.seen();
        seen.produced.len() - seen.done.len()
    }

    /// Waits until every task's end was reported; gives up when nothing has changed for so long.
    pub(crate) async fn await_all(&self, patience: Duration) {
        let (mut open, mut since) = (self.open(), Instant::now());
        while open > 0 && since.elapsed() < patience {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let still = self.open();
            if still != open {
                (open, since) = (still, Instant::now());
            }
        }
    }

    /// How many times each task was handed out and reported done, by serial number: exactly once is an empty list.
    pub(crate) fn not_exactly_once(&self) -> Vec<String> {
        let seen = self.seen();
        let times = |id: &String| seen.handed.get(id).map_or(0, Vec::len);
        let odd = seen
            .produced
            .iter()
            .filter(|(serial, (_, id))| times(id) != 1 || seen.done.get(serial).is_none_or(|done| done.len() != 1));
        odd.map(|(serial, (kind, id))| format!("{kind:?} {serial} {id}: {} times", times(id))).collect()
    }

    /// How many tasks were handed out in these attempts: `{[0, 1]: 5}` says that each of five tasks was retried once.
    pub(crate) fn attempts(&self) -> BTreeMap<Vec<u32>, usize> {
        let mut histogram = BTreeMap::new();
        for attempts in self.seen().attempts.values() {
            *histogram.entry(attempts.clone()).or_default() += 1;
        }
        histogram
    }

    /// How long after the ends of their delays tasks were with workers, in ascending order.
    pub(crate) fn lateness(&self) -> Vec<Duration> {
        let mut lateness = self.seen().lateness.clone();
        lateness.sort_unstable();
        lateness
    }

    /// The ids of the tasks of a kind as they were produced, in ascending order.
    pub(crate) fn ids(&self, of: Kind) -> Vec<String> {
        let seen = self.seen();
        let mut ids: Vec<String> =
            seen.produced.values().filter(|(kind, _)| *kind == of).map(|(_, id)| id.clone()).collect();
        ids.sort_unstable();
        ids
    }

    /// What came of it.
    pub(crate) fn tally(&self) -> Tally {
        let seen = self.seen();
        let mut tally = seen.tally.clone();
        tally.produced = seen.produced.len();
        tally.dead = seen.dead.len();
        for (serial, (kind, id)) in &seen.produced {
            let (done, dead) = (seen.done.contains_key(serial), seen.dead.contains(&serial.to_string()));
            let ended = match kind {
                Kind::Fails | Kind::Vanishes => dead,
                Kind::AtMostOnce => done || dead,
                // That it expired is nothing that a worker sees.
                Kind::Expires => true,
                Kind::Plain
                | Kind::RetryOnce
                | Kind::RetryThrice
                | Kind::Delayed
                | Kind::DelayedLong
                | Kind::FailsUnheard => done,
            };
            if !ended {
                tally.lost.push(format!(
                    "{kind:?} {serial} {id}, handed out {} times",
                    seen.handed.get(id).map_or(0, Vec::len)
                ));
            }
        }
        tally
    }

    /// Fails unless nothing was lost and nothing was wrong.
    pub(crate) fn vindicate(&self) -> Tally {
        let tally = self.tally();
        let some = |list: &[String]| list.iter().take(20).cloned().collect::<Vec<_>>().join("\n  ");
        assert!(tally.wrong.is_empty(), "{tally}\n  {}", some(&tally.wrong));
        assert!(tally.lost.is_empty(), "{tally}\n  {}", some(&tally.lost));
        tally
    }
}

impl Seen {
    /// It must not come before its delay has ended, nor to who asked for it when it had expired.
    fn note_times(&mut self, task: &TaskActivation, serial: usize, asked: Instant) {
        let Some(received) = task.received_at.and_then(|at| SystemTime::try_from(at).ok()) else { return };
        let now = SystemTime::now();
        if let Some(delay) = task.delay {
            match now.duration_since(received + Duration::from_secs(delay)) {
                Ok(late) => self.lateness.push(late),
                Err(early) => self.wrong(format!("{serial} {} came {:?} before its time", task.id, early.duration())),
            }
        }
        if let Some(expires) = task.expires
            && let Ok(over) = (now - asked.elapsed()).duration_since(received + Duration::from_secs(expires))
        {
            self.wrong(format!("{serial} {} was handed out though it had expired {over:?} before", task.id));
        }
    }

    fn wrong(&mut self, what: String) {
        self.tally.wrong.push(what);
    }
}
