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

    #[test]
    fn a_pause_is_counted_once_and_shown_while_it_lasts() {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        metrics::with_local_recorder(&recorder, || {
            let intake = Intake::new("t");
            let pending = Full::Pending.as_str();
            (0..3).for_each(|_| intake.is_held_by(Full::Pending));
            assert_eq!(shown(&snapshotter, "taskbroker_intake_paused", pending), 1.0);
            intake.is_held_by(Full::Store);
            assert_eq!(shown(&snapshotter, "taskbroker_intake_paused", pending), 0.0);
            intake.goes_on();
            assert_eq!(shown(&snapshotter, "taskbroker_intake_paused", Full::Store.as_str()), 0.0);
        });
        let counter = DebuggingRecorder::new();
        let snapshotter = counter.snapshotter();
        metrics::with_local_recorder(&counter, || {
            let intake = Intake::new("t");
            (0..3).for_each(|_| intake.is_held_by(Full::Pending));
            intake.goes_on();
            intake.is_held_by(Full::Pending);
            assert_eq!(shown(&snapshotter, "taskbroker_intake_pauses_total", Full::Pending.as_str()), 2.0);
        });
    }
}
