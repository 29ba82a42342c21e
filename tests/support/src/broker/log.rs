//! What a broker says on standard error.

use std::{
    io::{BufRead, BufReader, Read},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// Lines, over all lives of a broker. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    /// Takes lines from a stream until it ends.
    pub(super) fn follow(&self, stream: impl Read + Send + 'static) -> std::io::Result<()> {
        let log = self.clone();
        thread::Builder::new().name("broker-log".to_owned()).spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                log.lines_mut().push(String::from_utf8_lossy(&line).into_owned());
            }
        })?;
        Ok(())
    }

    fn lines_mut(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines_mut().clone()
    }

    /// How many lines there are: a mark for [`Log::since`].
    pub fn mark(&self) -> usize {
        self.lines_mut().len()
    }

    /// The lines since a mark.
    pub fn since(&self, mark: usize) -> Vec<String> {
        self.lines_mut().get(mark..).unwrap_or_default().to_vec()
    }

    /// The lines that hold this text.
    pub fn with(&self, text: &str) -> Vec<String> {
        self.lines_mut().iter().filter(|line| line.contains(text)).cloned().collect()
    }

    /// Lines of level ERROR, and panics.
    pub fn errors(&self) -> Vec<String> {
        let bad = |line: &&String| line.contains(" ERROR ") || line.contains("panicked at");
        self.lines_mut().iter().filter(bad).cloned().collect()
    }

    /// Waits for a line with this text after a mark.
    pub async fn await_line(&self, mark: usize, text: &str, within: Duration) -> Result<String> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(line) = self.since(mark).into_iter().find(|line| line.contains(text)) {
                return Ok(line);
            }
            if Instant::now() > deadline {
                bail!("the broker did not say {text:?} within {within:?}; it said:\n{}", self.tail(30));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The last lines, in one text.
    pub fn tail(&self, count: usize) -> String {
        let lines = self.lines_mut();
        lines.get(lines.len().saturating_sub(count)..).unwrap_or_default().join("\n")
    }
}
