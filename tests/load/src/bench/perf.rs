//! A profile of a broker while it is measured.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};

/// A `perf record` that runs. Its file is complete after [`Recording::finish`].
#[derive(Debug)]
pub(crate) struct Recording(Child);

impl Recording {
    /// Samples a process a thousand times a second of CPU time, with its stacks. (`cpu-clock` also counts where the machine
    /// is a virtual one without counters.)
    pub(crate) fn of(pid: u32, file: &Path) -> Result<Self> {
        let child = Command::new("perf")
            .args(["record", "--quiet", "--event", "cpu-clock", "--freq", "997", "--call-graph", "dwarf,16384"])
            .arg("--output")
            .arg(file)
            .arg("--pid")
            .arg(pid.to_string())
            .stdin(Stdio::null())
            .spawn()
            .context("perf cannot be run (Debian: linux-perf)")?;
        Ok(Self(child))
    }

    /// Ends it and waits until its file is complete.
    pub(crate) fn finish(mut self) -> Result<()> {
        let told = Command::new("kill").arg("-INT").arg(self.0.id().to_string()).status()?;
        ensure!(told.success(), "perf ended before its time");
        self.0.wait()?;
        Ok(())
    }
}
