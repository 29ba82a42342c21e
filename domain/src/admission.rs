//! How much more may come in.

use crate::policy::Limits;

/// How many entries there are in each standing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depths {
    /// Wait for a worker.
    pub pending: usize,
    /// Wait for their time.
    pub delayed: usize,
    /// Workers have them.
    pub processing: usize,
    /// Wait to be published to the retry topic.
    pub retry: usize,
    /// Wait to be forwarded to another topic.
    pub forward: usize,
    /// Wait to be published to the dead-letter topic.
    pub failed: usize,
    /// Refused for good by Kafka, kept.
    pub parked: usize,
    /// Wait for the commit that removes them.
    pub done: usize,
}

/// Why nothing more may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Full {
    /// `store.max_pending_count`.
    Pending,
    /// `store.max_delay_count`.
    Delayed,
    /// `store.max_processing_count`.
    Processing,
    /// `store.max_outbox_count`.
    Outgoing,
    /// So much was refused for good by Kafka that somebody has to decide about it (`taskbroker parked`).
    Parked,
    /// `store.max_size`.
    Store,
    /// The disk of the store has hardly any room left.
    Disk,
    /// `store.payload_memory_bytes`: payloads come faster than they are written.
    Memory,
    /// Activations come faster than they are written.
    Journal,
}

impl Full {
    /// The word for it in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending_limit",
            Self::Delayed => "delay_limit",
            Self::Processing => "processing_limit",
            Self::Outgoing => "outbox_limit",
            Self::Parked => "parked_limit",
            Self::Store => "db_size_limit",
            Self::Disk => "disk_room",
            Self::Memory => "payload_memory",
            Self::Journal => "store_speed",
        }
    }
}

impl Limits {
    /// The part of one of several: at least one of each.
    #[must_use]
    pub fn part(self, of: usize) -> Self {
        let part = |limit: usize| (limit / of.max(1)).max(1);
        let Self { pending, delayed, processing, outgoing, unserved, parked } = self;
        Self {
            pending: part(pending),
            delayed: part(delayed),
            processing: part(processing),
            outgoing: part(outgoing),
            unserved: part(unserved),
            parked: part(parked),
        }
    }
}

/// How many records may be read now, or which limit is reached. What a record will be is not known before it is read, so
/// delayed ones may exceed their limit by as much as fits under the others.
pub fn room(depths: Depths, limits: Limits) -> Result<usize, Full> {
    let left = |limit: usize, used: usize, full: Full| match limit.saturating_sub(used) {
        0 => Err(full),
        left => Ok(left),
    };
    left(limits.parked, depths.parked, Full::Parked)?;
    left(limits.outgoing, depths.retry + depths.forward + depths.failed, Full::Outgoing)?;
    left(limits.processing, depths.processing, Full::Processing)?;
    left(limits.delayed, depths.delayed, Full::Delayed)?;
    left(limits.pending, depths.pending, Full::Pending)
}
