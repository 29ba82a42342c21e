//! The store's path, and what lies beside it.

use std::{
    ffi::OsString,
    fs::File,
    io,
    path::{Path, PathBuf},
};

use taskbroker_domain::ports::store::StoreError;

use crate::error::file_error;

/// The path without links and relative parts, so that two names of one file are one store. The file itself need not exist.
pub(crate) fn canonical(path: &Path) -> Result<PathBuf, StoreError> {
    match path.canonicalize() {
        Ok(found) if found.is_dir() => Err(StoreError::Failed(format!("the store {} is a directory", found.display()))),
        Ok(found) => Ok(found),
        Err(error) if error.kind() == io::ErrorKind::NotFound => canonical_new(path),
        Err(error) => Err(file_error("cannot reach the store", path, &error)),
    }
}

fn canonical_new(path: &Path) -> Result<PathBuf, StoreError> {
    let name = path
        .file_name()
        .ok_or_else(|| StoreError::Failed(format!("the store's path {} names no file", path.display())))?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match directory.canonicalize() {
        Ok(directory) => Ok(directory.join(name)),
        Err(error) => Err(file_error("cannot reach the directory of the store,", directory, &error)),
    }
}

/// The path with something appended to its last part: `store.sqlite` and `-wal` are `store.sqlite-wal`.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// The size of a file in bytes; 0 when there is none. It is not opened: closing a second handle on a SQLite file would
/// drop the locks of the first.
pub(crate) fn size(path: &Path) -> u64 {
    path.metadata().map_or(0, |metadata| metadata.len())
}

/// Makes the entries of the directory that holds `path` durable.
pub(crate) fn sync_directory(path: &Path) -> Result<(), StoreError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|error| file_error("cannot sync the directory", directory, &error))
}

/// Makes the content of a file durable; one that is not there is fine.
pub(crate) fn sync_file(path: &Path) -> Result<(), StoreError> {
    match File::open(path).and_then(|file| file.sync_all()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_error("cannot sync", path, &error)),
        _ => Ok(()),
    }
}
