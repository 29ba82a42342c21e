//! The runs that are under way: each a span, open from handing a task out until its worker's report.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use opentelemetry::Context;
use taskbroker_domain::{
    activation::ActivationId,
    time::{Now, Steady},
};
use tracing::{Span, field::Empty, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::{TARGET, task::Task};

/// How many runs are followed at once; of more only the beginning is seen. One or two kilobytes each.
pub(crate) const RUNS_MAX: usize = 4096;
/// For how many publications that are still to come it is remembered which run they belong to.
pub(crate) const SEQUELS_MAX: usize = 4096;
/// How long beyond its task's time limit a run is waited for, and how long a publication.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many runs that nobody reports on are closed at once, so that no worker waits for that.
const CLOSED_AT_ONCE: usize = 16;

/// The runs, by their tasks.
#[derive(Default)]
pub(crate) struct Runs(Mutex<Held>);

#[derive(Default)]
struct Held {
    under_way: HashMap<ActivationId, Run>,
    /// When each is given up.
    by_end: BTreeSet<(Steady, ActivationId)>,
    /// The runs that publications belong to, by the task that is published.
    sequels: HashMap<ActivationId, Context>,
    /// When each is forgotten.
    sequels_by_end: VecDeque<(Steady, ActivationId)>,
}

struct Run {
    span: Span,
    context: Context,
    attempt: u32,
    until: Steady,
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The work is done.
    Complete,
    /// It failed for good; its dead letter may follow.
    Failure,
    /// A retry follows.
    Retry,
    /// The worker certainly does not have it.
    Refused,
    /// Nobody took the answer.
    PutBack,
}

impl Ending {
    /// As spans say it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Failure => "failure",
            Self::Retry => "retry",
            Self::Refused => "refused",
            Self::PutBack => "put back",
        }
    }
}

impl Runs {
    /// The task is handed out. Returns the context for what belongs to the run.
    pub(crate) fn begin(&self, task: &Task, now: Now) -> Context {
        let span = run(task, now);
        let context = span.context();
        let until = now.steady.saturating_add(task.run_limit).saturating_add(PATIENCE);
        let mut given_up = Vec::new();
        let mut held = self.lock();
        held.give_up(now.steady, &mut given_up);
        given_up.extend(held.remove(&task.id).map(|run| run.span));
        let full = held.under_way.len() >= RUNS_MAX;
        if !full {
            held.by_end.insert((until, task.id.clone()));
            let run = Run { span: span.clone(), context: context.clone(), attempt: task.attempt, until };
            held.under_way.insert(task.id.clone(), run);
        }
        drop(held);
        for unreported in given_up {
            unreported.record("outcome", "no report");
        }
        if full {
            span.record("outcome", "not followed: too many runs at once");
        }
        context
    }

    /// The context of a task's run, as long as it lasts.
    pub(crate) fn context(&self, task: &ActivationId) -> Option<Context> {
        self.lock().under_way.get(task).map(|run| run.context.clone())
    }

    /// The context of the run that led to the publication of this task.
    pub(crate) fn context_of_sequel(&self, published: &ActivationId) -> Option<Context> {
        self.lock().sequels.get(published).cloned()
    }

    /// A run is over.
    pub(crate) fn end(&self, task: &ActivationId, ending: Ending, now: Now) {
        let mut held = self.lock();
        held.forget_sequels(now.steady);
        let Some(run) = held.remove(task) else { return };
        let published = match ending {
            Ending::Failure => Some(task.clone()),
            Ending::Retry => Some(task.retry(run.attempt.saturating_add(1))),
            Ending::Complete | Ending::Refused | Ending::PutBack => None,
        };
        if let Some(published) = published {
            held.sequels_by_end.push_back((now.steady.saturating_add(PATIENCE), published.clone()));
            held.sequels.insert(published, run.context.clone());
        }
        drop(held);
        run.span.record("outcome", ending.word());
        if ending == Ending::Failure {
            run.span.record("otel.status_code", "ERROR");
        }
    }

    /// Nothing more will be heard of any of them.
    pub(crate) fn end_all(&self) {
        let ended = std::mem::take(&mut *self.lock());
        for run in ended.under_way.into_values() {
            run.span.record("outcome", "the broker stopped");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Some of those that should have been reported on by now.
    fn give_up(&mut self, now: Steady, given_up: &mut Vec<Span>) {
        while given_up.len() < CLOSED_AT_ONCE {
            let Some((_, task)) = self.by_end.first().filter(|(until, _)| *until <= now).cloned() else { return };
            given_up.extend(self.remove(&task).map(|run| run.span));
        }
    }

    fn remove(&mut self, task: &ActivationId) -> Option<Run> {
        let run = self.under_way.remove(task)?;
        self.by_end.remove(&(run.until, task.clone()));
        Some(run)
    }

    fn forget_sequels(&mut self, now: Steady) {
        while self.sequels_by_end.front().is_some_and(|(until, _)| *until <= now)
            || self.sequels_by_end.len() >= SEQUELS_MAX
        {
            let Some((_, published)) = self.sequels_by_end.pop_front() else { return };
            self.sequels.remove(&published);
        }
    }
}

fn run(task: &Task, now: Now) -> Span {
    let waited = now.wall.since(task.received_at);
    let span = info_span!(
        target: TARGET,
        parent: None,
        "run",
        otel.name = format!("run {}:{}", task.namespace, task.name),
        otel.status_code = Empty,
        messaging.system = "taskbroker",
        messaging.message.id = &*task.id.text(),
        task.application = task.application,
        task.namespace = task.namespace,
        task.name = task.name,
        // Numbers only where they have a sign.
        task.attempt = i64::from(task.attempt),
        waited_ms = i64::try_from(waited.as_millis()).unwrap_or(i64::MAX),
        outcome = Empty,
    );
    if let Some(producer) = &task.producer {
        // It fails where nobody receives spans.
        span.set_parent(producer.clone()).ok();
    }
    span
}
