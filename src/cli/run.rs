//! `taskbroker run`: the daemon.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use taskbroker_telemetry::{LogFormat, LogGuard, LogOptions, Metrics, init_logs};
use tracing::{error, info, warn};

use super::{FAILED, UNUSABLE, complain, runtime, signals::Signals};
use crate::{
    compose::{self, Daemon},
    settings::{self, Loaded, LogFormat as Format, Settings, Sources},
};

pub(super) fn run(sources: &Sources) -> ExitCode {
    let loaded = match settings::load(sources) {
        Ok(loaded) => loaded,
        Err(error) => {
            complain(&error.into());
            return ExitCode::from(UNUSABLE);
        }
    };
    let guard = match logs(&loaded.settings) {
        Ok(guard) => guard,
        Err(error) => {
            complain(&error);
            return ExitCode::from(UNUSABLE);
        }
    };
    let code = serve(&loaded);
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

pub(super) fn logs(settings: &Settings) -> Result<LogGuard> {
    let format = match settings.log.format {
        Format::Text => LogFormat::Text,
        Format::Json => LogFormat::Json,
    };
    let options = LogOptions { filter: settings.log.filter.clone(), format, ..LogOptions::default() };
    Ok(init_logs(&options, compose::clock())?)
}

fn serve(loaded: &Loaded) -> ExitCode {
    let runtime = match runtime().context("the asynchronous runtime cannot be started") {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error);
            return ExitCode::from(FAILED);
        }
    };
    let result = runtime.block_on(daemon(loaded));
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

async fn daemon(loaded: &Loaded) -> Result<ExitCode> {
    // As many as the processors, or fewer where the cgroup's CPU quota allows less.
    let worker_threads = tokio::runtime::Handle::current().metrics().num_workers();
    info!(version = env!("CARGO_PKG_VERSION"), worker_threads, "taskbroker starts");
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    let metrics = Metrics::install(env!("CARGO_PKG_VERSION"), compose::statsd_options(&loaded.settings))?;
    let mut signals = Signals::new()?;
    let daemon = tokio::select! {
        daemon = Daemon::start(&loaded.settings, compose::clock(), metrics) => daemon?,
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
