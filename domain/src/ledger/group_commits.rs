//! What the source is told, and what the group acknowledges: starts and group commits, and the at-most-once tasks that wait
//! for them.

use std::sync::Arc;

use super::{Ledger, entry::Handle, journal::Ticket, partitions::Phase};
use crate::{
    activation::{PartitionId, Slot},
    ports::{
        source::{AssignmentId, GroupCommit, Start},
        store::Position,
    },
    time::Now,
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
            if let Phase::Starting { at } = partition.phase {
                partition.phase = Phase::Reading;
                actions.push(SourceAction::Start(Start {
                    partition: partition.id.clone(),
                    assignment: partition.assignment,
                    offset: at,
                    leader_epoch: partition.tracker.leader_epoch().filter(|_| at == partition.tracker.watermark()),
                }));
            }
            let due = partition.commit_soon || partition.next_commit_at <= now.steady;
            if let Some(offset) = partition.uncommitted().filter(|_| due && !partition.outstanding) {
                partition.outstanding = true;
                partition.commit_soon = false;
                partition.next_commit_at = next;
                actions.push(SourceAction::Commit(partition.group_commit(offset)));
            }
        }
        actions
    }

    /// A group commit was acknowledged.
    pub fn committed(&mut self, partition: &PartitionId, assignment: AssignmentId, offset: i64, now: Now) {
        let Some(slot) = self.partitions.get(partition, assignment) else { return };
        let Some(partition) = self.partitions.slots.get_mut(&slot) else { return };
        partition.outstanding = false;
        partition.committed = Some(offset);
        if let Phase::Committing { at } = partition.phase {
            partition.phase = Phase::Starting { at };
        }
        if offset <= partition.acknowledged {
            return;
        }
        partition.acknowledged = offset;
        partition.dirty = true;
        let cleared: Vec<Handle> = partition.blocked.range(..offset).map(|(_, handle)| *handle).collect();
        for handle in cleared {
            self.clear(slot, handle, now);
        }
        self.commit_soon(now);
    }

    /// Its position is acknowledged: it may be handed out.
    fn clear(&mut self, slot: Slot, handle: Handle, now: Now) {
        let Some(entry) = self.entry_mut(handle) else { return };
        if !entry.terms.at_most_once || !entry.flags.row {
            return;
        }
        entry.flags.cleared = true;
        self.unblock(slot, handle, now);
    }

    fn unblock(&mut self, slot: Slot, handle: Handle, now: Now) {
        if let Some(partition) = self.partitions.slots.get_mut(&slot) {
            partition.blocked.retain(|_, blocked| *blocked != handle);
        }
        self.place(handle, now);
    }

    /// A group commit failed, or nobody knows.
    pub fn commit_failed(&mut self, partition: &PartitionId, assignment: AssignmentId, now: Now) {
        let next = now.steady.saturating_add(self.policy.group_commit_interval);
        let slot = self.partitions.get(partition, assignment);
        if let Some(partition) = slot.and_then(|slot| self.partitions.slots.get_mut(&slot)) {
            partition.outstanding = false;
            partition.next_commit_at = next;
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
        let ids: Vec<_> = self.partitions.iter().filter(|p| p.is_assigned()).map(|p| p.id.clone()).collect();
        self.final_positions(&ids)
    }

    pub(super) fn position_confirmed(&mut self, position: &Position, now: Now) {
        let Some(partition) = self.partitions.slots.get_mut(&position.slot) else { return };
        partition.confirmed_watermark = position.watermark;
        partition.confirmed_epoch = position.leader_epoch;
        let raised = position.read_limit > partition.confirmed_read_limit;
        partition.confirmed_read_limit = position.read_limit;
        if raised {
            let below = partition.blocked.range(..position.read_limit).map(|(_, handle)| *handle);
            for handle in below.collect::<Vec<_>>() {
                self.unblock_read(position.slot, handle, now);
            }
        }
    }

    fn unblock_read(&mut self, slot: Slot, handle: Handle, now: Now) {
        match self.entry(handle) {
            Some(entry) if entry.terms.at_most_once && !entry.flags.cleared => {}
            Some(_) | None => self.unblock(slot, handle, now),
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
