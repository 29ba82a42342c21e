//! `taskbroker run`: the daemon.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use taskbroker_telemetry::{LogFormat, LogGuard, LogOptions, Metrics, init_logs};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use super::{FAILED, UNUSABLE, complain, runtime};
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

fn logs(settings: &Settings) -> Result<LogGuard> {
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
    info!(version = env!("CARGO_PKG_VERSION"), "taskbroker starts");
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    let metrics = Metrics::install(env!("CARGO_PKG_VERSION"))?;
    let mut stop = Stop::new()?;
    let daemon = Daemon::start(&loaded.settings, compose::clock(), metrics).await?;
    let failed = tokio::select! {
        () = daemon.broker.failed() => true,
        name = stop.signal() => {
            info!(signal = name, "stopping in order; a second signal ends at once");
            false
        }
    };
    tokio::select! {
        () = daemon.stop() => {}
        name = stop.second_signal() => {
            warn!(signal = name, "ended at once");
            return Ok(ExitCode::from(FAILED));
        }
    }
    info!("stopped");
    Ok(if failed { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

/// How long after a signal another one counts as the same.
const SAME_SIGNAL: Duration = Duration::from_millis(250);

/// The signals that stop the broker.
struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    quit: tokio::signal::unix::Signal,
}

impl Stop {
    fn new() -> Result<Self> {
        let listen = |kind| signal(kind).context("signals cannot be listened for");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            quit: listen(SignalKind::quit())?,
        })
    }

    /// A signal that comes on top of the first. Supervisors and terminals may deliver one signal twice, so the first moment
    /// does not count.
    async fn second_signal(&mut self) -> &'static str {
        tokio::time::sleep(SAME_SIGNAL).await;
        while tokio::time::timeout(Duration::ZERO, self.signal()).await.is_ok() {}
        self.signal().await
    }

    async fn signal(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.quit.recv() => "SIGQUIT",
        }
    }
}
