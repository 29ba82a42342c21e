//! `taskbroker run`: the daemon.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use taskbroker_telemetry::{LogFormat, LogGuard, LogOptions, Metrics, Spans, init_logs};
use tokio::runtime::Runtime;
use tracing::{error, info, warn};

use super::{FAILED, UNUSABLE, complain, runtime, signals::Signals};
use crate::{
    compose::{self, Daemon, traces::Traces},
    settings::{self, Loaded, LogFormat as Format, Settings, Sources},
};

/// How long the collector may take for the last traces.
const LAST_TRACES_LIMIT: Duration = Duration::from_millis(500);
/// What supervisors commonly grant for stopping.
const STOP_MOST: Duration = Duration::from_secs(10);

pub(super) fn run(sources: &Sources) -> ExitCode {
    let loaded = match settings::load(sources) {
        Ok(loaded) => loaded,
        Err(error) => {
            complain(&error.into());
            return ExitCode::from(UNUSABLE);
        }
    };
    let runtime = match runtime().context("the asynchronous runtime cannot be started") {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error);
            return ExitCode::from(FAILED);
        }
    };
    let (traces, guard) = match observe(&runtime, &loaded.settings) {
        Ok(observed) => observed,
        Err(error) => {
            complain(&error);
            return ExitCode::from(UNUSABLE);
        }
    };
    let code = serve(runtime, &loaded, traces.as_ref());
    drop(guard);
    code
}

/// `--run migrations`: there is nothing to do, which a job of a deployment takes for done.
pub(super) fn migrations(sources: &Sources) -> ExitCode {
    match settings::load(sources) {
        Ok(_) => {
            complain(&anyhow::anyhow!(
                "warning: no migrations are run: the broker brings its store up to date when it opens it"
            ));
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&error.into());
            ExitCode::from(UNUSABLE)
        }
    }
}

/// Logs, and traces where they are wanted.
fn observe(runtime: &Runtime, settings: &Settings) -> Result<(Option<Traces>, LogGuard)> {
    let (traces, spans) = {
        let _within = runtime.enter();
        compose::traces::begin(settings)?.unzip()
    };
    let guard = logs(settings, spans)?;
    Ok((traces, guard))
}

pub(super) fn logs(settings: &Settings, spans: Option<Spans>) -> Result<LogGuard> {
    let format = match settings.log.format {
        Format::Text => LogFormat::Text,
        Format::Json => LogFormat::Json,
    };
    let options = LogOptions { filter: settings.log.filter.clone(), format, ..LogOptions::default() };
    Ok(init_logs(&options, compose::clock(), spans)?)
}

fn serve(runtime: Runtime, loaded: &Loaded, traces: Option<&Traces>) -> ExitCode {
    let result = runtime.block_on(daemon(loaded, traces));
    if let Some(traces) = traces {
        // It comes on top of the time for stopping, which is 10 s at most.
        traces.shut_down(STOP_MOST.saturating_sub(loaded.settings.shutdown_timeout).min(LAST_TRACES_LIMIT));
    }
    // What still blocks (a Kafka client that waits for a dead cluster) must not hold up the end.
    runtime.shutdown_timeout(Duration::from_millis(200));
    match result {
        Ok(code) => code,
        Err(error) => {
            error!(error = format!("{error:#}"), "the broker does not start");
            ExitCode::from(FAILED)
        }
    }
}

async fn daemon(loaded: &Loaded, traces: Option<&Traces>) -> Result<ExitCode> {
    // As many as the processors, or fewer where the cgroup's CPU quota allows less.
    let worker_threads = tokio::runtime::Handle::current().metrics().num_workers();
    info!(version = env!("CARGO_PKG_VERSION"), worker_threads, "taskbroker starts");
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    let metrics = Metrics::install(env!("CARGO_PKG_VERSION"), compose::statsd_options(&loaded.settings))?;
    let mut signals = Signals::new()?;
    let daemon = tokio::select! {
        daemon = Daemon::start(&loaded.settings, compose::clock(), metrics, traces) => daemon?,
        name = signals.next() => {
            info!(signal = name, "stopped while starting; nothing had been taken in");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let failed = tokio::select! {
        () = daemon.failed() => true,
        name = signals.next() => {
            info!(signal = name, "stopping in order; a second signal ends at once");
            false
        }
    };
    tokio::select! {
        () = daemon.stop() => {}
        name = signals.second() => {
            warn!(signal = name, "ended at once");
            return Ok(ExitCode::from(FAILED));
        }
    }
    info!("stopped");
    Ok(if failed { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}
