//! Metrics by namespace. Names come from outside, so their number is bounded; and what the ledger has forgotten is not shown as if it were still here.

use std::collections::HashMap;

use metrics::{Counter, Gauge, counter, gauge};
use taskbroker_domain::{
    ledger::{Counts, NamespaceStats},
    time::Timestamp,
};

/// How many namespaces are shown under their names; the others together as [`OTHER`]. Each has thirteen series: 500 are what
/// a scraper takes without noticing, and far more than deployments have.
const NAMED_MAX: usize = 500;
/// No application or namespace of an existing deployment has brackets in its name.
const OTHER: &str = "(other)";

/// How activations come and go, by the label `event`.
const EVENTS: [&str; 10] = [
    "loaded",
    "admitted",
    "completed",
    "discarded",
    "dead_lettered",
    "expired",
    "retried",
    "forwarded",
    "dropped",
    "withdrawn",
];

type Events = [u64; EVENTS.len()];

/// The counts in the order of [`EVENTS`].
fn events(counts: &Counts) -> Events {
    let Counts { loaded, admitted, completed, discarded, dead_lettered, expired, .. } = *counts;
    let Counts { retried, forwarded, dropped, withdrawn, in_flight: _, .. } = *counts;
    [loaded, admitted, completed, discarded, dead_lettered, expired, retried, forwarded, dropped, withdrawn]
}

/// What is shown. The sum over all series is the ledger's, whatever it forgets.
#[derive(Default)]
pub(super) struct Namespaces {
    named: HashMap<(Box<str>, Box<str>), Series>,
    other: Option<Series>,
    /// What was counted so far, in all series.
    counted: Events,
}

struct Series {
    in_flight: Gauge,
    pending_seconds: Gauge,
    unfinished_seconds: Gauge,
    counters: [Counter; EVENTS.len()],
    /// What the ledger's counts were at the last look.
    seen: Events,
    looked: bool,
}

/// What is here at the moment.
#[derive(Clone, Copy, Default)]
struct Stand {
    in_flight: u64,
    /// The age of the oldest that waits for a worker.
    pending_seconds: f64,
    /// The age of the oldest in whatever state.
    unfinished_seconds: f64,
}

impl Stand {
    fn of(stats: &NamespaceStats, age: impl Fn(Option<Timestamp>) -> f64) -> Self {
        let (pending_seconds, unfinished_seconds) = (age(stats.oldest_ready), age(stats.oldest));
        Self { in_flight: stats.counts.in_flight, pending_seconds, unfinished_seconds }
    }

    fn with(self, other: Self) -> Self {
        Self {
            in_flight: self.in_flight + other.in_flight,
            pending_seconds: self.pending_seconds.max(other.pending_seconds),
            unfinished_seconds: self.unfinished_seconds.max(other.unfinished_seconds),
        }
    }
}

impl Series {
    fn new(application: &str, namespace: &str) -> Self {
        let labels = [("application", application.to_owned()), ("namespace", namespace.to_owned())];
        let counter = |event: &'static str| {
            let [application, namespace] = labels.clone();
            counter!("taskbroker_activations_total", &[application, namespace, ("event", event.to_owned())])
        };
        Self {
            in_flight: gauge!("taskbroker_in_flight", &labels),
            pending_seconds: gauge!("taskbroker_namespace_oldest_pending_seconds", &labels),
            unfinished_seconds: gauge!("taskbroker_namespace_oldest_unfinished_seconds", &labels),
            counters: EVENTS.map(counter),
            seen: Events::default(),
            looked: false,
        }
    }

    /// Counts on. A count that is lower than before is that of a namespace which was forgotten meanwhile, and began anew.
    fn count(&mut self, counts: &Counts, counted: &mut Events) {
        let now = events(counts);
        for (index, counter) in self.counters.iter().enumerate() {
            let grown = now[index].checked_sub(self.seen[index]).unwrap_or(now[index]);
            counter.increment(grown);
            counted[index] += grown;
        }
        self.seen = now;
    }

    fn stand(&self, stand: Stand) {
        self.in_flight.set(stand.in_flight as f64);
        self.pending_seconds.set(stand.pending_seconds);
        self.unfinished_seconds.set(stand.unfinished_seconds);
    }
}

impl Namespaces {
    /// Brings the series up to date. `age`: in seconds, how old what came in at a moment is; 0 for nothing.
    pub(super) fn show(
        &mut self,
        totals: &Counts,
        namespaces: &[NamespaceStats],
        age: impl Fn(Option<Timestamp>) -> f64,
    ) {
        let mut rest = Stand::default();
        for namespace in namespaces {
            let stand = Stand::of(namespace, &age);
            if let Some(series) = named(&mut self.named, namespace) {
                series.looked = true;
                series.count(&namespace.counts, &mut self.counted);
                series.stand(stand);
            } else {
                rest = rest.with(stand);
            }
        }
        for series in self.named.values_mut() {
            if !std::mem::take(&mut series.looked) {
                series.stand(Stand::default());
                series.seen = Events::default();
            }
        }
        self.show_other(totals, rest);
    }

    /// The rest: of namespaces without a series, and what was counted between the last look and the forgetting.
    fn show_other(&mut self, totals: &Counts, stand: Stand) {
        let totals = events(totals);
        let rest: Vec<u64> = totals.iter().zip(&self.counted).map(|(all, shown)| all.saturating_sub(*shown)).collect();
        if self.other.is_none() && stand.in_flight == 0 && rest.iter().all(|rest| *rest == 0) {
            return;
        }
        let other = self.other.get_or_insert_with(|| Series::new(OTHER, OTHER));
        for (index, rest) in rest.into_iter().enumerate() {
            other.counters[index].increment(rest);
            self.counted[index] += rest;
        }
        other.stand(stand);
    }
}

/// The series of this namespace; made when there is room for it.
fn named<'a>(all: &'a mut HashMap<(Box<str>, Box<str>), Series>, stats: &NamespaceStats) -> Option<&'a mut Series> {
    let name = (stats.application.clone(), stats.namespace.clone());
    if all.len() >= NAMED_MAX && !all.contains_key(&name) {
        return None;
    }
    Some(all.entry(name).or_insert_with(|| Series::new(&stats.application, &stats.namespace)))
}

#[cfg(test)]
mod tests {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

    use super::*;

    fn stats(namespace: &str, admitted: u64, in_flight: u64) -> NamespaceStats {
        let counts = Counts { admitted, completed: admitted - in_flight, in_flight, ..Counts::default() };
        NamespaceStats {
            application: "a".into(),
            namespace: namespace.into(),
            counts,
            oldest_ready: None,
            oldest: None,
        }
    }

    fn total(admitted: u64, in_flight: u64) -> Counts {
        stats("", admitted, in_flight).counts
    }

    /// What a recorder shows of a metric, by namespace, counters since the last look.
    fn shown(snapshotter: &Snapshotter, metric: &str, event: Option<&str>) -> HashMap<String, f64> {
        let all = snapshotter.snapshot().into_vec();
        let fits = all.into_iter().filter(|(key, ..)| {
            let labels: Vec<_> = key.key().labels().map(|label| (label.key(), label.value())).collect();
            key.key().name() == metric && event.is_none_or(|event| labels.contains(&("event", event)))
        });
        fits.map(|(key, _, _, value)| {
            let namespace = key.key().labels().find(|label| label.key() == "namespace").unwrap().value().to_owned();
            let value = match value {
                DebugValue::Counter(count) => count as f64,
                DebugValue::Gauge(value) => value.into_inner(),
                DebugValue::Histogram(_) => panic!("no histogram"),
            };
            (namespace, value)
        })
        .collect()
    }

    fn with_recorder(test: impl FnOnce(&Snapshotter)) {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        metrics::with_local_recorder(&recorder, || test(&snapshotter));
    }

    fn age(_: Option<Timestamp>) -> f64 {
        7.0
    }

    // A snapshot takes what it shows: each of these looks once.

    #[test]
    fn what_is_here_and_how_old_it_is_is_shown() {
        with_recorder(|snapshotter| {
            Namespaces::default().show(&total(10, 3), &[stats("x", 10, 3)], age);
            let all = snapshotter.snapshot().into_vec();
            let gauges: HashMap<_, _> = all
                .into_iter()
                .filter_map(|(key, _, _, value)| match value {
                    DebugValue::Gauge(value) => Some((key.key().name().to_owned(), value.into_inner())),
                    DebugValue::Counter(_) | DebugValue::Histogram(_) => None,
                })
                .collect();
            assert_eq!(gauges["taskbroker_in_flight"], 3.0);
            assert_eq!(gauges["taskbroker_namespace_oldest_pending_seconds"], 7.0);
            assert_eq!(gauges["taskbroker_namespace_oldest_unfinished_seconds"], 7.0);
        });
    }

    #[test]
    fn a_forgotten_namespace_stands_at_zero() {
        with_recorder(|snapshotter| {
            let mut namespaces = Namespaces::default();
            namespaces.show(&total(10, 3), &[stats("x", 10, 3)], age);
            namespaces.show(&total(12, 0), &[], age);
            assert_eq!(shown(snapshotter, "taskbroker_in_flight", None)["x"], 0.0);
        });
    }

    #[test]
    fn a_namespace_that_was_forgotten_counts_on_when_it_is_back_and_nothing_is_uncounted() {
        with_recorder(|snapshotter| {
            let mut namespaces = Namespaces::default();
            namespaces.show(&total(10, 3), &[stats("x", 10, 3)], age);
            // Two more came after the look, and all was finished; then it was forgotten.
            namespaces.show(&total(12, 0), &[], age);
            assert_eq!(namespaces.counted, events(&total(12, 0)));
            namespaces.show(&total(16, 1), &[stats("x", 4, 1)], age);
            let admitted = shown(snapshotter, "taskbroker_activations_total", Some("admitted"));
            assert_eq!((admitted["x"], admitted[OTHER]), (14.0, 2.0));
            assert_eq!(namespaces.counted, events(&total(16, 1)));
        });
    }

    #[test]
    fn a_namespace_that_was_forgotten_and_is_back_between_two_looks_counts_on() {
        with_recorder(|snapshotter| {
            let mut namespaces = Namespaces::default();
            namespaces.show(&total(10, 3), &[stats("x", 10, 3)], age);
            namespaces.show(&total(14, 1), &[stats("x", 4, 1)], age);
            assert_eq!(shown(snapshotter, "taskbroker_activations_total", Some("admitted"))["x"], 14.0);
        });
    }

    #[test]
    fn beyond_the_limit_namespaces_are_shown_together_and_nothing_is_uncounted() {
        with_recorder(|snapshotter| {
            let mut namespaces = Namespaces::default();
            let many: Vec<_> = (0..NAMED_MAX + 20).map(|index| stats(&format!("n{index}"), 5, 2)).collect();
            let count = many.len() as u64;
            namespaces.show(&total(5 * count, 2 * count), &many, age);
            let in_flight = shown(snapshotter, "taskbroker_in_flight", None);
            assert_eq!((in_flight.len(), in_flight[OTHER]), (NAMED_MAX + 1, 40.0));
            assert_eq!(namespaces.counted, events(&total(5 * count, 2 * count)));
        });
    }

    #[test]
    fn while_all_have_a_name_there_is_no_other() {
        with_recorder(|snapshotter| {
            Namespaces::default().show(&total(5, 2), &[stats("x", 5, 2)], age);
            assert!(!shown(snapshotter, "taskbroker_in_flight", None).contains_key(OTHER));
        });
    }
}
