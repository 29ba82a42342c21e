//! A copy of a store that may be in use.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use sqlx::{SqliteConnection, query};
use taskbroker_domain::{ports::store::StoreError, time::Timestamp};

use crate::{
    connect::{close, open_reader},
    error::{during, file_error},
    examine::ours,
    options::SqliteOptions,
    paths::{beside, canonical, size, sync_directory, sync_file},
};

/// A copy that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Where it is.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Copies the store at `from`, as of one moment, to the new file `to`; its owner goes on working meanwhile. The copy is
/// durable and whole when this returns, and has the identity of the original. An existing file is not overwritten.
pub async fn backup(from: &Path, to: &Path) -> Result<Backup, StoreError> {
    let from = canonical(from)?;
    let to = canonical(to)?;
    refuse_to_overwrite(&to)?;
    let unfinished = beside(&to, ".unfinished");
    remove(&unfinished)?;
    let copied = copy(&from, &unfinished).await;
    let published = copied.and_then(|()| publish(&unfinished, &to));
    remove(&unfinished)?;
    published.map(|()| Backup { bytes: size(&to), path: to })
}

async fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    if size(from) == 0 {
        return Err(StoreError::Failed(format!("there is no store at {}", from.display())));
    }
    let target = to.to_str().ok_or_else(|| StoreError::Failed(format!("{} is not valid UTF-8", to.display())))?;
    let mut conn = open_reader(&SqliteOptions::new(from, Timestamp::default()), from).await?;
    let copied = copy_through(&mut conn, from, target).await;
    close(conn).await;
    copied
}

async fn copy_through(conn: &mut SqliteConnection, from: &Path, to: &str) -> Result<(), StoreError> {
    ours(conn, from).await?;
    let copied = query("VACUUM INTO ?").bind(to.to_owned()).execute(conn).await;
    copied.map(drop).map_err(during(format_args!("copying {} to {to}", from.display())))
}

/// Gives the finished copy its name, unless somebody else took that meanwhile.
pub(crate) fn publish(unfinished: &Path, to: &Path) -> Result<(), StoreError> {
    sync_file(unfinished)?;
    match fs::hard_link(unfinished, to) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => refuse_to_overwrite(to)?,
        Err(_) => {
            // Not every file system has hard links.
            refuse_to_overwrite(to)?;
            fs::rename(unfinished, to).map_err(|error| file_error("cannot name the copy", to, &error))?;
        }
    }
    sync_directory(to)
}

pub(crate) fn refuse_to_overwrite(to: &Path) -> Result<(), StoreError> {
    if to.symlink_metadata().is_err() {
        return Ok(());
    }
    Err(StoreError::Failed(format!("{} exists and is not overwritten; choose another name", to.display())))
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_error("cannot remove", path, &error)),
        _ => Ok(()),
    }
}
