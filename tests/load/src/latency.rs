//! Percentiles.

use std::time::Duration;

/// Samples in microseconds.
#[derive(Debug, Default)]
pub(crate) struct Latency(Vec<u32>);

impl Latency {
    pub(crate) fn record(&mut self, took: Duration) {
        self.0.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// `name: p50 / p99 / p99.9 / max us`.
    pub(crate) fn show(&mut self, name: &str) -> String {
        self.0.sort_unstable();
        let at = |share: f64| {
            let index = ((self.0.len() as f64 * share) as usize).min(self.0.len().saturating_sub(1));
            self.0.get(index).copied().unwrap_or(0)
        };
        format!("{name}: p50 {} p99 {} p99.9 {} max {} us (n={})", at(0.5), at(0.99), at(0.999), at(1.0), self.0.len())
    }
}
