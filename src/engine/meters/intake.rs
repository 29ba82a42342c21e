//! Which limit holds a topic back.

use std::sync::atomic::{AtomicUsize, Ordering};

use metrics::{Counter, Gauge, counter, gauge};
use taskbroker_domain::admission::Full;

const LIMITS: [Full; 9] = [
    Full::Pending,
    Full::Delayed,
    Full::Processing,
    Full::Outgoing,
    Full::Parked,
    Full::Store,
    Full::Disk,
    Full::Memory,
    Full::Journal,
];

/// Which limit it is, by its place in [`LIMITS`], or one of these.
const NONE: usize = usize::MAX;
const UNKNOWN: usize = usize::MAX - 1;

/// The pauses of one topic's intake.
pub(in crate::engine) struct Intake {
    paused: [Gauge; LIMITS.len()],
    pauses: [Counter; LIMITS.len()],
    limit: AtomicUsize,
}

impl Intake {
    pub(super) fn new(topic: &str) -> Self {
        let labels = |limit: Full| [("topic", topic.to_owned()), ("reason", limit.as_str().to_owned())];
        Self {
            paused: LIMITS.map(|limit| gauge!("taskbroker_intake_paused", &labels(limit))),
            pauses: LIMITS.map(|limit| counter!("taskbroker_intake_pauses_total", &labels(limit))),
            limit: AtomicUsize::new(UNKNOWN),
        }
    }

    /// There is room.
    pub(in crate::engine) fn goes_on(&self) {
        if self.limit.swap(NONE, Ordering::Relaxed) != NONE {
            self.paused.iter().for_each(|gauge| gauge.set(0.0));
        }
    }

    /// This limit is reached. Counted once for each pause.
    pub(in crate::engine) fn is_held_by(&self, full: Full) {
        let Some(place) = LIMITS.iter().position(|limit| *limit == full) else { return };
        if self.limit.swap(place, Ordering::Relaxed) == place {
            return;
        }
        for (index, (gauge, pauses)) in self.paused.iter().zip(&self.pauses).enumerate() {
            gauge.set(if index == place { 1.0 } else { 0.0 });
            pauses.increment(u64::from(index == place));
        }
    }
}

#[cfg(test)]
mod tests {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

    use super::*;

    /// The value of this metric for this reason.
    fn shown(snapshotter: &Snapshotter, metric: &str, reason: &str) -> f64 {
        let all = snapshotter.snapshot().into_vec();
        let found = all
            .into_iter()
            .find(|(key, ..)| key.key().name() == metric && key.key().labels().any(|label| label.value() == reason));
        match found.unwrap().3 {
            DebugValue::Gauge(value) => value.into_inner(),
            DebugValue::Counter(count) => count as f64,
            DebugValue::Histogram(_) => panic!("no histogram"),
        }
    }

    /// What is shown of the limit on waiting tasks after this. A snapshot takes what it shows: each looks once.
    fn after(metric: &str, act: impl FnOnce(&Intake)) -> f64 {
        after_of(metric, Full::Pending.as_str(), act)
    }

    /// The same, of another limit.
    fn after_of(metric: &str, reason: &str, act: impl FnOnce(&Intake)) -> f64 {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        metrics::with_local_recorder(&recorder, || {
            act(&Intake::new("t"));
            shown(&snapshotter, metric, reason)
        })
    }

    #[test]
    fn the_limits_that_the_existing_system_has_go_by_its_names() {
        let theirs = [Full::Processing, Full::Delayed, Full::Store, Full::Pending];
        let names = ["processing_limit", "delay_limit", "db_size_limit", "pending_limit"];
        for (full, name) in theirs.into_iter().zip(names) {
            let counted = after_of("taskbroker_intake_pauses_total", name, |intake| intake.is_held_by(full));
            assert_eq!(counted, 1.0, "{name}");
        }
    }

    #[test]
    fn a_pause_is_shown_while_it_lasts() {
        let paused = |act: fn(&Intake)| after("taskbroker_intake_paused", act);
        assert_eq!(paused(|intake| intake.is_held_by(Full::Pending)), 1.0);
        assert_eq!(
            paused(|intake| [Full::Pending, Full::Store].into_iter().for_each(|full| intake.is_held_by(full))),
            0.0
        );
        let ended = |intake: &Intake| {
            intake.is_held_by(Full::Pending);
            intake.goes_on();
        };
        assert_eq!(paused(ended), 0.0);
    }

    #[test]
    fn a_pause_is_counted_once_however_often_it_is_tried() {
        let pauses = after("taskbroker_intake_pauses_total", |intake| {
            (0..3).for_each(|_| intake.is_held_by(Full::Pending));
            intake.goes_on();
            intake.is_held_by(Full::Pending);
        });
        assert_eq!(pauses, 2.0);
    }
}
