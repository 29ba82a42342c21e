//! What was recorded, as lines.

use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::Ordering,
};

use metrics::Key;

use super::{
    lines::{Kind, Lines},
    names::{self, Named},
    recorder::Series,
};

/// How many values of a histogram are sent at a time; of more, so many are chosen evenly, and their rate is told. 256 give a
/// percentile that can be trusted, and bound what the network carries.
const SAMPLES_MAX: usize = 256;

/// What counters stood at when they were last sent.
#[derive(Default)]
pub(super) struct Snapshot {
    counted: HashMap<Key, u64>,
}

/// Values under one of their names: several of our series may share it.
type Sums = BTreeMap<Named, f64>;

impl Snapshot {
    /// Adds what was recorded since the last time.
    pub(super) fn collect(&mut self, series: &Series, lines: &mut Lines) {
        self.counters(series, lines);
        gauges(series, lines);
        series.visit_histograms(|key, values| {
            let mut recorded = Vec::new();
            values.clear_with(|block| recorded.extend_from_slice(block));
            histogram(key, &recorded, lines);
        });
    }

    #[expect(clippy::cast_precision_loss, reason = "a difference within a second is far below 2^53")]
    fn counters(&mut self, series: &Series, lines: &mut Lines) {
        let mut sums = Sums::new();
        series.visit_counters(|key, counter| {
            let value = counter.load(Ordering::Relaxed);
            let before = self.counted.insert(key.clone(), value).unwrap_or(0);
            let grown = value.saturating_sub(before);
            if grown > 0 {
                add(&mut sums, key, grown as f64);
            }
        });
        put(&sums, Kind::Counter, lines);
    }
}

fn gauges(series: &Series, lines: &mut Lines) {
    let mut sums = Sums::new();
    series.visit_gauges(|key, gauge| add(&mut sums, key, f64::from_bits(gauge.load(Ordering::Relaxed))));
    put(&sums, Kind::Gauge, lines);
}

fn add(sums: &mut Sums, key: &Key, value: f64) {
    for (named, scale) in names::of(key) {
        *sums.entry(named).or_insert(0.0) += value * scale;
    }
}

fn put(sums: &Sums, kind: Kind, lines: &mut Lines) {
    for (named, value) in sums {
        lines.put(named.name, kind, *value, 1.0, named.tags());
    }
}

#[expect(clippy::cast_precision_loss, reason = "no second has 2^53 values")]
fn histogram(key: &Key, recorded: &[f64], lines: &mut Lines) {
    let step = recorded.len().div_ceil(SAMPLES_MAX).max(1);
    let chosen: Vec<f64> = recorded.iter().copied().step_by(step).collect();
    let rate = chosen.len() as f64 / recorded.len().max(1) as f64;
    for (named, scale) in names::of(key) {
        for value in &chosen {
            lines.put(named.name, Kind::Histogram, value * scale, rate, named.tags());
        }
    }
}

#[cfg(test)]
mod tests {
    use metrics::{CounterFn, GaugeFn, HistogramFn, Label};

    use super::*;

    fn key(name: &'static str, labels: &[(&'static str, &'static str)]) -> Key {
        Key::from_parts(name, labels.iter().map(|(key, value)| Label::new(*key, *value)).collect::<Vec<_>>())
    }

    fn collect(snapshot: &mut Snapshot, series: &Series) -> Vec<String> {
        let mut lines = Lines::new(&BTreeMap::new());
        snapshot.collect(series, &mut lines);
        lines.datagrams().iter().flat_map(|datagram| datagram.lines()).map(str::to_owned).collect()
    }

    #[test]
    fn counters_are_sent_as_what_they_grew_by_and_only_then() {
        let (series, mut snapshot) = (Series::atomic(), Snapshot::default());
        let labels = |namespace| [("application", "a"), ("namespace", namespace), ("event", "completed")];
        let counter = |namespace| key("taskbroker_activations_total", &labels(namespace));
        series.get_or_create_counter(&counter("x"), |counter| CounterFn::increment(counter, 3));
        series.get_or_create_counter(&counter("y"), |counter| CounterFn::increment(counter, 4));
        assert_eq!(collect(&mut snapshot, &series), ["taskbroker.upkeep.task.state_transition:7|c|#state:completed"]);
        assert!(collect(&mut snapshot, &series).is_empty());
        series.get_or_create_counter(&counter("x"), |counter| CounterFn::increment(counter, 1));
        assert_eq!(collect(&mut snapshot, &series), ["taskbroker.upkeep.task.state_transition:1|c|#state:completed"]);
    }

    #[test]
    fn gauges_are_sent_each_time_and_add_up_under_one_name() {
        let (series, mut snapshot) = (Series::atomic(), Snapshot::default());
        for partition in ["0", "1", "2"] {
            let assigned = key("taskbroker_kafka_assigned", &[("topic", "t"), ("partition", partition)]);
            series.get_or_create_gauge(&assigned, |gauge| gauge.set(1.0));
        }
        for _ in 0..2 {
            assert_eq!(collect(&mut snapshot, &series), ["taskbroker.arroyo.consumer.current_partitions:3|g|#topic:t"]);
        }
    }

    #[test]
    fn histograms_are_sent_value_by_value_in_their_unit_and_sampled_beyond_a_limit() {
        let (series, mut snapshot) = (Series::atomic(), Snapshot::default());
        let waited = key("taskbroker_wait_seconds", &[]);
        series.get_or_create_histogram(&waited, |histogram| histogram.record(0.5));
        assert_eq!(collect(&mut snapshot, &series), ["taskbroker.grpc_server.received_to_gettask.latency:500|h"]);
        series.get_or_create_histogram(&waited, |histogram| (0..1024).for_each(|_| histogram.record(1.0)));
        let lines = collect(&mut snapshot, &series);
        assert_eq!(lines.len(), SAMPLES_MAX);
        assert!(lines.iter().all(|line| line.ends_with("latency:1000|h|@0.25")), "{}", lines[0]);
        assert!(collect(&mut snapshot, &series).is_empty(), "values are sent once");
    }
}
