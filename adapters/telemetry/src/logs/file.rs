//! A log in a file, with the latest warnings kept at hand.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// How many warnings are kept: as many as fit below a display.
const WARNINGS_MAX: usize = 5;

/// The latest warnings and errors that were logged, the oldest first; clones share them.
#[derive(Clone, Debug, Default)]
pub struct RecentWarnings(Arc<Mutex<VecDeque<String>>>);

impl RecentWarnings {
    /// Each as it stands in the log, without its time; at most five.
    pub fn lines(&self) -> Vec<String> {
        self.lock().iter().cloned().collect()
    }

    fn note(&self, line: &str) {
        let mut lines = self.lock();
        if lines.len() == WARNINGS_MAX {
            lines.pop_front();
        }
        lines.push_back(without_time(line).to_owned());
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A text line begins with its time, a JSON one does not.
fn without_time(line: &str) -> &str {
    let line = line.trim_end();
    match line.split_once(char::is_whitespace) {
        Some((time, rest)) if time.ends_with('Z') => rest.trim_start(),
        _ => line,
    }
}

/// Where the lines go.
pub(super) struct LogFile {
    file: File,
    warnings: RecentWarnings,
}

impl LogFile {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { file, warnings: RecentWarnings::default() })
    }

    pub(super) fn warnings(&self) -> RecentWarnings {
        self.warnings.clone()
    }
}

impl<'w> MakeWriter<'w> for LogFile {
    type Writer = Line<'w>;

    fn make_writer(&'w self) -> Line<'w> {
        Line { file: &self.file, warnings: None }
    }

    fn make_writer_for(&'w self, metadata: &Metadata<'_>) -> Line<'w> {
        Line { file: &self.file, warnings: (*metadata.level() <= Level::WARN).then_some(&self.warnings) }
    }
}

/// One line on its way: it is written with one call.
pub(super) struct Line<'w> {
    file: &'w File,
    warnings: Option<&'w RecentWarnings>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(warnings) = self.warnings {
            warnings.note(&String::from_utf8_lossy(bytes));
        }
        self.file.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
