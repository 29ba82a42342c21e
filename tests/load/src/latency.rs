//! Percentiles.

use std::{fmt, time::Duration};

use hdrhistogram::Histogram;

/// The longest that is told apart, in nanoseconds: ten minutes.
const LONGEST_NS: u64 = 600_000_000_000;

/// Durations, kept to three digits.
#[derive(Clone, Debug)]
pub(crate) struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("the bounds and three digits are allowed"))
    }
}

impl Latency {
    pub(crate) fn record(&mut self, took: Duration) {
        self.0.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Below which this share of them (0 to 1) lies, in microseconds.
    pub(crate) fn us(&self, share: f64) -> f64 {
        self.0.value_at_quantile(share) as f64 / 1e3
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, p999, most] = [0.5, 0.99, 0.999, 1.0].map(|share| self.us(share));
        write!(f, "p50 {p50:.0} p99 {p99:.0} p99.9 {p999:.0} max {most:.0} us (n={})", self.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_in_microseconds_and_what_is_too_long_counts_as_the_longest() {
        let mut latency = Latency::default();
        for ms in 1..=99 {
            latency.record(Duration::from_millis(ms));
        }
        latency.record(Duration::from_secs(3_600));
        assert!((latency.us(0.5) - 50_000.0).abs() < 100.0, "{latency}");
        assert!((latency.us(0.99) - 99_000.0).abs() < 100.0, "{latency}");
        assert!((latency.us(1.0) - 600_000_000.0).abs() < 1_000_000.0, "{latency}");
    }
}
