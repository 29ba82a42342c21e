//! Traces: what the broker does with a task, as spans that an OpenTelemetry collector receives (OTLP over gRPC).
//!
//! - `run`: from handing a task out until its worker's report. It continues the trace of the task's producer where the
//!   task's headers name one (`traceparent`, `sentry-trace`), and begins one otherwise.
//! - `offer`: a call to a worker that tasks are pushed to. `report`: what a worker says, until it is durable. `publish`: a
//!   retry, a dead letter or a forwarded copy, until Kafka has it.
//!
//! Ports are decorated, so that neither the core nor another adapter knows of traces; where none are wanted nothing of this
//! is in the way. A part of the tasks is followed, chosen by their ids.

mod collector;
mod ports;
mod runs;
mod task;

use std::{sync::Arc, time::Duration};

use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider, SpanExporter},
};
use taskbroker_domain::ports::{clock::Clock, outbox::Outbox, service::TaskService, worker::WorkerGateway};
use tokio::runtime::Handle;
use tracing_subscriber::{Layer, Registry, filter::filter_fn};

use self::{
    ports::{TracedGateway, TracedOutbox, TracedTasks},
    runs::Runs,
    task::Share,
};

/// The target of every span made here. No log line has it.
pub const TARGET: &str = "taskbroker::spans";

/// Where traces go, and of how many tasks.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceOptions {
    /// The collector (`traces_endpoint`): `http://` or `https://`, host and port; 4317 is the port of OTLP over gRPC.
    pub endpoint: String,
    /// The share of tasks that are followed (`traces_sample_rate`), 0 to 1.
    pub sample_rate: f64,
    /// The broker's version, as an attribute of all spans.
    pub version: &'static str,
}

/// Traces could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The collector's address is none, or what its encryption needs is missing.
    #[error("traces_endpoint {endpoint:?}: {reason}")]
    Endpoint {
        /// The address.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// There is no Tokio runtime to call the collector on.
    #[error("traces need an asynchronous runtime: {0}")]
    NoRuntime(String),
}

/// What receives the spans of [`TARGET`] from `tracing`.
pub type SpanLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// Follows tasks through the ports that it decorates.
#[derive(Clone)]
pub struct Traces {
    following: Arc<Following>,
    provider: SdkTracerProvider,
}

/// What all decorators share.
struct Following {
    share: Share,
    runs: Runs,
    clock: Arc<dyn Clock>,
}

impl Traces {
    /// Ready to follow tasks once the layer has its place among the process's subscribers. The collector is reached when
    /// there is something for it; it may be away. To be called within the Tokio runtime, which the calls then run on.
    pub fn start(options: &TraceOptions, clock: Arc<dyn Clock>) -> Result<(Self, SpanLayer), TraceError> {
        let runtime = Handle::try_current().map_err(|error| TraceError::NoRuntime(error.to_string()))?;
        let exporter = collector::exporter(&options.endpoint)?;
        Ok(Self::with_exporter(options, clock, exporter, runtime))
    }

    fn with_exporter(
        options: &TraceOptions,
        clock: Arc<dyn Clock>,
        exporter: impl SpanExporter + 'static,
        runtime: Handle,
    ) -> (Self, SpanLayer) {
        let provider = SdkTracerProvider::builder()
            .with_resource(resource(options.version))
            .with_sampler(Sampler::AlwaysOn) // What is not to be followed never becomes a span.
            .with_span_processor(collector::processor(exporter, &options.endpoint, runtime))
            .build();
        let layer = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("taskbroker"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(|metadata| metadata.target() == TARGET));
        let following = Following { share: Share::new(options.sample_rate), runs: Runs::default(), clock };
        (Self { following: Arc::new(following), provider }, layer.boxed())
    }

    /// Follows tasks as workers fetch and report them.
    pub fn tasks(&self, inner: Arc<dyn TaskService>) -> Arc<dyn TaskService> {
        Arc::new(TracedTasks { inner, following: self.following.clone() })
    }

    /// Follows tasks as they are pushed to workers.
    pub fn gateway(&self, inner: Arc<dyn WorkerGateway>) -> Arc<dyn WorkerGateway> {
        Arc::new(TracedGateway { inner, following: self.following.clone() })
    }

    /// Follows tasks as they are published.
    pub fn outbox(&self, inner: Arc<dyn Outbox>) -> Arc<dyn Outbox> {
        Arc::new(TracedOutbox { inner, following: self.following.clone() })
    }

    /// Sends what is still here, for this long at most, and then nothing more. Blocks the thread.
    pub fn shut_down(&self, limit: Duration) {
        self.following.runs.end_all();
        // What went wrong has been said by the exporter.
        self.provider.shutdown_with_timeout(limit).ok();
    }
}

/// What all spans carry. `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`, which are standard, win over our words.
fn resource(version: &'static str) -> Resource {
    let given = Resource::builder().build();
    let says = |key: &'static str| given.get(&key.into()).map(|value| value.to_string());
    let mut resource = Resource::builder();
    if says("service.version").is_none() {
        resource = resource.with_attribute(KeyValue::new("service.version", version));
    }
    // What the SDK says where nobody does.
    if says("service.name").is_none_or(|name| name.starts_with("unknown_service")) {
        resource = resource.with_service_name("taskbroker");
    }
    resource.build()
}

#[cfg(test)]
mod tests;
