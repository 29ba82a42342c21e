//! What a trace says of a task, whether it is followed, and which trace it continues.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use bytes::Bytes;
use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState},
};
use prost::Message;
use taskbroker_domain::{
    activation::{ActivationId, ID_MAX_BYTES},
    time::Timestamp,
};
use taskbroker_proto::{
    codec::{NAME_MAX_BYTES, RUN_LIMIT_MAX},
    pb::TaskActivation,
};

/// The share of tasks that are followed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share(u64);

impl Share {
    /// From the share as a number from 0 to 1; what lies outside counts as the nearer of them.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates, which is meant")]
    pub(crate) fn new(rate: f64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a share need not be exact")]
        let of = u64::MAX as f64;
        Self((rate * of) as u64)
    }

    /// All, unless it is nothing.
    pub(crate) fn or_all(self) -> Self {
        if self.0 == 0 { self } else { Self(u64::MAX) }
    }

    /// Each id has its lot: the same at each step of its task.
    fn has(self, id: &str) -> bool {
        let mut lot = DefaultHasher::new();
        id.hash(&mut lot);
        self.0 == u64::MAX || lot.finish() < self.0
    }

    /// The task in these bytes, if it is followed. A task whose producer has decided against a trace is not.
    pub(crate) fn followed(self, activation: &Bytes) -> Option<Task> {
        if self.0 == 0 {
            return None;
        }
        let activation = TaskActivation::decode(activation.clone()).ok()?;
        if !self.has(&activation.id) || !is_sane(&activation) {
            return None;
        }
        let producer = producer(&activation);
        if producer.as_ref().is_some_and(|producer| !producer.is_sampled()) {
            return None;
        }
        Some(Task::new(activation, producer))
    }
}

/// A task that is followed.
pub(crate) struct Task {
    pub(crate) id: ActivationId,
    pub(crate) application: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) attempt: u32,
    pub(crate) received_at: Timestamp,
    pub(crate) run_limit: Duration,
    /// The span in which it was produced.
    pub(crate) producer: Option<Context>,
}

impl Task {
    fn new(activation: TaskActivation, producer: Option<SpanContext>) -> Self {
        let at = activation.received_at.unwrap_or_default();
        let received_ms = at.seconds.saturating_mul(1000).saturating_add(i64::from(at.nanos) / 1_000_000);
        Self {
            id: ActivationId::new(activation.id),
            application: activation.application.unwrap_or_default(),
            namespace: activation.namespace,
            name: activation.taskname,
            attempt: activation.retry_state.map_or(0, |state| state.attempts),
            received_at: Timestamp::from_millis(received_ms),
            run_limit: Duration::from_secs(activation.processing_deadline_duration).min(RUN_LIMIT_MAX),
            producer: producer.map(|producer| Context::new().with_remote_span_context(producer)),
        }
    }
}

/// Whether its names are such as a task can have. What is published need not be: a dead letter may be there for its names.
fn is_sane(activation: &TaskActivation) -> bool {
    let application = activation.application.as_deref().unwrap_or_default();
    let names = [application, &activation.namespace, &activation.taskname];
    (1..=ID_MAX_BYTES).contains(&activation.id.len()) && names.iter().all(|name| name.len() <= NAME_MAX_BYTES)
}

/// The producer's span: W3C's `traceparent`, else Sentry's `sentry-trace`. What cannot be understood is none.
fn producer(activation: &TaskActivation) -> Option<SpanContext> {
    let header = |name| activation.headers.get(name).map(String::as_str);
    header("traceparent").and_then(w3c).or_else(|| header("sentry-trace").and_then(sentry))
}

/// `00-<trace>-<span>-<flags>`; a later version may have more (<https://www.w3.org/TR/trace-context/#versioning-of-traceparent>).
fn w3c(text: &str) -> Option<SpanContext> {
    let mut parts = text.trim().split('-');
    let version = parts.next().filter(|version| is_hex(version, 2) && *version != "ff")?;
    let (trace, span) = (parts.next()?, parts.next()?);
    let flags = parts.next().filter(|flags| is_hex(flags, 2))?;
    if version == "00" && parts.next().is_some() {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
    context(trace, span, flags & TraceFlags::SAMPLED)
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// `<trace>-<span>`, and `-0` where it was decided that there be no trace
/// (<https://develop.sentry.dev/sdk/telemetry/traces/#header-sentry-trace>).
fn sentry(text: &str) -> Option<SpanContext> {
    let mut parts = text.trim().split('-');
    let (trace, span) = (parts.next()?, parts.next()?);
    let sampled = parts.next() != Some("0");
    context(trace, span, TraceFlags::default().with_sampled(sampled))
}

fn context(trace: &str, span: &str, flags: TraceFlags) -> Option<SpanContext> {
    if !is_hex(trace, 32) || !is_hex(span, 16) {
        return None;
    }
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    Some(SpanContext::new(trace, span, flags, true, TraceState::default())).filter(SpanContext::is_valid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn task(headers: &[(&str, &str)]) -> Bytes {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let activation = TaskActivation { id: "task-1".to_owned(), headers, ..TaskActivation::default() };
        activation.encode_to_vec().into()
    }

    /// The trace and span that a followed task continues.
    fn continued(headers: &[(&str, &str)]) -> Option<(String, String)> {
        let task = Share::new(1.0).followed(&task(headers)).expect("it is followed");
        let producer = task.producer?;
        let span = producer.span().span_context().clone();
        Some((span.trace_id().to_string(), span.span_id().to_string()))
    }

    #[test]
    fn a_task_continues_the_trace_that_its_headers_name() {
        let named = Some((TRACE.to_owned(), SPAN.to_owned()));
        assert_eq!(continued(&[("traceparent", &format!("00-{TRACE}-{SPAN}-01"))]), named);
        assert_eq!(continued(&[("traceparent", &format!("cc-{TRACE}-{SPAN}-01-what-comes-later"))]), named);
        assert_eq!(continued(&[("sentry-trace", &format!("{TRACE}-{SPAN}-1"))]), named);
        assert_eq!(continued(&[("sentry-trace", &format!("{TRACE}-{SPAN}"))]), named, "undecided");
        let (w3c, other) = (format!("00-{TRACE}-{SPAN}-01"), format!("{}-{SPAN}-1", "1".repeat(32)));
        assert_eq!(continued(&[("sentry-trace", &other), ("traceparent", &w3c)]), named);
        assert_eq!(continued(&[("traceparent", "what?"), ("sentry-trace", &format!("{TRACE}-{SPAN}-1"))]), named);
    }

    #[test]
    fn headers_that_name_no_trace_are_no_reason_to_have_none() {
        let (zeros, long) = ("0".repeat(32), "1".repeat(33));
        for text in [
            String::new(),
            TRACE.to_owned(),
            format!("{TRACE}-{SPAN}-01"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("zz-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("00-{TRACE}-{SPAN}-+1"),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-zz"),
            format!("00-{zeros}-{SPAN}-01"),
            format!("00-{long}-{SPAN}-01"),
            format!("00-+{}-{SPAN}-01", &TRACE[1..]),
            "00-ä-ö-ü".to_owned(),
        ] {
            assert_eq!(continued(&[("traceparent", &text)]), None, "{text:?}");
        }
        assert_eq!(continued(&[("sentry-trace", "-")]), None);
        assert_eq!(continued(&[]), None);
    }

    #[test]
    fn a_task_whose_producer_wants_no_trace_has_none() {
        for (name, value) in
            [("traceparent", format!("00-{TRACE}-{SPAN}-00")), ("sentry-trace", format!("{TRACE}-{SPAN}-0"))]
        {
            assert!(Share::new(1.0).followed(&task(&[(name, &value)])).is_none(), "{name}");
        }
    }

    #[test]
    fn as_many_are_followed_as_the_share_says_and_always_the_same() {
        let followed = |share: Share| (0..10_000).filter(|number| share.has(&format!("task-{number}"))).count();
        assert_eq!(followed(Share::new(1.0)), 10_000);
        assert_eq!(followed(Share::new(0.0)), 0);
        let tenth = followed(Share::new(0.1));
        assert!((800..1200).contains(&tenth), "{tenth}");
        assert_eq!(followed(Share::new(0.1)), tenth);
    }

    #[test]
    fn what_is_no_task_is_not_followed() {
        let long = || "x".repeat(NAME_MAX_BYTES + 1);
        let named = |change: fn(&mut TaskActivation, String)| {
            let mut activation = TaskActivation { id: "task-1".to_owned(), ..TaskActivation::default() };
            change(&mut activation, long());
            Bytes::from(activation.encode_to_vec())
        };
        for no_task in [
            Bytes::from_static(b"\xff\xff"),
            Bytes::new(),
            named(|task, long| task.id = long),
            named(|task, long| task.namespace = long),
            named(|task, long| task.taskname = long),
            named(|task, long| task.application = Some(long)),
        ] {
            assert!(Share::new(1.0).followed(&no_task).is_none(), "{no_task:?}");
        }
    }

    #[test]
    fn no_time_limit_is_without_end() {
        let activation = TaskActivation {
            id: "task-1".to_owned(),
            processing_deadline_duration: u64::MAX,
            ..TaskActivation::default()
        };
        let task = Share::new(1.0).followed(&activation.encode_to_vec().into()).expect("it is followed");
        assert_eq!(task.run_limit, RUN_LIMIT_MAX);
    }
}
