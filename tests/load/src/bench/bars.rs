//! The lines of the table: what is measured, what it must reach, and what the floor beside it is.

use super::samples::Samples;

/// A line of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    pub(crate) what: &'static str,
    /// The quantity that is shown.
    pub(crate) quantity: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) bar: Bar,
    /// The quantity that no broker can better.
    pub(crate) floor: Option<&'static str>,
}

/// What must be reached.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bar {
    AtLeast(f64),
    AtMost(f64),
    /// So many times another quantity.
    AtLeastTimes(f64, &'static str),
    AtMostTimes(f64, &'static str),
    /// So much more than another quantity.
    AtMostBeyond(f64, &'static str),
    /// It is only told.
    None,
}

impl Bar {
    /// As a number, and whether more is better. None where there is no bar, or what it depends on was not measured.
    pub(crate) fn value(self, samples: &Samples) -> Option<f64> {
        match self {
            Self::AtLeast(value) | Self::AtMost(value) => Some(value),
            Self::AtLeastTimes(times, of) | Self::AtMostTimes(times, of) => samples.median(of).map(|of| of * times),
            Self::AtMostBeyond(more, than) => samples.median(than).map(|than| than + more),
            Self::None => None,
        }
    }

    /// Whether a value reaches it.
    pub(crate) fn is_met(self, value: f64, samples: &Samples) -> Option<bool> {
        let bar = self.value(samples)?;
        Some(match self {
            Self::AtLeast(_) | Self::AtLeastTimes(..) => value >= bar,
            Self::AtMost(_) | Self::AtMostTimes(..) | Self::AtMostBeyond(..) | Self::None => value <= bar,
        })
    }

    /// Before the number.
    pub(crate) fn sign(self) -> &'static str {
        match self {
            Self::AtLeast(_) | Self::AtLeastTimes(..) => ">=",
            Self::AtMost(_) | Self::AtMostTimes(..) | Self::AtMostBeyond(..) => "<=",
            Self::None => "",
        }
    }
}

const fn line(
    what: &'static str,
    quantity: &'static str,
    unit: &'static str,
    bar: Bar,
    floor: Option<&'static str>,
) -> Line {
    Line { what, quantity, unit, bar, floor }
}

const PER_S: &str = "tasks/s";
const CPU: &str = "ms/1,000";
const KB: &str = "KB/task";

/// All of them, in order.
pub(crate) const LINES: [Line; 34] = [
    line("the disk: 4 KiB, synced, p50", "disk.p50", "ms", Bar::None, None),
    line("- p99", "disk.p99", "ms", Bar::None, None),
    line("pull, 64 workers on 4 connections", "pull-64.rate", PER_S, Bar::AtLeast(15_000.0), Some("empty-64.rate")),
    line("- CPU", "pull-64.cpu", CPU, Bar::AtMost(45.0), Some("empty-64.cpu")),
    line("- written, settled within the window", "pull-64.written", KB, Bar::AtMost(0.5), None),
    line("- the same, every task a row", "pull-64-rows.rate", PER_S, Bar::None, None),
    line("- CPU", "pull-64-rows.cpu", CPU, Bar::AtMost(60.0), Some("empty-64.cpu")),
    line("- written", "pull-64-rows.written", KB, Bar::AtMost(3.0), None),
    line("pull, 16 workers on 4 connections", "pull-16.rate", PER_S, Bar::AtLeast(10_000.0), Some("empty-16.rate")),
    line("- CPU", "pull-16.cpu", CPU, Bar::AtMost(70.0), Some("empty-16.cpu")),
    line("pull, 500 workers on 32 connections", "pull-500.rate", PER_S, Bar::None, None),
    line("- CPU", "pull-500.cpu", CPU, Bar::AtMostTimes(1.2, "pull-64.cpu"), Some("empty-500.cpu")),
    line("- the same on 500 connections: CPU", "pull-500-alone.cpu", CPU, Bar::None, Some("empty-500-alone.cpu")),
    line("push, batches of 64", "push.rate", PER_S, Bar::AtLeast(15_000.0), None),
    line("- CPU", "push.cpu", CPU, Bar::AtMost(45.0), Some("empty-64.cpu")),
    line("ingest, Kafka to durable rows", "ingest.rate", "rows/s", Bar::AtLeast(70_000.0), Some("sqlite.rate")),
    line("- against SQLite alone", "ingest.rate", "rows/s", Bar::AtLeastTimes(0.6, "sqlite.rate"), Some("sqlite.rate")),
    line("- CPU", "ingest.cpu", CPU, Bar::None, None),
    line("- written", "ingest.written", KB, Bar::None, None),
    line("pull with 1,000 waiting: CPU", "few.cpu", CPU, Bar::None, Some("empty-64.cpu")),
    line("pull with a backlog: CPU", "waiting.cpu", CPU, Bar::AtMostTimes(1.15, "few.cpu"), Some("empty-64.cpu")),
    line("- rate", "waiting.rate", PER_S, Bar::None, None),
    line("latency at 1,000/s, p50", "latency.p50", "ms", Bar::AtMostBeyond(3.0, "kafka.p50"), Some("kafka.p50")),
    line("- p99", "latency.p99", "ms", Bar::AtMostBeyond(10.0, "kafka.p99"), Some("kafka.p99")),
    line("- p99.9", "latency.p999", "ms", Bar::None, Some("kafka.p999")),
    line("GetTask at half the maximum load, p50", "half.p50", "us", Bar::None, Some("half-empty.p50")),
    line("- p99", "half.p99", "us", Bar::AtMostTimes(2.0, "half-empty.p99"), Some("half-empty.p99")),
    line("- p99.9", "half.p999", "us", Bar::None, Some("half-empty.p999")),
    line("idle, 16 workers polling every 100 ms", "idle.polled", "% of a core", Bar::AtMost(2.0), Some("idle.empty")),
    line("- without workers", "idle.alone", "% of a core", Bar::AtMost(0.5), None),
    line("memory at start", "memory.start", "MB", Bar::AtMost(60.0), None),
    line("- per waiting task beside the payloads", "memory.waiting", "bytes", Bar::AtMost(400.0), None),
    line("- at most, with a backlog", "memory.peak", "MB", Bar::None, None),
    line("start with a backlog, first task", "start.first", "s", Bar::AtMost(5.0), None),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_judged_by_the_median_of_what_it_names() {
        let mut samples = Samples::default();
        samples.add("floor", 10.0);
        assert_eq!(Bar::AtMostTimes(2.0, "floor").is_met(20.0, &samples), Some(true));
        assert_eq!(Bar::AtMostTimes(2.0, "floor").is_met(20.1, &samples), Some(false));
        assert_eq!(Bar::AtMostBeyond(3.0, "floor").is_met(13.1, &samples), Some(false));
        assert_eq!(Bar::AtLeastTimes(0.6, "floor").is_met(5.9, &samples), Some(false));
        assert_eq!(Bar::AtLeast(5.0).is_met(5.0, &samples), Some(true));
        assert_eq!(Bar::AtMostTimes(2.0, "not measured").is_met(1.0, &samples), None);
    }
}
