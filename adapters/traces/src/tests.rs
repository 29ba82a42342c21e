use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry::{
    Value,
    trace::{SpanKind, Status},
};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SpanData};
use opentelemetry_sdk::{
    error::{OTelSdkError, OTelSdkResult},
    trace::SpanProcessor,
};
use prost::Message as _;
use taskbroker_domain::{
    activation::{ActivationId, RetryWish},
    ports::{
        outbox::{Destination, Message, PublishError},
        service::{Offer, Report, Reported, Unavailable, Verdict, Wanted},
        worker::{Offered, Refused},
    },
    time::{Now, Steady, Timestamp},
};
use taskbroker_proto::{
    Timestamp as WireTime,
    pb::{RetryState, TaskActivation},
};
use tokio::sync::Semaphore;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::{filter::LevelFilter, layer::SubscriberExt};

use super::*;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";
const RUN_LIMIT_S: u64 = 30;
const ATTEMPT: u32 = 2;

/// Both clocks, set by hand.
#[derive(Default)]
struct HandClock(AtomicU64);

impl HandClock {
    fn wait_s(&self, seconds: u64) {
        self.0.fetch_add(seconds * 1000, Ordering::Relaxed);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Now {
        let ms = self.0.load(Ordering::Relaxed);
        let wall = Timestamp::from_millis(1_700_000_000_000 + i64::try_from(ms).unwrap());
        Now { wall, steady: Steady::from_millis(ms) }
    }
}

/// A thing to be traced, and the spans that come of it.
struct Bench {
    traces: Traces,
    clock: Arc<HandClock>,
    spans: InMemorySpanExporter,
    _subscriber: DefaultGuard,
}

impl Bench {
    fn new(sample_rate: f64) -> Self {
        let (clock, spans) = (Arc::new(HandClock::default()), InMemorySpanExporter::default());
        let options = TraceOptions { endpoint: String::new(), sample_rate, version: "1.2.3" };
        let (traces, layer) =
            Traces::with_exporter(&options, Arc::clone(&clock) as _, spans.clone(), Handle::current());
        let subscriber = tracing::subscriber::set_default(Registry::default().with(layer));
        Self { traces, clock, spans, _subscriber: subscriber }
    }

    /// The spans that have ended, by their ends.
    fn ended(&self) -> Vec<SpanData> {
        self.traces.provider.force_flush().unwrap();
        self.spans.get_finished_spans().unwrap()
    }

    fn one(&self, name: &str) -> SpanData {
        let mut named: Vec<_> = self.ended().into_iter().filter(|span| span.name == name).collect();
        assert_eq!(named.len(), 1, "spans named {name}: {:?}", self.ended());
        named.remove(0)
    }
}

fn says(span: &SpanData, attribute: &str) -> Option<String> {
    value(span, attribute).map(|value| value.to_string())
}

fn value(span: &SpanData, attribute: &str) -> Option<Value> {
    let found = span.attributes.iter().find(|pair| pair.key.as_str() == attribute)?;
    Some(found.value.clone())
}

fn task(id: &str, headers: &[(&str, &str)]) -> Bytes {
    let activation = TaskActivation {
        id: id.to_owned(),
        application: Some("shop".to_owned()),
        namespace: "mails".to_owned(),
        taskname: "send".to_owned(),
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        received_at: Some(WireTime { seconds: 1_700_000_000, nanos: 0 }),
        processing_deadline_duration: RUN_LIMIT_S,
        retry_state: Some(RetryState { attempts: ATTEMPT, ..RetryState::default() }),
        ..TaskActivation::default()
    };
    activation.encode_to_vec().into()
}

fn produced(id: &str) -> Bytes {
    task(id, &[("traceparent", &format!("00-{TRACE}-{SPAN}-01"))])
}

fn report(id: &str, verdict: Verdict) -> Report {
    Report { id: ActivationId::new(id), verdict }
}

/// Hands out these bytes, and answers reports so.
struct Broker {
    activation: Bytes,
    answer: Result<Reported, Unavailable>,
    put_back: Arc<AtomicU64>,
}

#[async_trait]
impl TaskService for Broker {
    async fn fetch(&self, _: Wanted) -> Result<Option<Offer>, Unavailable> {
        let put_back = self.put_back.clone();
        let offer = Offer::new(self.activation.clone(), move || _ = put_back.fetch_add(1, Ordering::Relaxed));
        Ok(Some(offer).filter(|_| !self.activation.is_empty()))
    }

    async fn report(&self, _: Report) -> Result<Reported, Unavailable> {
        self.answer.clone()
    }

    async fn report_all(&self, reports: Vec<Report>) -> Result<Vec<Reported>, Unavailable> {
        let answer = self.answer.clone()?;
        Ok(vec![answer; reports.len()])
    }
}

impl Bench {
    fn broker(&self, activation: Bytes, answer: Result<Reported, Unavailable>) -> Arc<dyn TaskService> {
        self.traces.tasks(Arc::new(Broker { activation, answer, put_back: Arc::default() }))
    }
}

async fn fetch(broker: &Arc<dyn TaskService>) -> Bytes {
    broker.fetch(Wanted::Any).await.unwrap().unwrap().sent()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_run_lasts_from_handing_out_to_the_report_in_the_trace_of_the_producer() {
    let bench = Bench::new(1.0);
    bench.clock.wait_s(7);
    let broker = bench.broker(produced("one"), Ok(Reported::Settled));
    assert_eq!(fetch(&broker).await, produced("one"), "byte by byte");
    assert!(bench.ended().is_empty(), "it is under way");
    assert_eq!(broker.report(report("one", Verdict::Complete)).await, Ok(Reported::Settled));

    let run = bench.one("run mails:send");
    assert_eq!(run.span_context.trace_id().to_string(), TRACE);
    assert_eq!(run.parent_span_id.to_string(), SPAN);
    assert!(run.parent_span_is_remote);
    assert_eq!(run.status, Status::Unset);
    for (attribute, value) in [
        ("messaging.system", "taskbroker"),
        ("messaging.message.id", "one"),
        ("task.application", "shop"),
        ("task.namespace", "mails"),
        ("task.name", "send"),
        ("outcome", "complete"),
    ] {
        assert_eq!(says(&run, attribute).as_deref(), Some(value), "{attribute}");
    }

    assert_eq!(value(&run, "task.attempt"), Some(Value::I64(2)));
    assert_eq!(value(&run, "waited_ms"), Some(Value::I64(7000)));

    let reporting = bench.one("report");
    assert_eq!(reporting.parent_span_id, run.span_context.span_id());
    assert_eq!(reporting.span_context.trace_id(), run.span_context.trace_id());
    assert_eq!(reporting.span_kind, SpanKind::Server);
    assert_eq!(says(&reporting, "verdict").as_deref(), Some("complete"));
    assert_eq!(says(&reporting, "answer").as_deref(), Some("settled"));
    assert!(run.start_time <= reporting.start_time && reporting.end_time <= run.end_time);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_task_without_a_trace_begins_one_and_failures_are_marked() {
    let bench = Bench::new(1.0);
    let broker = bench.broker(task("two", &[]), Ok(Reported::Settled));
    fetch(&broker).await;
    broker.report_all(vec![report("two", Verdict::Failure), report("unknown", Verdict::Complete)]).await.unwrap();
    let run = bench.one("run mails:send");
    assert_eq!(run.parent_span_id.to_string(), "0".repeat(16));
    assert_eq!(says(&run, "outcome").as_deref(), Some("failure"));
    assert_eq!(run.status, Status::error(""));
    assert_eq!(says(&bench.one("report"), "messaging.message.id").as_deref(), Some("two"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_report_that_settles_nothing_ends_no_run() {
    for answer in [Ok(Reported::Refused), Err(Unavailable::new("the store is full"))] {
        let bench = Bench::new(1.0);
        let broker = bench.broker(produced("one"), answer.clone());
        fetch(&broker).await;
        assert_eq!(broker.report(report("one", Verdict::Complete)).await, answer);
        let [reporting] = &bench.ended()[..] else { panic!("{:?}", bench.ended()) };
        match answer {
            Ok(_) => assert_eq!(says(reporting, "answer").as_deref(), Some("refused")),
            Err(_) => assert_eq!(
                (says(reporting, "answer").as_deref(), &reporting.status),
                (Some("the store is full"), &Status::error(""))
            ),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_nobody_took_is_put_back_and_its_run_is_over_by_then() {
    let bench = Bench::new(1.0);
    let put_back = Arc::default();
    let broker = Broker { activation: produced("one"), answer: Ok(Reported::Settled), put_back: Arc::clone(&put_back) };
    let broker = bench.traces.tasks(Arc::new(broker));
    drop(broker.fetch(Wanted::Any).await.unwrap().unwrap());
    assert_eq!(put_back.load(Ordering::Relaxed), 1);
    assert_eq!(says(&bench.one("run mails:send"), "outcome").as_deref(), Some("put back"));
    fetch(&broker).await;
    assert_eq!(put_back.load(Ordering::Relaxed), 1, "it was sent");

    let order = Arc::new(Mutex::new(Vec::new()));
    let (first, second) = (order.clone(), order.clone());
    let offer = Offer::new(Bytes::new(), move || second.lock().unwrap().push("put back"));
    drop(offer.and_when_put_back(move || first.lock().unwrap().push("over")));
    assert_eq!(*order.lock().unwrap(), ["over", "put back"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_run_that_nobody_reports_ends_some_time_after_its_limit_and_one_that_is_handed_out_again_at_once() {
    let bench = Bench::new(1.0);
    fetch(&bench.broker(produced("again"), Ok(Reported::Settled))).await;
    fetch(&bench.broker(produced("again"), Ok(Reported::Settled))).await;
    assert_eq!(says(&bench.one("run mails:send"), "outcome").as_deref(), Some("no report"));
    bench.clock.wait_s(RUN_LIMIT_S + 59);
    fetch(&bench.broker(produced("next"), Ok(Reported::Settled))).await;
    assert_eq!(bench.ended().len(), 1);
    bench.clock.wait_s(1);
    fetch(&bench.broker(produced("third"), Ok(Reported::Settled))).await;
    assert_eq!(bench.ended().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn runs_under_way_are_told_of_when_the_broker_stops() {
    let bench = Bench::new(1.0);
    fetch(&bench.broker(produced("one"), Ok(Reported::Settled))).await;
    bench.traces.following.runs.end_all();
    assert_eq!(says(&bench.one("run mails:send"), "outcome").as_deref(), Some("the broker stopped"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn of_too_many_runs_at_once_the_beginning_is_told_and_those_that_are_over_take_no_room() {
    let bench = Bench::new(1.0);
    for number in 0..2 * runs::RUNS_MAX {
        let (id, verdict) = (format!("over {number}"), [Verdict::Complete, Verdict::Failure][number % 2]);
        let broker = bench.broker(produced(&id), Ok(Reported::Settled));
        fetch(&broker).await;
        broker.report(report(&id, verdict)).await.unwrap();
        if number % 1000 == 0 {
            bench.ended();
        }
    }
    bench.ended();
    bench.spans.reset();
    for number in 0..=runs::RUNS_MAX {
        fetch(&bench.broker(produced(&number.to_string()), Ok(Reported::Settled))).await;
    }
    let run = bench.one("run mails:send");
    assert_eq!(says(&run, "messaging.message.id"), Some(runs::RUNS_MAX.to_string()));
    assert!(says(&run, "outcome").unwrap().starts_with("not followed"));
    let first = bench.broker(Bytes::new(), Ok(Reported::Settled));
    first.report(report("0", Verdict::Complete)).await.unwrap();
    assert_eq!(bench.ended().len(), 3, "that of a run which is followed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_share_of_nothing_and_a_producer_that_wants_no_trace_leave_no_span() {
    for (rate, activation) in
        [(0.0, produced("one")), (1.0, task("one", &[("sentry-trace", &format!("{TRACE}-{SPAN}-0"))]))]
    {
        let bench = Bench::new(rate);
        let broker = bench.broker(activation.clone(), Ok(Reported::Settled));
        fetch(&broker).await;
        broker.report(report("one", Verdict::Complete)).await.unwrap();
        broker.report_all(vec![report("one", Verdict::Complete)]).await.unwrap();
        bench.traces.gateway(Arc::new(Worker(Offered::Delivered))).offer("shop", activation.clone()).await;
        bench.traces.outbox(Arc::new(Kafka(Ok(())))).publish(message(activation)).await.unwrap();
        assert!(bench.ended().is_empty(), "{:?}", bench.ended());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_empty_answer_leaves_no_span() {
    let bench = Bench::new(1.0);
    assert!(bench.broker(Bytes::new(), Ok(Reported::Settled)).fetch(Wanted::Any).await.unwrap().is_none());
    assert!(bench.ended().is_empty());
}

/// Answers offers so.
struct Worker(Offered);

#[async_trait]
impl WorkerGateway for Worker {
    async fn offer(&self, _: &str, _: Bytes) -> Offered {
        self.0.clone()
    }

    async fn probe(&self, _: &str) -> Result<(), String> {
        Err("probed".to_owned())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_offer_belongs_to_the_run_that_begins_with_it() {
    let bench = Bench::new(1.0);
    let worker = bench.traces.gateway(Arc::new(Worker(Offered::Delivered)));
    assert_eq!(worker.offer("shop", produced("one")).await, Offered::Delivered);
    assert_eq!(worker.probe("shop").await, Err("probed".to_owned()));
    let offer = bench.one("offer");
    assert_eq!((says(&offer, "outcome").as_deref(), &offer.span_kind), (Some("delivered"), &SpanKind::Client));
    let reports = bench.broker(Bytes::new(), Ok(Reported::Settled));
    reports.report_all(vec![report("one", Verdict::Retry(RetryWish::default()))]).await.unwrap();
    let run = bench.one("run mails:send");
    assert_eq!(says(&run, "outcome").as_deref(), Some("retry"));
    assert_eq!(offer.parent_span_id, run.span_context.span_id());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_refused_offer_ends_its_run_and_one_in_doubt_does_not() {
    let bench = Bench::new(1.0);
    let refused = Offered::Refused(Refused::Busy("all hands are full".to_owned()));
    bench.traces.gateway(Arc::new(Worker(refused))).offer("shop", produced("one")).await;
    assert!(says(&bench.one("offer"), "outcome").unwrap().ends_with("all hands are full"));
    assert_eq!(says(&bench.one("run mails:send"), "outcome").as_deref(), Some("refused"));

    let bench = Bench::new(1.0);
    let unknown = Offered::Unknown("no answer".to_owned());
    bench.traces.gateway(Arc::new(Worker(unknown))).offer("shop", produced("one")).await;
    let offer = bench.one("offer");
    assert_eq!((says(&offer, "outcome").as_deref(), &offer.status), (Some("in doubt: no answer"), &Status::error("")));
    assert_eq!(bench.ended().len(), 1);
}

/// Answers what is published so, and keeps nothing.
struct Kafka(Result<(), PublishError>);

#[async_trait]
impl Outbox for Kafka {
    async fn publish(&self, _: Message) -> Result<(), PublishError> {
        self.0.clone()
    }
}

fn message(payload: Bytes) -> Message {
    Message { destination: Destination::DeadLetter, key: None, payload, headers: Vec::new() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_dead_letter_and_a_retry_belong_to_the_run_that_led_to_them() {
    let bench = Bench::new(1.0);
    let broker = bench.broker(produced("one"), Ok(Reported::Settled));
    fetch(&broker).await;
    broker.report(report("one", Verdict::Failure)).await.unwrap();
    let outbox = bench.traces.outbox(Arc::new(Kafka(Ok(()))));
    outbox.publish(message(produced("one"))).await.unwrap();
    let dead_letter = bench.one("publish dead letter");
    assert_eq!(dead_letter.parent_span_id, bench.one("run mails:send").span_context.span_id());
    assert_eq!(dead_letter.span_kind, SpanKind::Producer);
    assert_eq!(says(&dead_letter, "outcome").as_deref(), Some("durable"));
    bench.spans.reset();

    fetch(&broker).await;
    broker.report(report("one", Verdict::Retry(RetryWish::default()))).await.unwrap();
    let id = ActivationId::new("one").retry(ATTEMPT + 1).to_string();
    outbox.publish(Message { destination: Destination::Retry, ..message(produced(&id)) }).await.unwrap();
    let retry = bench.one("publish retry");
    assert_eq!(retry.parent_span_id, bench.one("run mails:send").span_context.span_id());

    outbox
        .publish(Message { destination: Destination::Retry, ..message(produced("of a run not followed")) })
        .await
        .unwrap();
    bench.clock.wait_s(60);
    broker.report(report("nobody", Verdict::Failure)).await.unwrap();
    fetch(&broker).await;
    broker.report(report("one", Verdict::Complete)).await.unwrap();
    outbox.publish(Message { destination: Destination::Retry, ..message(produced(&id)) }).await.unwrap();
    assert_eq!(bench.one("publish retry").end_time, retry.end_time, "the others have no run that is known");
    outbox.publish(message(produced("one"))).await.unwrap();
    let late = bench.one("publish dead letter");
    assert_eq!(
        (late.span_context.trace_id().to_string(), late.parent_span_id.to_string()),
        (TRACE.into(), SPAN.into())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_was_not_published_says_why() {
    let bench = Bench::new(1.0);
    let outbox = bench.traces.outbox(Arc::new(Kafka(Err(PublishError::NotSent("no way".to_owned())))));
    let forwarded = Message { destination: Destination::Forward, ..message(task("one", &[])) };
    assert_eq!(outbox.publish(forwarded).await, Err(PublishError::NotSent("no way".to_owned())));
    let span = bench.one("publish forwarded copy");
    assert_eq!(
        (says(&span, "outcome").as_deref(), &span.status),
        (Some("not sent, may pass: no way"), &Status::error(""))
    );
}

#[test]
fn spans_say_which_program_made_them() {
    let resource = resource("1.2.3");
    let says = |key: &'static str| resource.get(&key.into()).map(|value| value.to_string());
    assert_eq!(says("service.name").as_deref(), Some("taskbroker"));
    assert_eq!(says("service.version").as_deref(), Some("1.2.3"));
}

/// An exporter that fails as often as it is told to.
#[derive(Debug)]
struct Failing(Mutex<u32>);

impl SpanExporter for Failing {
    async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
        let mut failures = self.0.lock().unwrap();
        if *failures == 0 {
            return Ok(());
        }
        *failures -= 1;
        Err(OTelSdkError::InternalFailure("nobody there".to_owned()))
    }
}

/// An exporter that does not answer before it is told to.
#[derive(Debug)]
struct Hanging(Arc<Semaphore>);

impl SpanExporter for Hanging {
    async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
        self.0.acquire().await.unwrap().forget();
        Ok(())
    }
}

fn span() -> SpanData {
    let bench = Bench::new(1.0);
    drop(tracing::info_span!(target: TARGET, "any"));
    bench.one("any")
}

/// Lines of a log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What a log has said so far, with the subscriber that writes it.
fn log() -> (Log, tracing_subscriber::layer::Layered<LevelFilter, impl tracing::Subscriber + Send + Sync>) {
    let log = Log::default();
    let writer = log.clone();
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone());
    (log, Registry::default().with(lines).with(LevelFilter::INFO))
}

impl Log {
    fn lines(&self) -> Vec<String> {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap().lines().map(str::to_owned).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_collector_that_goes_away_and_comes_back_is_two_lines_in_the_log() {
    let (log, subscriber) = log();
    let _subscriber = tracing::subscriber::set_default(subscriber);
    let telling = collector::telling(Failing(Mutex::new(3)), "http://collector:4317", Handle::current());
    for _ in 0..6 {
        telling.export(Vec::new()).await.ok();
    }
    let lines = log.lines();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    for part in ["WARN", "http://collector:4317", "nobody there", "spans are lost"] {
        assert!(lines[0].contains(part), "{part}: {lines:#?}");
    }
    assert!(lines[1].contains("INFO") && lines[1].contains("again"), "{lines:#?}");
}

#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_methods, reason = "Tokio's time, which stands still here")]
async fn a_collector_that_does_not_answer_is_given_up_after_ten_seconds() {
    let telling = collector::telling(Hanging(Arc::new(Semaphore::new(0))), "http://collector:4317", Handle::current());
    let began = tokio::time::Instant::now();
    assert!(matches!(telling.export(Vec::new()).await, Err(OTelSdkError::Timeout(_))));
    assert_eq!(began.elapsed(), Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_finds_no_room_is_counted_and_said() {
    let (span, answers) = (span(), Arc::new(Semaphore::new(0)));
    let bounded = collector::processor(Hanging(answers.clone()), "http://collector:4317", Handle::current());
    for _ in 0..collector::WAITING_MAX + 1000 {
        bounded.on_end(span.clone());
    }
    let lost = bounded.lost();
    assert!((400..=1000).contains(&lost), "the first delivery, of 512, has made room: {lost}");
    answers.add_permits(1000);
    bounded.force_flush().unwrap();
    assert_eq!(bounded.lost(), 0, "it was said");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_endpoint_that_is_none_is_refused_by_its_key() {
    for endpoint in ["collector:4317", "ftp://collector:4317", "http://", "", "http://a b"] {
        let options = TraceOptions { endpoint: endpoint.to_owned(), sample_rate: 1.0, version: "" };
        let Err(error) = Traces::start(&options, Arc::new(HandClock::default())) else { panic!("{endpoint:?}") };
        assert!(error.to_string().starts_with(&format!("traces_endpoint {endpoint:?}: ")), "{error}");
    }
    for endpoint in ["http://127.0.0.1:4317", "https://collector.example"] {
        let options = TraceOptions { endpoint: endpoint.to_owned(), sample_rate: 1.0, version: "" };
        assert!(Traces::start(&options, Arc::new(HandClock::default())).is_ok(), "{endpoint}");
    }
}
