//! Counts what comes to workers, and measures the broker over a stretch of it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tokio::sync::Notify;

use crate::{
    activation::Task,
    latency::Latency,
    process::{self, Reading, Stretch},
    tally::Tally,
};

/// Which of the tasks that come are measured: those after the first `from`, up to `until`. All run until `total` came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    pub(crate) from: u64,
    pub(crate) until: u64,
    pub(crate) total: u64,
}

impl Range {
    /// So many, after as many as let the broker's queues settle, and with some left at the end, so that they do not run dry.
    pub(crate) fn amid(count: u64) -> Self {
        Self { from: SETTLING, until: SETTLING + count, total: SETTLING + count + REMAINDER }
    }
}

/// What a broker has taken in at most before workers come, by its default limits: 2,048 that wait and 10,000 that nobody asks for.
const SETTLING: u64 = 12_500;

/// More than wait at a time by the default limits.
const REMAINDER: u64 = 4_000;

/// What several workers write to.
#[derive(Debug)]
pub(crate) struct Meter {
    range: Range,
    pid: Option<u32>,
    state: Mutex<State>,
    done: Notify,
}

#[derive(Debug)]
struct State {
    tally: Tally,
    last: Instant,
    begun: Option<Reading>,
    ended: Option<Reading>,
    age: Latency,
    failed: Option<anyhow::Error>,
}

/// What was measured.
#[derive(Debug)]
pub(crate) struct Figures {
    /// How many tasks were measured.
    pub(crate) tasks: u64,
    pub(crate) stretch: Stretch,
    /// At its end.
    pub(crate) reading: Reading,
    /// From when they were produced until a worker had them.
    pub(crate) age: Latency,
    /// Of all, measured or not.
    pub(crate) tally: Tally,
}

impl Meter {
    /// Measures this process; without one, time only.
    pub(crate) fn new(range: Range, pid: Option<u32>) -> Result<Self> {
        let begun = (range.from == 0).then(|| reading(pid)).transpose()?;
        let state = State {
            tally: Tally::default(),
            last: Instant::now(),
            begun,
            ended: None,
            age: Latency::default(),
            failed: None,
        };
        Ok(Self { range, pid, state: Mutex::new(state), done: Notify::new() })
    }

    /// Takes note of a task that came to a worker. Returns whether more are to come.
    pub(crate) fn note(&self, task: &Task) -> bool {
        let mut state = self.state();
        state.tally.note(task);
        state.last = Instant::now();
        let taken = state.tally.taken();
        if let (Some(_), None, Some(age)) = (&state.begun, &state.ended, task.age()) {
            state.age.record(age);
        }
        if taken == self.range.from || taken == self.range.until {
            self.mark(&mut state, taken);
        }
        if taken >= self.range.total {
            self.done.notify_one();
        }
        taken < self.range.total
    }

    fn mark(&self, state: &mut State, taken: u64) {
        match reading(self.pid) {
            Ok(reading) if taken == self.range.until => state.ended = Some(reading),
            Ok(reading) => state.begun = Some(reading),
            Err(error) => state.failed = Some(error),
        }
    }

    /// Whether a call belongs to what is measured.
    pub(crate) fn measures(&self) -> bool {
        let state = self.state();
        state.begun.is_some() && state.ended.is_none()
    }

    pub(crate) fn is_done(&self) -> bool {
        self.state().tally.taken() >= self.range.total
    }

    /// Whether nothing has come for so long.
    pub(crate) fn is_quiet(&self, patience: Duration) -> bool {
        self.state().last.elapsed() > patience
    }

    /// Waits until all have come. Returns false when none came for too long.
    pub(crate) async fn wait(&self, patience: Duration) -> bool {
        while !self.is_done() {
            if self.is_quiet(patience) {
                return false;
            }
            tokio::time::timeout(Duration::from_millis(100), self.done.notified()).await.ok();
        }
        true
    }

    /// Ends the measurement, here if it has not reached its end.
    pub(crate) fn figures(&self) -> Result<Figures> {
        let mut state = self.state();
        if let Some(error) = state.failed.take() {
            return Err(error);
        }
        let taken = state.tally.taken();
        let begun = state.begun.with_context(|| format!("only {taken} of {} tasks came", self.range.total))?;
        let reading = state.ended.map_or_else(|| reading(self.pid), Ok)?;
        Ok(Figures {
            tasks: taken.min(self.range.until) - self.range.from,
            stretch: Stretch::between(&begun, &reading),
            reading,
            age: state.age.clone(),
            tally: state.tally.clone(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn reading(pid: Option<u32>) -> Result<Reading> {
    match pid {
        Some(pid) => process::read(pid),
        None => Ok(Reading { at: Instant::now(), cpu_ms: 0, written: 0, peak_kib: 0, resident_kib: 0 }),
    }
}

impl Figures {
    /// Tasks per second.
    pub(crate) fn rate(&self) -> f64 {
        self.tasks as f64 / self.stretch.took_s
    }

    /// Milliseconds of the broker's CPU per 1,000 tasks.
    pub(crate) fn cpu_ms(&self) -> f64 {
        self.stretch.cpu_ms * 1e3 / self.tasks.max(1) as f64
    }

    /// Bytes the broker wrote per task, in KB.
    pub(crate) fn written_kb(&self) -> f64 {
        self.stretch.written / 1e3 / self.tasks.max(1) as f64
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (tasks, took_s) = (self.tasks, self.stretch.took_s);
        writeln!(f, "{tasks} tasks in {took_s:.2} s: {:.0}/s", self.rate())?;
        writeln!(
            f,
            "different: {}, repeated: {}, strangers: {}",
            self.tally.distinct, self.tally.repeated, self.tally.strangers
        )?;
        writeln!(f, "produced to worker: {}", self.age)?;
        write!(
            f,
            "broker: {:.1} ms CPU per 1,000 tasks, {:.2} KB written per task, {} MiB resident, {} MiB at most",
            self.cpu_ms(),
            self.written_kb(),
            self.reading.resident_kib / 1024,
            self.reading.peak_kib / 1024
        )
    }
}
