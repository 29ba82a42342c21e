//! What the kernel says of the broker's process.

use std::{fs, time::Instant};

use anyhow::{Context, Result};

/// Readings of one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) at: Instant,
    /// CPU time, in milliseconds; ticks are 10 ms.
    pub(crate) cpu_ms: u64,
    /// Bytes sent to the disk.
    pub(crate) written: u64,
    /// The largest resident set, in KiB.
    pub(crate) peak_kib: u64,
    /// The present resident set, in KiB.
    pub(crate) resident_kib: u64,
}

pub(crate) fn read(pid: u32) -> Result<Reading> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid}"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    Ok(Reading {
        at: Instant::now(),
        cpu_ms: (ticks(11) + ticks(12)) * 10,
        written: value(&io, "write_bytes:"),
        peak_kib: value(&status, "VmHWM:"),
        resident_kib: value(&status, "VmRSS:"),
    })
}

fn value(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Between two readings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch {
    /// In seconds.
    pub(crate) took_s: f64,
    /// Milliseconds of CPU.
    pub(crate) cpu_ms: f64,
    /// Bytes sent to the disk.
    pub(crate) written: f64,
}

impl Stretch {
    pub(crate) fn between(from: &Reading, to: &Reading) -> Self {
        Self {
            took_s: (to.at - from.at).as_secs_f64(),
            cpu_ms: to.cpu_ms.saturating_sub(from.cpu_ms) as f64,
            written: to.written.saturating_sub(from.written) as f64,
        }
    }

    /// Of one core, in percent.
    pub(crate) fn cpu_percent(&self) -> f64 {
        self.cpu_ms / self.took_s / 10.0
    }
}
