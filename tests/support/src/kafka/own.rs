//! A Kafka of a test's own.

use std::{ops::Deref, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::{
    Kafka,
    provision::{await_answer, script},
};

/// A private Kafka. Use it like a [`Kafka`]; besides, it can be stopped, killed and frozen. Gone when dropped.
#[derive(Debug)]
pub struct OwnKafka {
    kafka: Kafka,
    dir: TempDir,
}

impl OwnKafka {
    pub(super) fn start() -> Result<Self> {
        let dir = TempDir::new().context("directory for a private Kafka")?;
        let address = script(&["up", "--dir", text(dir.path())?])?;
        Ok(Self { kafka: Kafka::at(&address)?, dir })
    }

    /// Stops it in good order; data and port stay.
    pub fn stop(&self) -> Result<()> {
        self.script("stop", &[])
    }

    /// Kills it as a power failure would; data and port stay.
    pub fn kill(&self) -> Result<()> {
        self.script("stop", &["--kill"])
    }

    /// Starts it again where it stopped, and waits until it answers.
    pub fn start_again(&self) -> Result<()> {
        self.script("up", &[])?;
        await_answer(self.kafka.address())
    }

    /// Throws away everything it has and starts it again, empty, at the same address: another cluster, with other topics.
    pub fn wipe(&self) -> Result<()> {
        self.script("down", &["--wipe"])?;
        let (_, port) = self.kafka.address().rsplit_once(':').context("an address without a port")?;
        self.script("up", &["--port", port])?;
        await_answer(self.kafka.address())
    }

    /// Freezes it: connections stay open, nothing is answered.
    pub fn freeze(&self) -> Result<()> {
        self.signal("-STOP")
    }

    /// Ends a freeze.
    pub fn thaw(&self) -> Result<()> {
        self.signal("-CONT")
    }

    fn script(&self, command: &str, more: &[&str]) -> Result<()> {
        let arguments = [&[command, "--dir", text(self.dir.path())?], more].concat();
        script(&arguments).map(drop)
    }

    fn signal(&self, signal: &str) -> Result<()> {
        let pid = script(&["pid", "--dir", text(self.dir.path())?])?;
        let status = Command::new("kill").args([signal, &pid]).status().context("kill cannot be run")?;
        ensure!(status.success(), "kill {signal} {pid} failed");
        Ok(())
    }
}

impl Deref for OwnKafka {
    type Target = Kafka;

    fn deref(&self) -> &Kafka {
        &self.kafka
    }
}

impl Drop for OwnKafka {
    fn drop(&mut self) {
        if let Err(error) = self.script("down", &["--wipe"]) {
            tracing::warn!(%error, "a test's private Kafka did not stop");
        }
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a temporary directory's name is no UTF-8")
}
