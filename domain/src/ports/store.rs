//! The journal of the ledger.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use uuid::Uuid;

use crate::{
    activation::{ActivationId, Key, Origin, PartitionId, RetryWish, Route, Slot, Terms},
    lifecycle::Publication,
    ports::service::Verdict,
    time::Timestamp,
};

/// Keeps rows and positions durably.
///
/// Contract:
/// - [`ActivationStore::commit`] is atomic, and durable (fsynced) when it returns `Ok`. Applying the same commit again
///   changes nothing. The caller makes one commit at a time, in ascending number.
/// - Reads see every commit that was answered, and none half.
/// - One store has one owner: opening it twice is refused, naming the first.
/// - No rule lives here: a store neither expires nor reorders nor judges ids.
#[async_trait]
pub trait ActivationStore: Send + Sync {
    /// The store's own identity, made when it was created.
    fn identity(&self) -> Uuid;

    /// Everything but the rows, as of the last commit.
    async fn state(&self) -> Result<StoredState, StoreError>;

    /// Up to `limit` rows with keys above `after`, by ascending key, without payloads.
    async fn rows(&self, after: Option<Key>, limit: usize) -> Result<Vec<Row>, StoreError>;

    /// The payloads of these keys, in any order. Those without a row are left out.
    async fn payloads(&self, keys: &[Key]) -> Result<Vec<(Key, Bytes)>, StoreError>;

    /// Applies all changes, or none.
    async fn commit(&self, commit: &Commit) -> Result<(), StoreError>;

    /// How much room it takes.
    async fn usage(&self) -> Result<Usage, StoreError>;

    /// Closes it in good order. Later calls may fail.
    async fn close(&self);
}

/// What a store holds beside rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredState {
    /// The last commit said that it closed the store; a new store counts as closed.
    pub closed: bool,
    /// The positions of all partitions it ever read and did not void.
    pub positions: Vec<Position>,
    /// Remembered reports, in no order; one for each id.
    pub early_reports: Vec<EarlyReport>,
    /// Tombstones, oldest first.
    pub tombstones: Vec<Tombstone>,
    /// The largest key of any row.
    pub last_key: Option<Key>,
}

/// A row: what the ledger needs to resume an activation, but for its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its key.
    pub key: Key,
    /// The activation's id.
    pub id: ActivationId,
    /// Who runs it.
    pub route: Arc<Route>,
    /// Its conditions.
    pub terms: Terms,
    /// When it was produced.
    pub received_at: Timestamp,
    /// When this broker took it in.
    pub added_at: Timestamp,
    /// Where it was read; none once the log it came from is void.
    pub origin: Option<Origin>,
    /// A retry or forwarded copy of ours.
    pub marked: bool,
    /// The length of its payload, in bytes.
    pub payload_bytes: u32,
    /// How often its lease was lost (`processing_attempts`).
    pub lost_leases: u32,
    /// Its state.
    pub state: RowState,
}

/// The states that a row can have. What is complete has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowState {
    /// Waits for a worker; `ready_at` may lie in the future.
    Pending {
        /// From when on it may be handed out.
        ready_at: Timestamp,
    },
    /// A worker has it.
    Processing {
        /// When its lease ends.
        lease_ends_at: Timestamp,
    },
    /// Waits to be published to the retry topic.
    Retry {
        /// What the worker asked for.
        wish: RetryWish,
        /// How far its publication is.
        publication: Publication,
    },
    /// Waits to be forwarded to another topic.
    Forward {
        /// How far its publication is.
        publication: Publication,
    },
    /// Waits to be published to the dead-letter topic.
    Failed {
        /// Why it failed.
        cause: FailureCause,
        /// How far its publication is.
        publication: Publication,
    },
}

/// A report that came before its task: it settles the task when that is read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EarlyReport {
    /// The task.
    pub id: ActivationId,
    /// How it ended.
    pub verdict: Verdict,
    /// It is about the copy of a forwarded task, which may come at any time.
    pub of_copy: bool,
}

/// Why an activation failed for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FailureCause {
    /// A worker said so.
    Reported,
    /// Its lease was lost too often.
    LeasesExhausted,
    /// At-most-once, and the worker that had it was lost.
    WorkerLost,
    /// At-most-once, and nobody can say whether it was already handed out elsewhere.
    InDoubt,
    /// Its payload could not be read back from the store.
    Unreadable,
    /// No worker can be given it (it is too large to be sent), with the reason.
    Undeliverable(Box<str>),
    /// It is no activation: raw bytes on their way to the dead-letter topic, with the reason.
    Undecodable(Box<str>),
}

/// A partition's position in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The short name that rows use.
    pub slot: Slot,
    /// The partition.
    pub partition: Arc<PartitionId>,
    /// Every offset below it is a row or settled.
    pub watermark: i64,
    /// The leader epoch of the last record below the watermark, where known.
    pub leader_epoch: Option<i32>,
    /// What is settled at and above the watermark: bit `i % 8` (least significant first) of byte `i / 8` stands for offset
    /// `watermark + i`.
    pub settled: Vec<u8>,
    /// Up to here (exclusive) a Kafka commit of ours is acknowledged, in an assignment that read it.
    pub acknowledged: i64,
    /// No record at or above this offset has been handed out.
    pub read_limit: i64,
}

/// An id that must not be admitted again for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// The id of a retry or copy of ours that was removed.
    pub id: ActivationId,
    /// The partition in which its copies would come.
    pub slot: Slot,
}

/// A set of changes that become durable together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// Its number: ascending from 1 within a process.
    pub number: u64,
    /// Rows to be added.
    pub insert: Vec<NewRow>,
    /// Rows to be changed. A key without a row is ignored.
    pub update: Vec<RowUpdate>,
    /// Rows to be removed. A key without a row is ignored.
    pub delete: Vec<Key>,
    /// Rows whose origin is void (their log is gone).
    pub clear_origin: Vec<Key>,
    /// Positions to be set, each whole.
    pub positions: Vec<Position>,
    /// Positions to be removed.
    pub drop_positions: Vec<Slot>,
    /// Early reports to be remembered; one replaces an earlier one of its id.
    pub remember: Vec<EarlyReport>,
    /// Early reports to be forgotten. (An id is never in both lists.)
    pub forget: Vec<ActivationId>,
    /// Tombstones to be added.
    pub bury: Vec<Tombstone>,
    /// Tombstones to be removed. (An id is never in both lists.)
    pub unbury: Vec<ActivationId>,
    /// The last commit of an orderly stop. Any other commit marks the store as open.
    pub closing: bool,
}

impl Commit {
    /// Whether it would change nothing.
    pub fn is_empty(&self) -> bool {
        let Self { number: _, insert, update, delete, clear_origin, positions, .. } = self;
        let Self { drop_positions, remember, forget, bury, unbury, closing, .. } = self;
        insert.is_empty()
            && update.is_empty()
            && delete.is_empty()
            && clear_origin.is_empty()
            && positions.is_empty()
            && drop_positions.is_empty()
            && remember.is_empty()
            && forget.is_empty()
            && bury.is_empty()
            && unbury.is_empty()
            && !closing
    }

    /// How many rows it touches.
    pub fn rows(&self) -> usize {
        self.insert.len() + self.update.len() + self.delete.len()
    }
}

/// A row with its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRow {
    /// The row.
    pub row: Row,
    /// The activation's bytes.
    pub payload: Bytes,
}

/// What can change in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowUpdate {
    /// Which.
    pub key: Key,
    /// How often its lease was lost.
    pub lost_leases: u32,
    /// Its state.
    pub state: RowState,
}

/// How much room a store takes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// In use by data.
    pub used_bytes: u64,
    /// Taken on disk, journals included.
    pub disk_bytes: u64,
    /// What the disk still has room for; none where that is not known.
    pub room_bytes: Option<u64>,
}

/// What a store cannot do, and what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else holds a lock; the same call may succeed later.
    #[error("the store is busy: {0}")]
    Busy(String),
    /// No room; the same call may succeed once there is some.
    #[error("the store is full: {0}")]
    Full(String),
    /// Another broker owns it.
    #[error("the store {path} is in use by {owner}")]
    Owned {
        /// Which store.
        path: String,
        /// Who has it.
        owner: String,
    },
    /// Its schema is not one this program knows.
    #[error("the store {path} cannot be used: {reason}")]
    Incompatible {
        /// Which store.
        path: String,
        /// What it is and what was expected.
        reason: String,
    },
    /// It is damaged. Stop; do not write to it.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
    /// Reading or writing failed for a reason that does not pass by itself. Stop.
    #[error("the store failed: {0}")]
    Failed(String),
}

impl StoreError {
    /// Whether the same call may succeed later.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Busy(_) | Self::Full(_) => true,
            Self::Owned { .. } | Self::Incompatible { .. } | Self::Corrupt(_) | Self::Failed(_) => false,
        }
    }
}
