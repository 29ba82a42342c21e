//! The way to the collector: OTLP over gRPC, bounded in time and in what waits, and a line in the log for what is lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use opentelemetry::Context;
use opentelemetry_otlp::{SpanExporter as OtlpExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor},
};
use tokio::{runtime::Handle, time::timeout};
use tonic::transport::{ClientTlsConfig, Endpoint};
use tracing::{debug, info, warn};

use crate::TraceError;

/// How long one delivery may take: OpenTelemetry's default for OTLP.
const DELIVERY_LIMIT: Duration = Duration::from_secs(10);
/// What of it connecting may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How many spans may wait to be delivered, one or two kilobytes each; more are lost.
pub(crate) const WAITING_MAX: usize = 8192;
/// How many are delivered at once: OpenTelemetry's default.
const BATCH: usize = 512;
/// How long they wait for company.
const GATHERING: Duration = Duration::from_secs(1);

/// Delivers to this collector, which is called when there is something for it.
pub(crate) fn exporter(address: &str) -> Result<OtlpExporter, TraceError> {
    let refused = |reason: String| TraceError::Endpoint { endpoint: address.to_owned(), reason };
    let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|error| refused(error.to_string()))?;
    let endpoint = endpoint.connect_timeout(CONNECT_LIMIT);
    let endpoint = match endpoint.uri().scheme_str() {
        Some("http") => endpoint,
        Some("https") => endpoint
            .tls_config(ClientTlsConfig::new().with_enabled_roots())
            .map_err(|error| refused(error.to_string()))?,
        _ => return Err(refused("it must begin with http:// or https://".to_owned())),
    };
    OtlpExporter::builder()
        .with_tonic()
        .with_channel(endpoint.connect_lazy())
        .with_timeout(DELIVERY_LIMIT)
        .build()
        .map_err(|error| refused(error.to_string()))
}

/// Gathers spans and delivers them, on this runtime.
pub(crate) fn processor(exporter: impl SpanExporter + 'static, endpoint: &str, runtime: Handle) -> Bounded {
    let telling = telling(exporter, endpoint, runtime);
    let waiting = telling.waiting.clone();
    // What the standard variables say of it is not heeded: they are not checked, and some of what they can say is fatal.
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(WAITING_MAX)
        .with_max_export_batch_size(BATCH)
        .with_scheduled_delay(GATHERING)
        .build();
    Bounded { inner: BatchSpanProcessor::builder(telling).with_batch_config(config).build(), waiting }
}

/// Delivers one batch after the other.
pub(crate) fn telling<E: SpanExporter + 'static>(exporter: E, endpoint: &str, runtime: Handle) -> Telling<E> {
    let (endpoint, waiting) = (endpoint.to_owned(), Arc::default());
    Telling { inner: Arc::new(exporter), endpoint, away: AtomicBool::new(false), waiting, runtime }
}

/// How many spans wait to be delivered, and how many did not find room.
#[derive(Debug, Default)]
struct Waiting {
    spans: AtomicUsize,
    lost: AtomicUsize,
}

/// Counts what finds no room, which the SDK would drop without a word.
#[derive(Debug)]
pub(crate) struct Bounded {
    inner: BatchSpanProcessor,
    waiting: Arc<Waiting>,
}

#[cfg(test)]
impl Bounded {
    pub(crate) fn lost(&self) -> usize {
        self.waiting.lost.load(Ordering::Relaxed)
    }
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.waiting.spans.fetch_add(1, Ordering::Relaxed) < WAITING_MAX {
            self.inner.on_end(span);
        } else {
            self.waiting.spans.fetch_sub(1, Ordering::Relaxed);
            self.waiting.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, limit: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(limit)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// An exporter that says when it begins to fail and when it works again, and not each time. A delivery runs on the runtime,
/// so that it ends by its limit, and with the runtime.
#[derive(Debug)]
pub(crate) struct Telling<E> {
    inner: Arc<E>,
    endpoint: String,
    away: AtomicBool,
    waiting: Arc<Waiting>,
    runtime: Handle,
}

impl<E: SpanExporter + 'static> SpanExporter for Telling<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let (spans, endpoint, inner) = (batch.len(), &self.endpoint, self.inner.clone());
        self.waiting.spans.fetch_sub(spans, Ordering::Relaxed);
        let delivery = self.runtime.spawn(async move { timeout(DELIVERY_LIMIT, inner.export(batch)).await });
        let result = match delivery.await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(OTelSdkError::Timeout(DELIVERY_LIMIT)),
            Err(stopped) => Err(OTelSdkError::InternalFailure(stopped.to_string())),
        };
        match &result {
            Ok(()) if self.away.swap(false, Ordering::Relaxed) => info!(%endpoint, "the collector takes traces again"),
            Ok(()) => {}
            Err(error) if self.away.swap(true, Ordering::Relaxed) => {
                debug!(%endpoint, spans, %error, "spans were lost");
            }
            Err(error) => {
                warn!(%endpoint, spans, %error, "the collector takes no traces: spans are lost until it does");
            }
        }
        let lost = self.waiting.lost.swap(0, Ordering::Relaxed);
        if lost > 0 && result.is_ok() {
            warn!(%endpoint, spans = lost, "spans were lost: there are more than the collector takes");
        }
        result
    }

    fn shutdown_with_timeout(&self, limit: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(limit)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        // Nothing is being delivered yet.
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.set_resource(resource);
        }
    }
}
