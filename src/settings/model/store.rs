//! The store and its limits.

use std::{
    num::{NonZeroU32, NonZeroU64, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

use crate::settings::value::words;

/// The store and its limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// Which.
    pub adapter: StoreAdapter,
    /// SQLite's file.
    pub sqlite_path: PathBuf,
    /// How long a task may live without a row; zero: every task becomes one with the next commit.
    pub linger: Duration,
    /// The file may grow to this; `None`: no limit of its own.
    pub max_bytes: Option<NonZeroU64>,
    /// Tasks that wait for a worker.
    pub max_pending: NonZeroUsize,
    /// Tasks that wait for their delay.
    pub max_delayed: NonZeroUsize,
    /// Tasks that workers have.
    pub max_processing: NonZeroUsize,
    /// Tasks of one application that nobody asks for; they take no room from the others.
    pub max_unserved: NonZeroUsize,
    /// Retries and dead letters that wait to be published.
    pub max_outbox: NonZeroUsize,
    /// Retries and dead letters that Kafka refused for good.
    pub max_parked: NonZeroUsize,
    /// How often a lease may be lost before the task fails.
    pub max_lost_leases: NonZeroU32,
    /// What is added to a task's own deadline.
    pub deadline_grace: Duration,
    /// What the payloads kept in memory may take.
    pub payload_memory_bytes: NonZeroUsize,
    /// Remembered completions.
    pub early_reports_max: usize,
    /// How long a removed retry is remembered; at least the delivery time-out.
    pub tombstones_keep: Duration,
    /// How long to hold back what may have been handed out before an unclean stop; zero: not at all.
    pub hold_after_crash: Duration,
    /// How long at-most-once tasks wait for their partition.
    pub absent_partition_limit: Duration,
}

/// Which store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreAdapter {
    /// A SQLite file.
    Sqlite,
    /// Nothing that outlives the process.
    Memory,
}

words!(StoreAdapter { "sqlite" => Sqlite, "memory" => Memory } refused {
    "postgres" => "the postgres adapter is not supported yet: use sqlite",
});
