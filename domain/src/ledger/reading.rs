//! What is read of a partition, and whether what was handed out in an earlier life may still come again.

use std::{sync::Arc, time::Duration};

use super::{
    Ledger,
    partitions::{Partition, Phase},
};
use crate::{
    activation::{Origin, PartitionId, Slot},
    ports::source::AssignmentId,
    positions::Reading,
    time::{Now, Steady},
};

/// How often partitions are looked after while something of theirs only waits for time to pass.
const UPKEEP: Duration = Duration::from_millis(500);

impl Ledger {
    /// The partition behind a slot.
    pub fn partition_name(&self, slot: Slot) -> Option<Arc<PartitionId>> {
        self.partitions.slots.get(&slot).map(|partition| partition.id().clone())
    }

    /// The slot of a partition that is being read in this assignment; none: what comes from it is stale, or was on its way
    /// before the start that was named last.
    pub fn reading(&self, partition: &PartitionId, assignment: AssignmentId) -> Option<Slot> {
        let slot = self.partitions.get(partition, assignment)?;
        let partition = self.partitions.slots.get(&slot)?;
        (partition.phase == Phase::Reading).then_some(slot)
    }

    pub(super) fn partition_read(&mut self, origin: Origin, leader_epoch: Option<i32>, now: Now) -> Reading {
        let step = self.policy.read_limit_step.max(1);
        let Some(partition) = self.partitions.slots.get_mut(&origin.slot) else { return Reading::Known };
        let reading = partition.tracker.read(origin.offset, leader_epoch);
        partition.left_end(now.steady);
        partition.log_end = partition.log_end.max(origin.offset.saturating_add(1));
        if origin.offset.saturating_add(step / 2) >= partition.read_limit {
            partition.read_limit = origin.offset.saturating_add(step);
            partition.dirty = true;
            self.commit_now(now);
        }
        reading
    }

    /// The partition was read to its end: there is nothing below `offset` that was not delivered.
    pub fn end(&mut self, partition: &PartitionId, assignment: AssignmentId, offset: i64, now: Now) {
        let Some(slot) = self.reading(partition, assignment) else { return };
        let Some(partition) = self.partitions.slots.get_mut(&slot) else { return };
        partition.reached_end(now.steady);
        partition.log_end = offset;
        if partition.tracker.skip_to(offset) {
            self.position_changed(slot, now);
        }
    }

    /// How many records of a topic are known to be in its log beyond what was read of the partitions that are being read.
    pub fn unread(&self, topic: &str) -> u64 {
        let read = self.partitions.iter().filter(|partition| partition.phase == Phase::Reading);
        let unread = |partition: &Partition| {
            let next = partition.tracker.next().unwrap_or(partition.log_end);
            u64::try_from(partition.log_end.saturating_sub(next)).unwrap_or(0)
        };
        read.filter(|partition| *partition.id().topic == *topic).map(unread).sum()
    }

    pub(super) fn position_changed(&mut self, slot: Slot, now: Now) {
        if let Some(partition) = self.partitions.slots.get_mut(&slot) {
            partition.dirty = true;
            self.commit_soon(now);
        }
    }

    /// The record there is done with and has no entry.
    pub(super) fn settle_offset(&mut self, origin: Origin, now: Now) {
        self.partitions.settle(origin);
        self.commit_soon(now);
    }

    pub(super) fn believes_early(&self, origin: Origin, marked: bool) -> bool {
        marked || self.partitions.may_have_been_handed_out(origin)
    }

    /// Whether what had been handed out before a crash or loss may still come again.
    pub fn is_catching_up(&self) -> bool {
        self.partitions.behind
    }

    /// An at-most-once task was read: it and everything below it becomes a row with the next commit, and the group is told
    /// at once, since it must not be handed out before that is acknowledged.
    pub(super) fn write_through(&mut self, origin: Origin, now: Now) {
        if let Some(partition) = self.partitions.slots.get_mut(&origin.slot) {
            partition.flush = true;
            partition.commit_soon = true;
            self.commit_now(now);
        }
    }

    pub(super) fn tick_partitions(&mut self, now: Now) {
        self.unbury_overdue(now);
        for slot in self.partitions.take_given_up(now.steady) {
            self.doubt(slot, i64::MAX, now);
        }
        self.look_behind(now);
    }

    /// Once everything is read up, there is nothing left that an early report could be about.
    pub(super) fn look_behind(&mut self, now: Now) {
        let was = self.partitions.behind;
        let behind = self.partitions.iter().any(|partition| partition.is_behind(now.steady));
        self.partitions.behind = behind;
        if was && !behind && self.memory.forget_early() {
            self.commit_soon(now);
        }
    }

    /// How long until a partition needs attention.
    pub(super) fn next_partition_wake(&self, now: Now) -> Option<Duration> {
        let commits = self.partitions.iter().filter_map(|partition| partition.next_group_commit(now.steady)).min();
        let waits = self.is_catching_up() || self.partitions.iter().any(Partition::waits);
        commits.into_iter().chain(waits.then_some(UPKEEP)).min()
    }
}

impl Partition {
    /// What had been handed out may still come again.
    fn is_behind(&self, now: Steady) -> bool {
        match self.phase {
            Phase::Absent => {
                self.catch_up_to > self.tracker.watermark() && self.awaited_until.is_some_and(|until| now < until)
            }
            Phase::Journalling { .. } | Phase::Committing { .. } | Phase::Starting { .. } | Phase::Reading => {
                self.tracker.next().unwrap_or(i64::MIN) < self.catch_up_to
            }
        }
    }

    fn waits(&self) -> bool {
        self.awaited_until.is_some() || !self.graves.is_empty()
    }

    fn next_group_commit(&self, now: Steady) -> Option<Duration> {
        self.uncommitted().filter(|_| !self.outstanding)?;
        Some(self.next_commit_at.since(now))
    }
}
