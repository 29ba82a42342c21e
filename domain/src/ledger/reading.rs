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
    time::Now,
};

impl Ledger {
    /// The partition behind a slot.
    pub fn partition_name(&self, slot: Slot) -> Option<Arc<PartitionId>> {
        self.partitions.slots.get(&slot).map(|partition| partition.id.clone())
    }

    /// The slot of a partition that is being read in this assignment; none: what comes from it is stale.
    pub fn reading(&self, partition: &PartitionId, assignment: AssignmentId) -> Option<Slot> {
        self.partitions.get(partition, assignment)
    }

    pub(super) fn partition_read(&mut self, origin: Origin, leader_epoch: Option<i32>, now: Now) -> Reading {
        let step = self.policy.read_limit_step;
        let Some(partition) = self.partitions.slots.get_mut(&origin.slot) else { return Reading::Known };
        let reading = partition.tracker.read(origin.offset, leader_epoch);
        partition.at_end = false;
        partition.log_end = partition.log_end.max(origin.offset + 1);
        if origin.offset.saturating_add(step / 2) >= partition.read_limit {
            partition.read_limit = origin.offset.saturating_add(step);
            partition.dirty = true;
            self.commit_now(now);
        }
        reading
    }

    /// The partition was read to its end: there is nothing below `offset` that was not delivered.
    pub fn end(&mut self, partition: &PartitionId, assignment: AssignmentId, offset: i64, now: Now) {
        let Some(slot) = self.partitions.get(partition, assignment) else { return };
        let Some(partition) = self.partitions.slots.get_mut(&slot) else { return };
        partition.at_end = true;
        partition.log_end = offset;
        if partition.tracker.skip_to(offset) {
            self.position_changed(slot, now);
        }
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
        let elapsed = now.steady.since(self.partitions.ticked_at);
        self.partitions.ticked_at = now.steady;
        let keep = self.policy.tombstones_keep;
        let mut overdue = Vec::new();
        let mut given_up = Vec::new();
        for (slot, partition) in &mut self.partitions.slots {
            if partition.at_end {
                partition.read_to_end += elapsed;
            }
            while let Some((id, at)) = partition.graves.front() {
                if partition.read_to_end.saturating_sub(*at) < keep || self.memory.is_publishing(id) {
                    break;
                }
                overdue.extend(partition.graves.pop_front().map(|(id, _)| id));
            }
            if partition.phase == Phase::Absent && partition.awaited_until.is_some_and(|until| until <= now.steady) {
                partition.awaited_until = None;
                given_up.push(*slot);
            }
        }
        for id in overdue {
            self.memory.unbury(id);
            self.commit_soon(now);
        }
        for slot in given_up {
            self.doubt(slot, Some(i64::MAX), now);
        }
        self.look_behind(now);
    }

    /// Once everything is read up, there is nothing left that an early report could be about.
    pub(super) fn look_behind(&mut self, now: Now) {
        let was = self.partitions.behind;
        let behind = self.partitions.iter().any(|partition| partition.is_behind(now.steady));
        self.partitions.behind = behind;
        if was && !self.partitions.behind && self.memory.forget_early() {
            self.commit_soon(now);
        }
    }

    /// How long until a partition needs attention.
    pub(super) fn next_partition_wake(&self, now: Now) -> Option<Duration> {
        let commits = self.partitions.iter().filter(|p| !p.outstanding && p.uncommitted().is_some());
        let commits = commits.map(|partition| partition.next_commit_at.since(now.steady)).min();
        let waits = |p: &Partition| p.awaited_until.is_some() || !p.graves.is_empty() || p.is_behind(now.steady);
        let upkeep = self.partitions.iter().any(waits).then_some(Duration::from_millis(500));
        commits.into_iter().chain(upkeep).min()
    }
}
