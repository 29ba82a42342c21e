//! What the source is told, and what the group acknowledges: starts and group commits, and the entries that wait for them.

use std::sync::Arc;

use super::{
    Ledger,
    entry::Handle,
    journal::Ticket,
    partitions::{Partition, Phase},
};
use crate::{
    activation::{Origin, PartitionId, Slot},
    ports::{
        source::{AssignmentId, GroupCommit, Start},
        store::Position,
    },
    time::{Now, Steady},
};

/// What the engine is to tell the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceAction {
    /// Read from here.
    Start(Start),
    /// Commit this position.
    Commit(GroupCommit),
}

impl Ledger {
    /// What the source is to be told now: starts whose position is durable, and group commits that are due; at most one of
    /// those is outstanding for each partition.
    pub fn source_actions(&mut self, now: Now) -> Vec<SourceAction> {
        let next = now.steady.saturating_add(self.policy.group_commit_interval);
        let mut actions = Vec::new();
        for partition in self.partitions.slots.values_mut() {
            actions.extend(partition.take_start().map(SourceAction::Start));
            actions.extend(partition.take_group_commit(now.steady, next).map(SourceAction::Commit));
        }
        actions
    }

    /// A group commit was acknowledged.
    pub fn committed(&mut self, partition: &PartitionId, assignment: AssignmentId, offset: i64, now: Now) {
        let Some(slot) = self.partitions.get_or_released(partition, assignment) else { return };
        let Some(partition) = self.partitions.slots.get_mut(&slot) else { return };
        if partition.is_assigned() {
            partition.outstanding = false;
            partition.committed = Some(offset);
        }
        match partition.phase {
            Phase::Committing { at } if at == offset => partition.phase = Phase::Starting { at },
            // The answer to a commit from before this start: the start's own is still to be sent, and this one says nothing.
            Phase::Journalling { .. } | Phase::Committing { .. } => return,
            Phase::Absent | Phase::Starting { .. } | Phase::Reading => {}
        }
        if partition.taken_over || offset > partition.acknowledged {
            partition.taken_over = false;
            partition.acknowledged = offset.max(partition.acknowledged);
            partition.dirty = true;
            self.unblock_below(slot, offset, now);
            self.commit_soon(now);
        }
    }

    /// A group commit failed, or nobody knows.
    pub fn commit_failed(&mut self, partition: &PartitionId, assignment: AssignmentId, now: Now) {
        let next = now.steady.saturating_add(self.policy.group_commit_interval);
        let slot = self.partitions.get(partition, assignment);
        if let Some(partition) = slot.and_then(|slot| self.partitions.slots.get_mut(&slot)) {
            partition.outstanding = false;
            partition.commit_soon = false;
            partition.next_commit_at = next;
        }
    }

    /// Entries below `offset` that wait for an acknowledgement or for the read limit are placed anew; those that still have
    /// to wait go back.
    pub(super) fn unblock_below(&mut self, slot: Slot, offset: i64, now: Now) {
        let Some(partition) = self.partitions.slots.get_mut(&slot) else { return };
        let above = partition.blocked.split_off(&offset);
        let below = std::mem::replace(&mut partition.blocked, above);
        for handle in below.into_values() {
            self.place(handle, now);
        }
    }

    /// What waits there is placed anew.
    pub(super) fn unblock(&mut self, origin: Origin, handle: Handle, now: Now) {
        let partition = self.partitions.slots.get_mut(&origin.slot);
        if partition.is_some_and(|partition| partition.blocked.remove(&origin.offset).is_some()) {
            self.place(handle, now);
        }
    }

    /// The durable positions of these partitions that the group lacks, for the synchronous commit that ends an assignment.
    pub fn final_positions(&self, partitions: &[Arc<PartitionId>]) -> Vec<GroupCommit> {
        let slots = partitions.iter().filter_map(|id| self.partitions.by_id.get(id));
        let partitions = slots.filter_map(|slot| self.partitions.slots.get(slot));
        partitions.filter_map(|partition| Some(partition.group_commit(partition.uncommitted()?))).collect()
    }

    /// The durable positions of all assigned partitions that the group lacks.
    pub fn all_final_positions(&self) -> Vec<GroupCommit> {
        let ids: Vec<_> = self.partitions.iter().filter(|p| p.is_assigned()).map(|p| p.id().clone()).collect();
        self.final_positions(&ids)
    }

    pub(super) fn position_confirmed(&mut self, position: &Position, now: Now) {
        let Some(partition) = self.partitions.slots.get_mut(&position.slot) else { return };
        partition.confirmed_watermark = position.watermark;
        partition.confirmed_epoch = position.leader_epoch;
        let raised = position.read_limit > partition.confirmed_read_limit;
        partition.confirmed_read_limit = position.read_limit;
        if raised {
            self.unblock_below(position.slot, position.read_limit, now);
        }
    }

    /// Starts whose position is durable by now go on.
    pub(super) fn starts_confirmed(&mut self) {
        let confirmed = Ticket(self.confirmed());
        for partition in self.partitions.slots.values_mut() {
            if let Phase::Journalling { at, ticket, commit_first } = partition.phase
                && ticket <= confirmed
            {
                partition.phase = match commit_first {
                    true => Phase::Committing { at },
                    false => Phase::Starting { at },
                };
            }
        }
    }
}

impl Partition {
    fn take_start(&mut self) -> Option<Start> {
        let Phase::Starting { at } = self.phase else { return None };
        self.phase = Phase::Reading;
        Some(Start {
            partition: self.id.clone(),
            assignment: self.assignment,
            offset: at,
            leader_epoch: self.tracker.leader_epoch().filter(|_| at == self.tracker.watermark()),
        })
    }

    /// The group commit that is due; the one after it at `next`, or as soon as it is answered when an entry above it waits.
    fn take_group_commit(&mut self, now: Steady, next: Steady) -> Option<GroupCommit> {
        let due = self.commit_soon || self.next_commit_at <= now;
        let offset = self.uncommitted().filter(|_| due && !self.outstanding)?;
        self.outstanding = true;
        self.commit_soon = self.blocked.range(offset..).next().is_some();
        self.next_commit_at = next;
        Some(self.group_commit(offset))
    }

    pub(super) fn group_commit(&self, offset: i64) -> GroupCommit {
        GroupCommit {
            partition: self.id.clone(),
            assignment: self.assignment,
            offset,
            leader_epoch: self.confirmed_epoch.filter(|_| offset == self.confirmed_watermark),
            metadata: self.metadata.clone(),
        }
    }

    /// The position that the group lacks.
    pub(super) fn uncommitted(&self) -> Option<i64> {
        match self.phase {
            Phase::Committing { at } => Some(at),
            Phase::Starting { .. } | Phase::Reading => {
                let lacks = self.committed.is_none_or(|committed| committed < self.confirmed_watermark);
                lacks.then_some(self.confirmed_watermark)
            }
            Phase::Absent | Phase::Journalling { .. } => None,
        }
    }
}
