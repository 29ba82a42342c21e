//! Who owns a store. The lock is on a file beside it, not on SQLite's own: readers must still get in.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use taskbroker_domain::{ports::store::StoreError, time::Timestamp};

use crate::{damage::utc, error::file_error, paths::beside};

/// An exclusive lock on a store, held until it is dropped or its process ends. The file stays: removing it would race
/// with the next owner.
#[derive(Debug)]
pub(crate) struct OwnerLock {
    _file: File,
}

/// `inspect` takes the lock for an instant to see whether it is free: a start at that instant tries again.
const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);

impl OwnerLock {
    /// Takes the lock on the store at this canonical path, or names who has it.
    pub(crate) async fn acquire(store: &Path, now: Timestamp) -> Result<Self, StoreError> {
        let path = lock_path(store);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = file.map_err(|error| file_error("cannot open the lock file", &path, &error))?;
        for attempt in 1..=ATTEMPTS {
            match file.try_lock() {
                Ok(()) => return Self::sign(file, &path, now),
                Err(TryLockError::WouldBlock) if attempt < ATTEMPTS => tokio::time::sleep(PAUSE).await,
                Err(TryLockError::WouldBlock) => break,
                Err(TryLockError::Error(error)) => return Err(file_error("cannot lock", &path, &error)),
            }
        }
        Err(StoreError::Owned { path: store.display().to_string(), owner: signature(&mut file) })
    }

    fn sign(mut file: File, path: &Path, now: Timestamp) -> Result<Self, StoreError> {
        let text = format!("pid {} on {}, since {}\n", std::process::id(), host(), utc(now));
        let signed = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text.as_bytes()));
        signed.map_err(|error| file_error("cannot write the lock file", path, &error))?;
        Ok(Self { _file: file })
    }
}

/// Who owns the store at this canonical path, if anybody does.
pub(crate) fn owner(store: &Path) -> Option<String> {
    let mut file = File::open(lock_path(store)).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(signature(&mut file)),
        Ok(()) | Err(TryLockError::Error(_)) => None,
    }
}

fn lock_path(store: &Path) -> PathBuf {
    beside(store, ".lock")
}

fn signature(file: &mut File) -> String {
    let mut text = String::new();
    match file.rewind().and_then(|()| file.take(1_000).read_to_string(&mut text)) {
        Ok(read) if read > 0 => text.trim().to_owned(),
        _ => "another process".to_owned(),
    }
}

fn host() -> String {
    let name =
        std::fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| std::fs::read_to_string("/etc/hostname"));
    name.map_or_else(|_| "this host".to_owned(), |name| name.trim().to_owned())
}
