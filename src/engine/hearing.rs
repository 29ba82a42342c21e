//! When something was last heard of a topic.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use taskbroker_domain::{ports::source::SourceEvent, time::Steady};

/// What a source lets hear.
#[derive(Debug)]
pub(super) struct Hearing {
    /// In steady milliseconds.
    last: AtomicU64,
    /// Kafka does not answer: nothing is to be heard.
    away: AtomicBool,
}

impl Hearing {
    pub(super) fn new(now: Steady) -> Self {
        Self { last: AtomicU64::new(now.as_millis()), away: AtomicBool::new(false) }
    }

    /// It was read, or there is no room to read it.
    pub(super) fn heard(&self, now: Steady) {
        self.last.store(now.as_millis(), Ordering::Relaxed);
    }

    /// The source told this. Answers to commits say nothing of reading.
    pub(super) fn event(&self, event: &SourceEvent, now: Steady) {
        match event {
            SourceEvent::Committed { .. } | SourceEvent::CommitFailed { .. } => return,
            SourceEvent::Connection { up } => self.away.store(!up, Ordering::Relaxed),
            SourceEvent::Records { .. }
            | SourceEvent::End { .. }
            | SourceEvent::Assigned { .. }
            | SourceEvent::OutOfRange(_)
            | SourceEvent::Revoking { .. }
            | SourceEvent::Lost { .. } => {}
        }
        self.heard(now);
    }

    /// How long nothing was heard; `None`: Kafka is away.
    pub(super) fn nothing_for(&self, now: Steady) -> Option<Duration> {
        let last = Steady::from_millis(self.last.load(Ordering::Relaxed));
        (!self.away.load(Ordering::Relaxed)).then(|| now.since(last))
    }
}
