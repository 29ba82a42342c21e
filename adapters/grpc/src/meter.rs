//! What is counted and timed of calls.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use metrics::{Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram};
use tonic::Code;

const REQUESTS: &str = "taskbroker_grpc_requests_total";
const SECONDS: &str = "taskbroker_grpc_request_seconds";
const IN_FLIGHT: &str = "taskbroker_grpc_requests_in_flight";
const PANICS: &str = "taskbroker_grpc_panics_total";
/// Calls refused because they were not signed by a secret.
pub(crate) const UNAUTHENTICATED: &str = "taskbroker_grpc_unauthenticated_total";

/// Describes the metrics of this crate to the installed recorder.
pub fn describe_metrics() {
    describe_counter!(REQUESTS, "Calls answered, by method and gRPC status code; CANCELLED: the client went away");
    describe_histogram!(SECONDS, Unit::Seconds, "Time from a call's arrival to its answer, by method");
    describe_gauge!(IN_FLIGHT, "Calls under way, waiting ones included");
    describe_counter!(UNAUTHENTICATED, "Calls refused because none of the secrets signed them");
    describe_counter!(PANICS, "Calls that failed by a bug of the broker");
}

/// The handles of all methods, resolved once.
#[derive(Debug)]
pub(crate) struct Meters {
    methods: Vec<Meter>,
    other: Meter,
    in_flight: Gauge,
    panics: Counter,
}

/// The handles of one method.
#[derive(Debug)]
struct Meter {
    method: &'static str,
    seconds: Histogram,
    by_code: [OnceLock<Counter>; CODES],
}

/// How many status codes gRPC has.
const CODES: usize = 17;

impl Meters {
    pub(crate) fn new(methods: &[&'static str]) -> Self {
        Self {
            methods: methods.iter().map(|method| Meter::new(method)).collect(),
            other: Meter::new("other"),
            in_flight: metrics::gauge!(IN_FLIGHT),
            panics: counter!(PANICS),
        }
    }

    /// Starts to measure a call of the path `/service/method`.
    pub(crate) fn start(&self, path: &str) -> Measurement<'_> {
        let method = path.rsplit_once('/').map_or(path, |(_, method)| method);
        let meter = self.methods.iter().find(|meter| meter.method == method).unwrap_or(&self.other);
        self.in_flight.increment(1.0);
        Measurement { meter, in_flight: &self.in_flight, started: Stopwatch::start(), code: Code::Cancelled }
    }

    pub(crate) fn panicked(&self) {
        self.panics.increment(1);
    }
}

impl Meter {
    fn new(method: &'static str) -> Self {
        let seconds = metrics::histogram!(SECONDS, "method" => method);
        Self { method, seconds, by_code: [const { OnceLock::new() }; CODES] }
    }

    /// A code appears once it was answered, so that the list stays short.
    fn count(&self, code: Code) {
        let Some(cell) = usize::try_from(i32::from(code)).ok().and_then(|index| self.by_code.get(index)) else {
            return;
        };
        cell.get_or_init(|| counter!(REQUESTS, "method" => self.method, "code" => name(code))).increment(1);
    }
}

/// A call under way. Dropped before it was [answered](Measurement::answered), it was cancelled.
pub(crate) struct Measurement<'a> {
    meter: &'a Meter,
    in_flight: &'a Gauge,
    started: Stopwatch,
    code: Code,
}

impl Measurement<'_> {
    pub(crate) fn answered(mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Measurement<'_> {
    fn drop(&mut self) {
        self.in_flight.decrement(1.0);
        self.meter.count(self.code);
        self.meter.seconds.record(self.started.elapsed());
    }
}

/// Measures how long something took. Nothing but metrics depends on it.
struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "the clock port has milliseconds, and calls take microseconds")]
    fn start() -> Self {
        Self(Instant::now())
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// The code as the gRPC documents spell it.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
