//! Signals that stop the program.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

/// How long after a signal another one counts as the same.
const SAME_SIGNAL: Duration = Duration::from_millis(250);

/// The signals that stop the program.
pub(super) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    quit: tokio::signal::unix::Signal,
}

impl Signals {
    /// Listens from here on: none of them ends the process by itself any more.
    pub(super) fn new() -> Result<Self> {
        let listen = |kind| signal(kind).context("signals cannot be listened for");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            quit: listen(SignalKind::quit())?,
        })
    }

    /// A signal that comes on top of the first. Supervisors and terminals may deliver one signal twice, so the first moment
    /// does not count.
    pub(super) async fn second(&mut self) -> &'static str {
        tokio::time::sleep(SAME_SIGNAL).await;
        while tokio::time::timeout(Duration::ZERO, self.next()).await.is_ok() {}
        self.next().await
    }

    /// The name of the next one.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.quit.recv() => "SIGQUIT",
        }
    }
}
