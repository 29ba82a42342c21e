//! Putting a new file in the place of another, in one step.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use taskbroker_domain::ports::store::StoreError;

use crate::{
    disk::room,
    error::file_error,
    paths::{beside, size, sync_directory, sync_file},
};

/// What a store needs beyond its rows: the schema, the log of a few commits.
const ROOM_BEYOND: u64 = 32 << 20;

/// A SQLite database has these beside itself while it is open.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Removes a file that was not finished, with what is beside it.
pub(crate) fn discard(path: &Path) -> Result<(), StoreError> {
    remove(path)?;
    COMPANIONS.iter().try_for_each(|suffix| remove(&beside(path, suffix)))
}

/// Refuses to begin without room for a second file of this size.
pub(super) fn ensure_room(path: &Path) -> Result<(), StoreError> {
    let needed = (size(path) + size(&beside(path, "-wal"))).saturating_add(ROOM_BEYOND);
    match room(path) {
        Some(room) if room < needed => Err(StoreError::Full(format!(
            "taking over {} needs {needed} bytes for the new file beside it, and {room} are free: make room, or enlarge the \
             volume",
            path.display(),
        ))),
        Some(_) | None => Ok(()),
    }
}

/// Gives `fresh` the name of `path`. What was there is kept under its name and this suffix, if any is given, and that name is
/// returned. Nobody may have either open.
pub(super) fn replace(path: &Path, fresh: &Path, keep: Option<&str>) -> Result<Option<PathBuf>, StoreError> {
    settle(path)?;
    settle(fresh)?;
    sync_file(fresh)?;
    let kept = keep.map(|suffix| keep_as(path, suffix)).transpose()?;
    sync_directory(path)?;
    fs::rename(fresh, path).map_err(|error| file_error("cannot put the new file in the place of", path, &error))?;
    sync_directory(path)?;
    Ok(kept)
}

/// A log that is left beside a file is replayed into whatever has its name: there must be none.
fn settle(path: &Path) -> Result<(), StoreError> {
    for suffix in ["-wal", "-journal"] {
        let log = beside(path, suffix);
        if size(&log) > 0 {
            return Err(StoreError::Failed(format!(
                "{} was not copied into its file: another process reads it; end that process",
                log.display(),
            )));
        }
    }
    COMPANIONS.iter().try_for_each(|suffix| remove(&beside(path, suffix)))
}

/// A second name for the file, or a copy where the file system has no second names.
fn keep_as(path: &Path, suffix: &str) -> Result<PathBuf, StoreError> {
    let kept = free_name(&beside(path, suffix));
    sync_file(path)?;
    if fs::hard_link(path, &kept).is_err() {
        let unfinished = beside(&kept, ".unfinished");
        fs::copy(path, &unfinished).map_err(|error| file_error("cannot copy", path, &error))?;
        sync_file(&unfinished)?;
        fs::rename(&unfinished, &kept).map_err(|error| file_error("cannot name the copy", &kept, &error))?;
    }
    Ok(kept)
}

fn free_name(base: &Path) -> PathBuf {
    let numbered = (2..).map(|number| beside(base, &format!(".{number}")));
    let mut names = std::iter::once(base.to_owned()).chain(numbered);
    names.find(|name| !name.exists()).unwrap_or_else(|| base.to_owned())
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_error("cannot remove", path, &error)),
        _ => Ok(()),
    }
}
