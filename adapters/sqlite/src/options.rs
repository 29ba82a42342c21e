//! How a store is opened.

use std::{path::PathBuf, time::Duration};

use taskbroker_domain::time::Timestamp;

use crate::existing::TakeOver;

/// Where the store is and how it is used.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// The file. Its directory must exist.
    pub path: PathBuf,
    /// The moment of opening: stands in the lock file, and in the name of a damaged file that is set aside.
    pub now: Timestamp,
    /// When the whole file is read and checked before it is used.
    pub check: IntegrityCheck,
    /// How long a call waits for a lock that another process holds before it is answered with `Busy`.
    pub busy_limit: Duration,
    /// How many connections read beside the one that writes.
    pub readers: u32,
    /// The writer's page cache, in bytes.
    pub cache_bytes: u32,
    /// The write-ahead log may grow to this before commits are refused as `Full`. It grows only while some process keeps
    /// reading one old state of the file; otherwise it stays at about 16 MiB and is reused.
    pub wal_max_bytes: u64,
    /// The file may grow to this before commits are refused as `Full`; no limit but the disk's where there is none.
    pub file_max_bytes: Option<u64>,
    /// How the existing system's file is taken over; none: one is refused.
    pub take_over: Option<TakeOver>,
    /// A damaged file is left where it is and refused, instead of being set aside for a new one.
    pub keep_damaged: bool,
}

/// When the whole file is read and checked before it is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IntegrityCheck {
    /// Each time: half a second for a million rows of 600 bytes, where the disk delivers them as fast.
    #[default]
    Always,
    /// When it was not closed in good order.
    AfterCrash,
    /// Never. Damage shows when it is met.
    Never,
}

impl SqliteOptions {
    /// The usual options for this file.
    pub fn new(path: impl Into<PathBuf>, now: Timestamp) -> Self {
        Self {
            path: path.into(),
            now,
            check: IntegrityCheck::default(),
            busy_limit: Duration::from_millis(250),
            readers: 2,
            cache_bytes: 8 << 20,
            wal_max_bytes: 1 << 30,
            file_max_bytes: None,
            take_over: None,
            keep_damaged: false,
        }
    }
}
