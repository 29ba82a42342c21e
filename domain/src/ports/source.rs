//! Where activations come from.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{activation::PartitionId, time::Timestamp};

/// Reads partitions of a topic as a member of a group.
///
/// Contract:
/// - A partition delivers nothing before [`ActivationSource::start`] named its position, and after that each record once,
///   in order, until it is revoked or lost, or a new start is named.
/// - [`SourceEvent::Assigned`] comes only once the committed position has been learned. `start` is answered by records.
/// - `Skipped`, `End`: what a partition's log leaves out (compaction, transaction markers) is never reported as a gap in
///   the records' offsets unless the fetch was contiguous; a loss to retention is [`SourceEvent::OutOfRange`].
/// - While nobody asks (`room` 0), partitions are paused and membership is kept.
/// - Commits are asynchronous; each is answered by [`SourceEvent::Committed`] or [`SourceEvent::CommitFailed`] at most
///   once, and never after the assignment it was made in has ended.
#[async_trait]
pub trait ActivationSource: Send + Sync {
    /// The next event. At most `room` records come in one event; with no room, no records come. May be cancelled and
    /// called again without losing an event.
    async fn receive(&self, room: usize) -> SourceEvent;

    /// Names the position from which an assigned partition is read from here on.
    fn start(&self, start: Start);

    /// Commits positions to the group, asynchronously.
    fn commit(&self, positions: Vec<GroupCommit>);

    /// Leaves the group and closes, after committing `positions` synchronously. Bounded in time.
    async fn close(&self, positions: Vec<GroupCommit>);
}

/// One assignment of one partition to this member; a later one has a larger number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AssignmentId(pub u64);

/// What a source tells.
#[derive(Debug)]
pub enum SourceEvent {
    /// Partitions were assigned and wait for their start. `complete` lists all that are assigned to this member.
    Assigned {
        /// Those that wait.
        partitions: Vec<Assigned>,
    },
    /// Records of one partition, in order.
    Records {
        /// The partition.
        partition: Arc<PartitionId>,
        /// The assignment they were read in.
        assignment: AssignmentId,
        /// The records.
        records: Vec<Record>,
    },
    /// The partition was read to its end: every offset below `offset` was delivered or does not exist.
    End {
        /// The partition.
        partition: Arc<PartitionId>,
        /// The assignment.
        assignment: AssignmentId,
        /// The next offset to be written.
        offset: i64,
    },
    /// The position that was asked for is not in the log: retention overtook it, or the log is shorter than it was.
    /// The partition waits for a new start.
    OutOfRange(Assigned),
    /// Partitions are being taken away in good order. Nothing more comes from them. Until `barrier` is released (or its
    /// time is up) the group waits.
    Revoking {
        /// The partitions.
        partitions: Vec<Arc<PartitionId>>,
        /// To be released when everything is durable.
        barrier: Barrier,
    },
    /// Partitions were lost (session expired, fenced). Others may read them already.
    Lost {
        /// The partitions.
        partitions: Vec<Arc<PartitionId>>,
    },
    /// A commit was acknowledged by the group.
    Committed {
        /// The partition.
        partition: Arc<PartitionId>,
        /// The assignment in which it was made.
        assignment: AssignmentId,
        /// The position: the offset of the next record to be read by a successor.
        offset: i64,
    },
    /// A commit failed or its outcome is unknown; it may be sent again.
    CommitFailed {
        /// The partition.
        partition: Arc<PartitionId>,
        /// The assignment in which it was made.
        assignment: AssignmentId,
    },
    /// Whether Kafka can be reached changed.
    Connection {
        /// It can.
        up: bool,
    },
}

/// A partition that waits for its start, and what is known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The partition.
    pub partition: Arc<PartitionId>,
    /// This assignment.
    pub assignment: AssignmentId,
    /// The position committed in the group, if any.
    pub committed: Option<Committed>,
    /// The first offset the log still has.
    pub log_start: i64,
    /// The offset after the log's last record.
    pub log_end: i64,
}

/// A position committed in the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The offset of the next record.
    pub offset: i64,
    /// What its committer wrote beside it. Ours begin with [`COMMIT_MARK`].
    pub metadata: String,
}

/// How the metadata of our own commits begins; the store's identity follows.
pub const COMMIT_MARK: &str = "taskbroker:";

/// From where to read an assigned partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The partition.
    pub partition: Arc<PartitionId>,
    /// The assignment this answers; an answer to an earlier one is ignored.
    pub assignment: AssignmentId,
    /// The offset of the first record wanted.
    pub offset: i64,
    /// The leader epoch of the record before it, where known: lets the consumer notice a log that was cut.
    pub leader_epoch: Option<i32>,
}

/// A position to be committed in the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupCommit {
    /// The partition.
    pub partition: Arc<PartitionId>,
    /// The assignment in which it is made.
    pub assignment: AssignmentId,
    /// The offset of the next record.
    pub offset: i64,
    /// The leader epoch of the record before it, where known.
    pub leader_epoch: Option<i32>,
    /// Written beside it.
    pub metadata: Arc<str>,
}

/// A record as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Its offset.
    pub offset: i64,
    /// The epoch of the leader that wrote it, where known.
    pub leader_epoch: Option<i32>,
    /// Kafka's timestamp.
    pub timestamp: Option<Timestamp>,
    /// Its value; empty when there is none.
    pub payload: Bytes,
    /// Its headers.
    pub headers: Vec<(String, Bytes)>,
}

/// What an orderly revocation waits for. Releasing it commits the given positions synchronously and lets the partitions go.
/// Dropping it releases it without any.
pub struct Barrier(Option<Box<dyn FnOnce(Vec<GroupCommit>) + Send>>);

impl Barrier {
    /// A barrier that calls `release` once.
    pub fn new(release: impl FnOnce(Vec<GroupCommit>) + Send + 'static) -> Self {
        Self(Some(Box::new(release)))
    }

    /// Everything is durable: commit these and go on.
    pub fn release(mut self, positions: Vec<GroupCommit>) {
        if let Some(release) = self.0.take() {
            release(positions);
        }
    }
}

impl Drop for Barrier {
    fn drop(&mut self) {
        if let Some(release) = self.0.take() {
            release(Vec::new());
        }
    }
}

impl std::fmt::Debug for Barrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Barrier")
    }
}
