//! What became of the sample tasks, seen from outside the broker: each is followed by its number, so that one that is lost,
//! or handed out again after it was finished, is noticed.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use taskbroker_domain::time::Steady;

use super::sample::{KINDS, Kind, Tag};

/// Over which time latencies and rates are shown.
const WINDOW: Duration = Duration::from_secs(10);
/// How many latencies are kept at most.
const LATENCIES_MAX: usize = 50_000;

/// Follows the tasks of one run.
#[derive(Debug)]
pub(super) struct Tally {
    run: String,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The number of the next task.
    next: u64,
    /// Tasks that are not finished. Those below `next` that are not here are.
    open: HashMap<u64, Open>,
    /// Tasks of which it is not known whether Kafka has them.
    unsure: HashSet<u64>,
    counts: Counts,
    /// When a task was handed out for the first time, and how long after it was sent.
    latencies: VecDeque<(Steady, Duration)>,
}

#[derive(Debug)]
struct Open {
    sent_at: Steady,
    times_begun: u32,
}

/// Numbers for show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Tasks sent.
    pub(super) produced: u64,
    /// Tasks that workers finished, well or not, and whose report was answered.
    pub(super) finished: u64,
    /// Tasks that are not finished.
    pub(super) open: u64,
    /// Times that a task was handed out although its last report had been answered.
    pub(super) twice: u64,
    /// Tasks that Kafka did not acknowledge.
    pub(super) unsure: u64,
    /// By kind, in the order of [`KINDS`].
    pub(super) kinds: [KindCounts; KINDS.len()],
}

/// Numbers of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct KindCounts {
    pub(super) produced: u64,
    /// Times begun by a worker.
    pub(super) begun: u64,
    pub(super) finished: u64,
}

/// How long tasks waited for a worker, lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Latency {
    pub(super) p50: Duration,
    pub(super) p99: Duration,
}

impl Tally {
    pub(super) fn new(run: String) -> Self {
        Self { run, inner: Mutex::default() }
    }

    /// A new task is about to be sent.
    pub(super) fn produce(&self, now: Steady) -> (Tag, Kind) {
        let mut inner = self.lock();
        let number = inner.next;
        let kind = Kind::of(number);
        inner.next += 1;
        inner.open.insert(number, Open { sent_at: now, times_begun: 0 });
        inner.counts.produced += 1;
        inner.counts.kinds[kind.index()].produced += 1;
        (Tag { run: self.run.clone(), number }, kind)
    }

    /// Kafka did not acknowledge it: it may be there or not, so it is not followed any more.
    pub(super) fn not_acknowledged(&self, tag: &Tag) {
        let mut inner = self.lock();
        if inner.open.remove(&tag.number).is_some() {
            inner.unsure.insert(tag.number);
            inner.counts.unsure += 1;
        }
    }

    /// A worker has it. Returns how often workers had it by now; `None` where it is not followed.
    pub(super) fn begin(&self, tag: &Tag, kind: Kind, now: Steady) -> Option<u32> {
        let mut inner = self.lock();
        inner.counts.kinds[kind.index()].begun += 1;
        if tag.run != self.run || inner.unsure.contains(&tag.number) {
            return None;
        }
        let Some(open) = inner.open.get_mut(&tag.number) else {
            inner.counts.twice += 1;
            return None;
        };
        open.times_begun += 1;
        let (times, waited) = (open.times_begun, now.since(open.sent_at));
        if times == 1 && kind != Kind::Delayed {
            inner.latencies.push_back((now, waited));
            forget_old(&mut inner.latencies, now);
        }
        Some(times)
    }

    /// The broker has taken the last report on it.
    pub(super) fn finish(&self, tag: &Tag, kind: Kind) {
        let mut inner = self.lock();
        if tag.run == self.run && inner.open.remove(&tag.number).is_some() {
            inner.counts.finished += 1;
            inner.counts.kinds[kind.index()].finished += 1;
        }
    }

    pub(super) fn counts(&self) -> Counts {
        let inner = self.lock();
        Counts { open: inner.open.len() as u64, ..inner.counts }
    }

    /// `None` where no task was handed out lately.
    pub(super) fn latency(&self, now: Steady) -> Option<Latency> {
        let mut waited: Vec<Duration> = {
            let mut inner = self.lock();
            forget_old(&mut inner.latencies, now);
            inner.latencies.iter().map(|(_, waited)| *waited).collect()
        };
        waited.sort_unstable();
        let last = waited.len().checked_sub(1)?;
        let at = |percent: usize| waited.get(last * percent / 100).copied();
        Some(Latency { p50: at(50)?, p99: at(99)? })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forget_old(latencies: &mut VecDeque<(Steady, Duration)>, now: Steady) {
    let old = |(at, _): &(Steady, Duration)| now.since(*at) > WINDOW;
    while latencies.len() > LATENCIES_MAX || latencies.front().is_some_and(old) {
        latencies.pop_front();
    }
}

/// Turns counts into rates over the last seconds.
#[derive(Debug, Default)]
pub(super) struct Rates {
    readings: VecDeque<(Steady, Counts)>,
}

/// Tasks a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rate {
    pub(super) produced: f64,
    pub(super) finished: f64,
}

/// Over how many readings rates are taken.
const READINGS: usize = 6;

impl Rates {
    /// Takes a reading; the rates since the oldest that is kept.
    pub(super) fn read(&mut self, now: Steady, counts: Counts) -> Rate {
        self.readings.push_back((now, counts));
        if self.readings.len() > READINGS {
            self.readings.pop_front();
        }
        let Some((since, oldest)) = self.readings.front() else { return Rate::default() };
        let seconds = now.since(*since).as_secs_f64();
        let per_second = |more: u64| if seconds > 0.0 { more as f64 / seconds } else { 0.0 };
        Rate {
            produced: per_second(counts.produced - oldest.produced),
            finished: per_second(counts.finished - oldest.finished),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Steady {
        Steady::from_millis(ms)
    }

    fn tally() -> Tally {
        Tally::new("run".to_owned())
    }

    #[test]
    fn a_task_is_open_until_its_last_report_is_answered() {
        let tally = tally();
        let (tag, kind) = tally.produce(at(0));
        assert_eq!(tally.begin(&tag, kind, at(3)), Some(1));
        assert_eq!((tally.counts().open, tally.counts().finished), (1, 0));
        tally.finish(&tag, kind);
        tally.finish(&tag, kind);
        let counts = tally.counts();
        assert_eq!((counts.open, counts.finished, counts.twice), (0, 1, 0));
        assert_eq!(counts.kinds[kind.index()], KindCounts { produced: 1, begun: 1, finished: 1 });
    }

    #[test]
    fn a_task_that_comes_again_after_its_last_report_is_noticed() {
        let tally = tally();
        let (tag, kind) = tally.produce(at(0));
        tally.begin(&tag, kind, at(1));
        tally.begin(&tag, kind, at(2));
        assert_eq!(tally.counts().twice, 0);
        tally.finish(&tag, kind);
        assert_eq!(tally.begin(&tag, kind, at(3)), None);
        assert_eq!(tally.counts().twice, 1);
    }

    #[test]
    fn tasks_of_an_earlier_run_and_those_that_kafka_did_not_acknowledge_are_not_followed() {
        let tally = tally();
        let (tag, kind) = tally.produce(at(0));
        tally.not_acknowledged(&tag);
        assert_eq!(tally.begin(&tag, kind, at(1)), None);
        let earlier = Tag { run: "earlier".to_owned(), number: 0 };
        assert_eq!(tally.begin(&earlier, Kind::Quick, at(1)), None);
        tally.finish(&earlier, Kind::Quick);
        let counts = tally.counts();
        assert_eq!((counts.open, counts.twice, counts.finished, counts.unsure), (0, 0, 0, 1));
    }

    #[test]
    fn latency_is_that_of_first_begins_within_the_window() {
        let tally = tally();
        for _ in 0..100 {
            let (tag, kind) = tally.produce(at(0));
            let kind = if kind == Kind::Delayed { Kind::Quick } else { kind };
            tally.begin(&tag, kind, at(tag.number));
        }
        let expected = Latency { p50: Duration::from_millis(49), p99: Duration::from_millis(98) };
        assert_eq!(tally.latency(at(100)), Some(expected));
        assert_eq!(tally.latency(at(20_000)), None);
    }

    #[test]
    fn rates_are_taken_over_the_last_readings() {
        let mut rates = Rates::default();
        let reading = |produced| Counts { produced, ..Counts::default() };
        assert_eq!(rates.read(at(0), reading(0)).produced, 0.0);
        assert_eq!(rates.read(at(500), reading(25)).produced, 50.0);
        for second in 1..20 {
            rates.read(at(second * 1000), reading(25));
        }
        assert_eq!(rates.read(at(20_000), reading(25)).produced, 0.0);
    }
}
