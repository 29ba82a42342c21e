//! Commands on a store.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};

use super::{runtime, tell};
use crate::settings::{self, Sources};

pub(super) fn backup(sources: &Sources, from: Option<PathBuf>, to: &Path) -> ExitCode {
    tell(try_backup(sources, from, to))
}

fn try_backup(sources: &Sources, from: Option<PathBuf>, to: &Path) -> Result<String> {
    let from = match from {
        Some(from) => from,
        None => settings::load(sources)?.settings.store.sqlite_path,
    };
    let backup = runtime()?
        .block_on(taskbroker_sqlite::backup(&from, to))
        .with_context(|| format!("{} was not copied", from.display()))?;
    Ok(format!("{} copied to {} ({} bytes)\n", from.display(), backup.path.display(), backup.bytes))
}
