//! Traces: the decorators of ports, and their place among what receives spans.

use std::sync::Arc;

use anyhow::Result;
use taskbroker_telemetry::Spans;
pub use taskbroker_traces::Traces;
use taskbroker_traces::{TARGET, TraceOptions};

use super::clock;
use crate::settings::Settings;

/// What follows tasks, and what takes its spans when logs are set up; `None`: the settings want no traces. To be called
/// within the Tokio runtime.
pub fn begin(settings: &Settings) -> Result<Option<(Traces, Spans)>> {
    let Some(options) = options(settings) else { return Ok(None) };
    let (traces, layer) = Traces::start(&options, clock())?;
    Ok(Some((traces, Spans { target: TARGET, layer })))
}

pub(super) fn options(settings: &Settings) -> Option<TraceOptions> {
    let sample_rate = settings.traces.sample_rate;
    let endpoint = settings.traces.endpoint.as_ref().filter(|_| sample_rate > 0.0)?.as_str().to_owned();
    Some(TraceOptions { endpoint, sample_rate, version: env!("CARGO_PKG_VERSION") })
}

/// The port with an eye on its tasks, or the port itself where there are no traces.
pub(super) fn traced<P: ?Sized>(
    traces: Option<&Traces>,
    port: Arc<P>,
    decorate: fn(&Traces, Arc<P>) -> Arc<P>,
) -> Arc<P> {
    match traces {
        Some(traces) => decorate(traces, port),
        None => port,
    }
}
