//! Positions that the existing system left. Its rows name a partition and an offset, but no topic; it stores in the order of
//! the log, so that everything up to the largest stored offset of a partition was read: the rows are here, the rest is
//! done. Such a position waits under [`TopicId::UNKNOWN`] for the first assignment of its partition.

use std::sync::Arc;

use super::{Ledger, partitions::unknown};
#[cfg(doc)]
use crate::activation::TopicId;
use crate::{ports::source::Assigned, positions::OffsetReset};

/// How far a position that was taken over may lie above the group's. The existing system stores a batch and commits every 5 s,
/// and it reads some ten thousand records a second at best: what is farther away is of another log, and skipping it would
/// lose what nobody has read.
const AHEAD_MAX: i64 = 1_000_000;

impl Ledger {
    /// A partition of which a position was taken over is assigned: if that can be about this log it becomes this log's;
    /// otherwise it stays behind, as that of a log that is gone.
    pub(super) fn take_over(&mut self, assigned: &Assigned) {
        let waiting = unknown(&assigned.partition);
        let Some(slot) = self.partitions.by_id.get(&waiting).copied() else { return };
        let Some(partition) = self.partitions.slots.get_mut(&slot) else { return };
        if self.partitions.by_id.contains_key(&assigned.partition)
            || !fits(partition.tracker.watermark(), assigned, self.policy.offset_reset(&assigned.partition.topic))
        {
            return;
        }
        // What the group has acknowledged, it has acknowledged to the existing system, which had these rows.
        partition.acknowledged = assigned.committed.as_ref().map_or(i64::MIN, |committed| committed.offset);
        partition.name(assigned.partition.clone(), self.partitions.store);
        self.partitions.by_id.remove(&waiting);
        self.partitions.by_id.insert(Arc::clone(&assigned.partition), slot);
    }
}

/// Whether everything below `next` can have been read from this log. Where the group knows no position, it is believed
/// only if the settings would skip even more.
fn fits(next: i64, assigned: &Assigned, reset: OffsetReset) -> bool {
    let plausible = match &assigned.committed {
        Some(committed) => next.saturating_sub(committed.offset) <= AHEAD_MAX,
        None => reset == OffsetReset::Latest,
    };
    plausible && next <= assigned.log_end
}
