//! Holds back lines that repeat, and sums them up.

use std::{
    cell::Cell,
    fmt::{self, Write as _},
    hash::{Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use taskbroker_domain::ports::clock::Clock;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

use super::repeats::{HeldBack, Repeats};

/// Drops events whose target and message came too often lately.
pub(super) struct RepeatLimit(Arc<Shared>);

/// Writes how often lines were held back.
pub(super) struct Summaries(Arc<Shared>);

struct Shared {
    clock: Arc<dyn Clock>,
    repeats: Mutex<Repeats<Line>>,
}

/// A line: two are the same if target and message are. The fields may differ.
struct Line {
    metadata: &'static Metadata<'static>,
    message: String,
}

thread_local! {
    /// A summary is being written on this thread: it is not a line to be counted.
    static SUMMARISING: Cell<bool> = const { Cell::new(false) };
}

impl RepeatLimit {
    pub(super) fn new(clock: Arc<dyn Clock>, repeats_max: u32, interval: Duration) -> (Self, Summaries) {
        let repeats = Mutex::new(Repeats::new(repeats_max, interval));
        let shared = Arc::new(Shared { clock, repeats });
        (Self(Arc::clone(&shared)), Summaries(shared))
    }
}

impl<S: Subscriber> Layer<S> for RepeatLimit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        if *event.metadata().level() > Level::INFO || SUMMARISING.get() {
            return true;
        }
        let Some(message) = message(event) else { return true };
        let line = Line { metadata: event.metadata(), message };
        let now = self.0.clock.now().steady;
        self.0.repeats().admit(line, now)
    }
}

impl Summaries {
    /// Writes those whose interval is over.
    pub(super) fn write_due(&self) {
        let now = self.0.clock.now().steady;
        let due = self.0.repeats().due(now);
        write(due);
    }

    /// Writes all.
    pub(super) fn write_all(&self) {
        let all = self.0.repeats().all();
        write(all);
    }
}

impl Shared {
    fn repeats(&self) -> MutexGuard<'_, Repeats<Line>> {
        self.repeats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write(lines: Vec<HeldBack<Line>>) {
    SUMMARISING.set(true);
    for HeldBack { line, times } in lines {
        line.write_summary(times);
    }
    SUMMARISING.set(false);
}

impl Line {
    /// Logs it once more, with level and target of its own, saying how often it was held back.
    fn write_summary(&self, times: u32) {
        let fields = self.metadata.fields();
        let Some(field) = fields.field(MESSAGE) else { return };
        let text = format_args!("{} … repeated {times} times", self.message);
        Event::dispatch(self.metadata, &fields.value_set(&[(&field, Some(&text as &dyn tracing::Value))]));
    }
}

impl PartialEq for Line {
    fn eq(&self, other: &Self) -> bool {
        self.metadata.target() == other.metadata.target() && self.message == other.message
    }
}

impl Eq for Line {}

impl Hash for Line {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.metadata.target().hash(state);
        self.message.hash(state);
    }
}

/// The field in which tracing's macros keep the text.
const MESSAGE: &str = "message";

fn message(event: &Event<'_>) -> Option<String> {
    let mut found = Message(None);
    event.record(&mut found);
    found.0
}

struct Message(Option<String>);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == MESSAGE {
            let mut text = String::new();
            // Writing to a string cannot fail; a value that refuses to be shown is a line like any other.
            let _ = write!(text, "{value:?}");
            self.0 = Some(text);
        }
    }
}
