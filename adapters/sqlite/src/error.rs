//! What SQLite's errors mean to the caller of the port.

use std::{fmt::Display, io, path::Path};

use sqlx::Error;
use taskbroker_domain::ports::store::StoreError;

// Primary result codes, from https://www.sqlite.org/rescode.html.
const ERROR: i32 = 1;
const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const READONLY: i32 = 8;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CANTOPEN: i32 = 14;
const NOTADB: i32 = 26;

/// The port's error for `error`, which happened in doing `what`.
pub(crate) fn store_error(what: impl Display, error: &Error) -> StoreError {
    let text = format!("{what}: {error}");
    if matches!(error, Error::PoolTimedOut) {
        return StoreError::Busy(text);
    }
    match primary_code(error) {
        Some(BUSY | LOCKED) => StoreError::Busy(text),
        Some(FULL) => StoreError::Full(text),
        Some(CORRUPT | NOTADB) => StoreError::Corrupt(text),
        Some(READONLY | CANTOPEN) => StoreError::Failed(format!(
            "{text}; check that the file and its directory can be read and written by this user, and that the file \
             system is not mounted read-only"
        )),
        _ => StoreError::Failed(text),
    }
}

/// For `map_err`.
pub(crate) fn during<D: Display>(what: D) -> impl FnOnce(Error) -> StoreError {
    move |error| store_error(what, &error)
}

/// Why one row cannot be read, if that is all that is wrong; otherwise the port's error.
pub(crate) fn nonsense(error: Error) -> Result<String, StoreError> {
    let is_nonsense = match &error {
        Error::ColumnDecode { .. } | Error::Decode(_) => true,
        other => primary_code(other) == Some(ERROR),
    };
    if is_nonsense { Ok(error.to_string()) } else { Err(store_error("reading rows", &error)) }
}

fn primary_code(error: &Error) -> Option<i32> {
    let code = error.as_database_error()?.code()?;
    code.parse::<i32>().ok().map(|extended| extended & 0xff)
}

/// A file-system error on this path, with what to do about it.
pub(crate) fn file_error(what: &str, path: &Path, error: &io::Error) -> StoreError {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "; create the directory, or correct the path of the store",
        io::ErrorKind::PermissionDenied => "; let the user that runs the broker read and write there",
        io::ErrorKind::ReadOnlyFilesystem => "; the file system is mounted read-only",
        io::ErrorKind::StorageFull => return StoreError::Full(format!("{what} {}: {error}", path.display())),
        _ => "",
    };
    StoreError::Failed(format!("{what} {}: {error}{hint}", path.display()))
}

/// Something read back from the store makes no sense.
pub(crate) fn corrupt(what: impl Display) -> StoreError {
    StoreError::Corrupt(what.to_string())
}
