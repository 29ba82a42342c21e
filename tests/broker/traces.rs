//! Traces of tasks, as a collector receives them from the real binary.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;
use taskbroker_proto::pb::TaskActivationStatus;
use taskbroker_support::{
    broker::{BrokerProcess, Setup, Task, Worker},
    kafka::Kafka,
};
use tokio::{net::TcpListener, time::Instant};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status,
    transport::{Identity, Server, ServerTlsConfig},
};

use super::{broker, produce, setup};

/// Spans leave every second; what hangs is given up after 10 s.
const WITHIN: Duration = Duration::from_secs(20);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

/// A collector, and what it has received.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        if request.metadata().get("authorization").is_none_or(|token| token != "ours") {
            return Err(Status::unauthenticated("who are you?"));
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Its port.
    async fn listen(&self, tls: Option<ServerTlsConfig>) -> Result<u16> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let mut server = Server::builder();
        if let Some(tls) = tls {
            server = server.tls_config(tls)?;
        }
        let service = TraceServiceServer::new(self.clone());
        tokio::spawn(server.add_service(service).serve_with_incoming(TcpListenerStream::new(listener)));
        Ok(port)
    }

    /// What it has received, with what each says of its program.
    fn spans(&self) -> Vec<(Span, BTreeMap<String, String>)> {
        let received = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_program = received.iter().flat_map(|request| &request.resource_spans);
        let spans = of_program.flat_map(|all| {
            let program = all.resource.as_ref().map(|resource| texts(&resource.attributes)).unwrap_or_default();
            all.scope_spans.iter().flat_map(|scope| &scope.spans).map(move |span| (span.clone(), program.clone()))
        });
        spans.collect()
    }

    /// The one of this name that says so.
    async fn await_span(&self, name: &str, attribute: &str, value: &str) -> Result<Span> {
        let deadline = Instant::now() + WITHIN;
        loop {
            let fits = |span: &Span| span.name == name && text(span, attribute).as_deref() == Some(value);
            let mut found: Vec<_> = self.spans().into_iter().map(|(span, _)| span).filter(fits).collect();
            if let Some(span) = found.pop() {
                ensure!(found.is_empty(), "more than one: {found:?}");
                return Ok(span);
            }
            ensure!(Instant::now() < deadline, "no {name} with {attribute} {value} in {:#?}", self.spans());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |pair: &KeyValue| match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    };
    attributes.iter().map(|pair| (pair.key.clone(), text(pair))).collect()
}

fn text(span: &Span, attribute: &str) -> Option<String> {
    texts(&span.attributes).remove(attribute)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_error(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error)
}

/// Traced where hardly anything is logged.
fn traced(setup: Setup, endpoint: String) -> Setup {
    let setup = setup.with("traces_endpoint", endpoint).with("traces_sample_rate", 1.0).with("log_filter", "warn");
    setup.environment("OTEL_EXPORTER_OTLP_HEADERS", "authorization=ours")
}

/// A task that was produced within a trace.
fn produced() -> Task {
    let mut task = Task::new().dead_letter();
    task.0.headers.insert("sentry-trace".to_owned(), format!("{TRACE}-{SPAN}-1"));
    task
}

async fn next(worker: &mut Worker) -> Result<String> {
    Ok(worker.fetch_within(WITHIN).await?.context("no task comes")?.id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_receives_what_becomes_of_a_task_in_the_trace_of_its_producer() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let collector = Collector::default();
    let endpoint = format!("http://127.0.0.1:{}", collector.listen(None).await?);
    let setup = traced(setup(&kafka, 1).await?, endpoint)
        .environment("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=tests");
    let mut broker = BrokerProcess::start(&setup).await?;
    let mut worker = broker.worker()?;

    let ids = produce(&kafka, &setup.topic, [produced(), Task::new()]).await?;
    assert_eq!([next(&mut worker).await?, next(&mut worker).await?], ids[..]);
    worker.report(&ids[0], TaskActivationStatus::Failure).await?;

    let run = collector.await_span(&name_of_run(), "messaging.message.id", &ids[0]).await?;
    assert_eq!((hex(&run.trace_id), hex(&run.parent_span_id)), (TRACE.to_owned(), SPAN.to_owned()));
    assert_eq!(text(&run, "outcome").as_deref(), Some("failure"));
    assert!(is_error(&run) && run.end_time_unix_nano > run.start_time_unix_nano);
    let report = collector.await_span("report", "messaging.message.id", &ids[0]).await?;
    assert_eq!((report.kind(), &report.parent_span_id), (SpanKind::Server, &run.span_id));
    let letter = collector.await_span("publish dead letter", "messaging.message.id", &ids[0]).await?;
    assert_eq!((letter.kind(), &letter.parent_span_id), (SpanKind::Producer, &run.span_id));
    assert_eq!(text(&letter, "outcome").as_deref(), Some("durable"));
    let (_, program) = collector.spans().remove(0);
    for (attribute, value) in [
        ("service.name", "taskbroker"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("deployment.environment.name", "tests"),
    ] {
        assert_eq!(program.get(attribute).map(String::as_str), Some(value), "{attribute}");
    }

    // The other one is still under way: that it was is sent at the end.
    broker.stop().await?;
    let run = collector.await_span(&name_of_run(), "messaging.message.id", &ids[1]).await?;
    assert_eq!((text(&run, "outcome").as_deref(), run.parent_span_id.len()), (Some("the broker stopped"), 0));
    assert_eq!(broker.log().lines(), Vec::<String>::new(), "nothing of it is logged");
    Ok(())
}

fn name_of_run() -> String {
    let task = Task::new().0;
    format!("run {}:{}", task.namespace, task.taskname)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offers_to_workers_are_traced_and_the_way_to_the_collector_may_be_encrypted() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(["localhost".to_owned()])?.self_signed(&key)?;
    let directory = tempfile::tempdir()?;
    let trusted = directory.path().join("trusted.pem");
    std::fs::write(&trusted, certificate.pem())?;
    let tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate.pem(), key.serialize_pem()));
    let collector = Collector::default();
    let endpoint = format!("https://localhost:{}", collector.listen(Some(tls)).await?);

    let application = Task::new().0.application.unwrap_or_default();
    let setup = traced(setup(&kafka, 1).await?, endpoint)
        .environment("SSL_CERT_FILE", trusted.to_string_lossy())
        .with("delivery_mode", "push")
        .with("worker_map", json!({ application: "http://127.0.0.1:1" }));
    let mut broker = BrokerProcess::start(&setup).await?;
    produce(&kafka, &setup.topic, [produced()]).await?;
    let deadline = Instant::now() + WITHIN;
    let offer = loop {
        if let Some((span, _)) = collector.spans().into_iter().find(|(span, _)| span.name == "offer") {
            break span;
        }
        assert!(Instant::now() < deadline, "no offer: {:?}; {}", collector.spans(), broker.log().tail(30));
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!((hex(&offer.trace_id).as_str(), offer.kind()), (TRACE, SpanKind::Client));
    assert!(is_error(&offer) && text(&offer, "outcome").is_some_and(|outcome| outcome.contains("cannot be reached")));
    broker.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_or_refuses_costs_its_traces_and_no_task() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let refusing = Collector::default();
    let refusing_at = format!("http://127.0.0.1:{}", refusing.listen(None).await?);
    for (endpoint, reason) in [("http://127.0.0.1:1", "http://127.0.0.1:1"), (refusing_at.as_str(), "Unauthenticated")]
    {
        let setup = traced(setup(&kafka, 1).await?, endpoint.to_owned())
            .environment("OTEL_EXPORTER_OTLP_HEADERS", "authorization=theirs");
        let mut broker = BrokerProcess::start(&setup).await?;
        let mut worker = broker.worker()?;
        let ids = produce(&kafka, &setup.topic, [produced()]).await?;
        assert_eq!(next(&mut worker).await?, ids[0]);
        worker.complete(&ids[0]).await?;
        let line = broker.log().await_line(0, "the collector takes no traces", WITHIN).await?;
        assert!(line.contains("WARN") && line.contains(reason), "{line}");
        broker.stop().await?;
        assert_eq!(broker.log().lines().len(), 1, "{:?}", broker.log().lines());
    }
    assert!(refusing.spans().is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_never_answers_holds_up_no_task_and_no_stop() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    // The system accepts for it; nobody reads.
    let silent = TcpListener::bind(("127.0.0.1", 0)).await?;
    let setup = traced(setup(&kafka, 1).await?, format!("http://{}", silent.local_addr()?));
    let mut broker = BrokerProcess::start(&setup).await?;
    let mut worker = broker.worker()?;
    let ids = produce(&kafka, &setup.topic, [produced(), produced()]).await?;
    for id in &ids {
        assert_eq!(next(&mut worker).await?, *id);
        worker.complete(id).await?;
    }
    broker.log().await_line(0, "the collector takes no traces", WITHIN).await?;
    // The next delivery hangs when it stops.
    let ids = produce(&kafka, &setup.topic, [produced()]).await?;
    assert_eq!(next(&mut worker).await?, ids[0]);
    worker.complete(&ids[0]).await?;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    broker.stop().await?;
    assert_eq!(broker.log().lines().len(), 1, "{:?}", broker.log().lines());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_collector_nothing_is_traced() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let (setup, mut broker) = broker(&kafka, 1).await?;
    let mut worker = broker.worker()?;
    let ids = produce(&kafka, &setup.topic, [produced()]).await?;
    assert_eq!(next(&mut worker).await?, ids[0]);
    worker.complete(&ids[0]).await?;
    let threads = std::fs::read_dir(format!("/proc/{}/task", broker.pid().context("it runs")?))?;
    let names = threads.map(|thread| Ok(std::fs::read_to_string(thread?.path().join("comm"))?));
    let names = names.collect::<Result<Vec<_>>>()?;
    assert!(!names.iter().any(|name| name.contains("OpenTelemetry")), "{names:?}");
    broker.stop().await?;
    Ok(())
}
