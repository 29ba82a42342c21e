//! How a partition goes: in good order, when everything of it becomes a row first, or lost.

use std::{collections::BTreeSet, sync::Arc};

use super::{Ledger, entry::Handle, journal::Ticket, partitions::Phase};
use crate::{
    activation::{PartitionId, Slot},
    time::Now,
};

impl Ledger {
    /// Partitions are being taken away in good order: everything of them becomes a row. Release them when the ticket's
    /// commit is durable.
    pub fn revoke(&mut self, partitions: &[Arc<PartitionId>], now: Now) -> Ticket {
        for id in partitions {
            let slot = self.partitions.by_id.get(id).copied();
            if let Some(partition) = slot.and_then(|slot| self.partitions.slots.get_mut(&slot)) {
                partition.flush = true;
                partition.dirty = true;
            }
        }
        self.commit_now(now)
    }

    /// Partitions are gone, in good order or not: what no commit contains is withdrawn, what is settled stays. Returns how
    /// many entries were withdrawn.
    pub fn lose(&mut self, partitions: &[Arc<PartitionId>], now: Now) -> usize {
        let slots: BTreeSet<Slot> = partitions.iter().filter_map(|id| self.partitions.by_id.get(id).copied()).collect();
        let withdrawn = self.withdraw(&slots);
        let awaited = now.steady.saturating_add(self.policy.absent_partition_limit);
        for slot in slots {
            let Some(partition) = self.partitions.slots.get_mut(&slot) else { continue };
            if partition.phase == Phase::Absent {
                continue;
            }
            partition.phase = Phase::Absent;
            partition.tracker.end();
            partition.outstanding = false;
            partition.committed = None;
            partition.at_end = false;
            partition.awaited_until = Some(awaited);
            if withdrawn > 0 {
                partition.catch_up_to = partition.read_limit;
            }
        }
        self.look_behind(now);
        withdrawn
    }

    fn withdraw(&mut self, slots: &BTreeSet<Slot>) -> usize {
        let handles: Vec<Handle> = self.journal.window.iter().map(|(_, handle)| *handle).collect();
        let mut withdrawn = 0;
        for handle in handles {
            let Some(entry) = self.entry(handle) else { continue };
            let of_lost = entry.origin.is_some_and(|origin| slots.contains(&origin.slot));
            if of_lost && entry.can_be_withdrawn() {
                self.remove_withdrawn(handle);
                withdrawn += 1;
            }
        }
        withdrawn
    }

    fn remove_withdrawn(&mut self, handle: Handle) {
        let Some(entry) = self.remove(handle) else { return };
        self.groups.counts(entry.group).withdrawn += 1;
        if let Some(origin) = entry.origin
            && let Some(partition) = self.partitions.slots.get_mut(&origin.slot)
        {
            partition.blocked.remove(&origin.offset);
        }
    }
}
