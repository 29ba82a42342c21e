//! The ports, with an eye on the tasks that are followed.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry::Context;
use taskbroker_domain::{
    activation::ActivationId,
    ports::{
        outbox::{Destination, Message, Outbox, PublishError},
        service::{Offer, Report, Reported, TaskService, Unavailable, Verdict, Wanted},
        worker::{Offered, WorkerGateway},
    },
};
use tracing::{Span, field::Empty, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::{Following, TARGET, runs::Ending, task::Task};

pub(crate) struct TracedTasks {
    pub(crate) inner: Arc<dyn TaskService>,
    pub(crate) following: Arc<Following>,
}

impl TracedTasks {
    fn follow(&self, offer: Offer) -> Offer {
        let following = &self.following;
        let Some(task) = following.share.followed(offer.activation()) else { return offer };
        following.runs.begin(&task, following.clock.now());
        let following = following.clone();
        offer.and_when_put_back(move || following.end(&task.id, Ending::PutBack))
    }

    /// What a worker says of a task that is followed.
    fn reporting(&self, report: &Report) -> Option<Span> {
        let run = self.following.runs.context(&report.id)?;
        let span = info_span!(
            target: TARGET,
            parent: None,
            "report",
            otel.kind = "server",
            otel.status_code = Empty,
            messaging.message.id = &*report.id.text(),
            verdict = ending(&report.verdict).word(),
            answer = Empty,
        );
        Some(below(run, span))
    }

    fn reported(&self, report: &Report, span: Option<Span>, answer: Result<Reported, &Unavailable>) {
        let Some(span) = span else { return };
        match answer {
            Ok(reported) => {
                span.record("answer", word(reported));
                drop(span);
                if reported == Reported::Settled {
                    self.following.end(&report.id, ending(&report.verdict));
                }
            }
            Err(unavailable) => fail(&span, "answer", &unavailable.reason),
        }
    }
}

#[async_trait]
impl TaskService for TracedTasks {
    async fn fetch(&self, wanted: Wanted) -> Result<Option<Offer>, Unavailable> {
        let offer = self.inner.fetch(wanted).await?;
        Ok(offer.map(|offer| self.follow(offer)))
    }

    async fn report(&self, report: Report) -> Result<Reported, Unavailable> {
        let span = self.reporting(&report);
        let answer = self.inner.report(report.clone()).await;
        self.reported(&report, span, answer.as_ref().copied());
        answer
    }

    async fn report_all(&self, reports: Vec<Report>) -> Result<Vec<Reported>, Unavailable> {
        let followed: Vec<_> = reports.iter().map(|report| self.reporting(report)).collect();
        if followed.iter().all(Option::is_none) {
            return self.inner.report_all(reports).await;
        }
        let answers = self.inner.report_all(reports.clone()).await;
        for (place, (report, span)) in reports.iter().zip(followed).enumerate() {
            match &answers {
                Ok(answers) => {
                    let answer = answers.get(place).copied().unwrap_or(Reported::Unknown);
                    self.reported(report, span, Ok(answer));
                }
                Err(unavailable) => self.reported(report, span, Err(unavailable)),
            }
        }
        answers
    }
}

pub(crate) struct TracedGateway {
    pub(crate) inner: Arc<dyn WorkerGateway>,
    pub(crate) following: Arc<Following>,
}

#[async_trait]
impl WorkerGateway for TracedGateway {
    async fn offer(&self, application: &str, activation: Bytes) -> Offered {
        let Some(task) = self.following.share.followed(&activation) else {
            return self.inner.offer(application, activation).await;
        };
        // A quick worker reports before its call is answered, so the run begins before that.
        let run = self.following.runs.begin(&task, self.following.clock.now());
        let span = info_span!(
            target: TARGET,
            parent: None,
            "offer",
            otel.kind = "client",
            otel.status_code = Empty,
            messaging.message.id = &*task.id.text(),
            task.application = application,
            outcome = Empty,
        );
        let span = below(run, span);
        let offered = self.inner.offer(application, activation).await;
        match &offered {
            Offered::Delivered => _ = span.record("outcome", "delivered"),
            Offered::Unknown(reason) => fail(&span, "outcome", &format!("in doubt: {reason}")),
            Offered::Refused(refused) => {
                fail(&span, "outcome", &format!("the worker {refused}"));
                drop(span);
                self.following.end(&task.id, Ending::Refused);
            }
        }
        offered
    }

    async fn probe(&self, application: &str) -> Result<(), String> {
        self.inner.probe(application).await
    }
}

pub(crate) struct TracedOutbox {
    pub(crate) inner: Arc<dyn Outbox>,
    pub(crate) following: Arc<Following>,
}

impl TracedOutbox {
    /// What is published, if it is followed, and what it belongs to: the run that led to it, else the trace of its producer.
    fn followed(&self, message: &Message) -> Option<(Task, Option<Context>)> {
        let Following { share, runs, .. } = &*self.following;
        // A retry has an id of its own, and with it another lot: it is followed if the run before it was.
        let share = if message.destination == Destination::Retry { share.or_all() } else { *share };
        let task = share.followed(&message.payload)?;
        let run = runs.context_of_sequel(&task.id);
        if run.is_none() && message.destination == Destination::Retry {
            return None;
        }
        let context = run.or_else(|| task.producer.clone());
        Some((task, context))
    }
}

#[async_trait]
impl Outbox for TracedOutbox {
    async fn publish(&self, message: Message) -> Result<(), PublishError> {
        let Some((task, context)) = self.followed(&message) else { return self.inner.publish(message).await };
        let span = info_span!(
            target: TARGET,
            parent: None,
            "publish",
            otel.name = format!("publish {}", name(message.destination)),
            otel.kind = "producer",
            otel.status_code = Empty,
            messaging.message.id = &*task.id.text(),
            task.namespace = task.namespace,
            task.name = task.name,
            outcome = Empty,
        );
        let span = match context {
            Some(context) => below(context, span),
            None => span,
        };
        let published = self.inner.publish(message).await;
        match &published {
            Ok(()) => _ = span.record("outcome", "durable"),
            Err(error) => fail(&span, "outcome", &error.to_string()),
        }
        published
    }
}

impl Following {
    fn end(&self, task: &ActivationId, ending: Ending) {
        self.runs.end(task, ending, self.clock.now());
    }
}

/// The span as a part of what this context is of.
fn below(context: Context, span: Span) -> Span {
    // It fails where nobody receives spans.
    span.set_parent(context).ok();
    span
}

fn fail(span: &Span, field: &str, reason: &str) {
    span.record(field, reason);
    span.record("otel.status_code", "ERROR");
}

fn ending(verdict: &Verdict) -> Ending {
    match verdict {
        Verdict::Complete => Ending::Complete,
        Verdict::Failure => Ending::Failure,
        Verdict::Retry(_) => Ending::Retry,
    }
}

fn word(reported: Reported) -> &'static str {
    match reported {
        Reported::Settled => "settled",
        Reported::Remembered => "remembered",
        Reported::Unknown => "unknown",
        Reported::Refused => "refused",
    }
}

fn name(destination: Destination) -> &'static str {
    match destination {
        Destination::Retry => "retry",
        Destination::DeadLetter => "dead letter",
        Destination::Forward => "forwarded copy",
    }
}
