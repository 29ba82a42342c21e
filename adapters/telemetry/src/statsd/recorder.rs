//! Records each metric for Prometheus, and those that have an earlier name for DogStatsD as well.

use std::sync::Arc;

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use metrics_exporter_prometheus::PrometheusRecorder;
use metrics_util::registry::{AtomicStorage, Registry};

use super::names;

/// What is recorded for DogStatsD, under our names.
pub(crate) type Series = Registry<Key, AtomicStorage>;

/// Both recorders.
pub(crate) struct Fanout {
    prometheus: PrometheusRecorder,
    statsd: Arc<Series>,
}

impl Fanout {
    pub(crate) fn new(prometheus: PrometheusRecorder, statsd: Arc<Series>) -> Self {
        Self { prometheus, statsd }
    }
}

/// A handle that records twice.
struct Both<A, B>(A, B);

impl<B: CounterFn> CounterFn for Both<Counter, B> {
    fn increment(&self, value: u64) {
        self.0.increment(value);
        self.1.increment(value);
    }

    fn absolute(&self, value: u64) {
        self.0.absolute(value);
        self.1.absolute(value);
    }
}

impl<B: GaugeFn> GaugeFn for Both<Gauge, B> {
    fn increment(&self, value: f64) {
        self.0.increment(value);
        self.1.increment(value);
    }

    fn decrement(&self, value: f64) {
        self.0.decrement(value);
        self.1.decrement(value);
    }

    fn set(&self, value: f64) {
        self.0.set(value);
        self.1.set(value);
    }
}

impl<B: HistogramFn> HistogramFn for Both<Histogram, B> {
    fn record(&self, value: f64) {
        self.0.record(value);
        self.1.record(value);
    }
}

impl Recorder for Fanout {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.prometheus.describe_counter(key, unit, description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.prometheus.describe_gauge(key, unit, description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.prometheus.describe_histogram(key, unit, description);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        let ours = self.prometheus.register_counter(key, metadata);
        if !names::has_any(key) {
            return ours;
        }
        let theirs = self.statsd.get_or_create_counter(key, Arc::clone);
        Counter::from_arc(Arc::new(Both(ours, theirs)))
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        let ours = self.prometheus.register_gauge(key, metadata);
        if !names::has_any(key) {
            return ours;
        }
        let theirs = self.statsd.get_or_create_gauge(key, Arc::clone);
        Gauge::from_arc(Arc::new(Both(ours, theirs)))
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        let ours = self.prometheus.register_histogram(key, metadata);
        if !names::has_any(key) {
            return ours;
        }
        let theirs = self.statsd.get_or_create_histogram(key, Arc::clone);
        Histogram::from_arc(Arc::new(Both(ours, theirs)))
    }
}
