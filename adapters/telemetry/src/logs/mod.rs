//! Logs on stderr or in a file: filtered, as text or JSON, and without floods of one and the same line.

mod file;
mod filter;
mod limit;
mod repeats;

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use taskbroker_domain::ports::clock::Clock;
use tracing::Subscriber;
use tracing_subscriber::{
    Layer, Registry,
    filter::filter_fn,
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
};

pub use self::file::RecentWarnings;
use self::{
    file::LogFile,
    limit::{RepeatLimit, Summaries},
};

/// How to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// What is logged (`log_filter`): directives like `info,librdkafka=warn`.
    pub filter: String,
    /// In which form (`log_format`).
    pub format: LogFormat,
    /// How often one line may appear within an interval; more are counted and summed up. 10, enough to see a pattern.
    /// Debug and trace lines are never held back: who turns them on wants them all.
    pub repeats_max: u32,
    /// The interval. 10 s.
    pub repeats_interval: Duration,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            filter: "info,librdkafka=warn,h2=off".to_owned(),
            format: LogFormat::Text,
            repeats_max: 10,
            repeats_interval: Duration::from_secs(10),
        }
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people; coloured on a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Logging could not be set up.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// A directive is none.
    #[error(
        "log_filter: {directive:?} cannot be understood ({reason}); write directives like \"info,librdkafka=warn\""
    )]
    Filter {
        /// Which.
        directive: String,
        /// Why.
        reason: String,
    },
    /// The process logs already.
    #[error("logs were set up before")]
    AlreadySet,
    /// The file cannot be written.
    #[error("the log file {} cannot be made: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The thread that sums up repeated lines did not start.
    #[error("the thread that sums up repeated log lines cannot be started: {0}")]
    Thread(String),
}

/// What receives spans, beside the log: those of one target, which the log does not show.
pub struct Spans {
    /// The target.
    pub target: &'static str,
    /// The receiver.
    pub layer: Box<dyn Layer<Registry> + Send + Sync>,
}

/// Keeps summing up repeated lines. Dropped, it writes the last sums.
#[derive(Debug)]
pub struct LogGuard {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        drop(self.stop.take());
        // A summariser that panicked has nothing more to say.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Logs to stderr from here on, for the whole process, and passes spans on. Keep the guard until the end.
pub fn init_logs(options: &LogOptions, clock: Arc<dyn Clock>, spans: Option<Spans>) -> Result<LogGuard, LogError> {
    let ansi = io::stderr().is_terminal();
    let (subscriber, summaries) = subscriber(options, clock, io::stderr, ansi, spans)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::AlreadySet)?;
    summarise_every(options.repeats_interval, summaries)
}

/// Logs to this file from here on, for the whole process, and keeps the latest warnings at hand for a display that takes
/// the place of stderr. What the file held before is kept. Keep the guard until the end.
pub fn init_logs_to_file(
    options: &LogOptions,
    clock: Arc<dyn Clock>,
    path: &Path,
) -> Result<(LogGuard, RecentWarnings), LogError> {
    let file =
        LogFile::open(path).map_err(|error| LogError::File { path: path.to_owned(), reason: error.to_string() })?;
    let warnings = file.warnings();
    let (subscriber, summaries) = subscriber(options, clock, file, false, None)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::AlreadySet)?;
    Ok((summarise_every(options.repeats_interval, summaries)?, warnings))
}

/// What [`init_logs`] installs, with a writer of choice.
fn subscriber<W>(
    options: &LogOptions,
    clock: Arc<dyn Clock>,
    writer: W,
    ansi: bool,
    spans: Option<Spans>,
) -> Result<(impl Subscriber + Send + Sync + use<W>, Summaries), LogError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let target = spans.as_ref().map(|spans| spans.target);
    let filter = filter::parse(&options.filter, target)?;
    let (limit, summaries) = RepeatLimit::new(clock, options.repeats_max, options.repeats_interval);
    let lines = fmt::layer().with_writer(writer).with_ansi(ansi);
    let lines = match options.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
    };
    let lines = match target {
        Some(target) => lines.with_filter(filter_fn(move |metadata| metadata.target() != target)).boxed(),
        None => lines,
    };
    let spans = spans.map(|spans| spans.layer);
    Ok((Registry::default().with(spans).with(lines).with(limit).with(filter), summaries))
}

fn summarise_every(interval: Duration, summaries: Summaries) -> Result<LogGuard, LogError> {
    let (stop, stopped) = channel();
    let run = move || {
        while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
            summaries.write_due();
        }
        summaries.write_all();
    };
    let thread = thread::Builder::new().name("log-repeats".to_owned()).spawn(run);
    let thread = thread.map_err(|e| LogError::Thread(e.to_string()))?;
    Ok(LogGuard { stop: Some(stop), thread: Some(thread) })
}

#[cfg(test)]
mod tests;
