//! How a partition goes: in good order, when everything of it becomes a row first, or lost.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Ledger,
    entry::Handle,
    journal::Ticket,
    partitions::{Partition, Phase},
};
use crate::{
    activation::{PartitionId, Slot},
    time::{Now, Steady},
};

impl Ledger {
    /// Partitions are being taken away in good order: everything of them becomes a row. Release them when the ticket's
    /// commit is durable.
    pub fn revoke(&mut self, partitions: &[Arc<PartitionId>], now: Now) -> Ticket {
        for slot in self.slots_of(partitions) {
            if let Some(partition) = self.partitions.slots.get_mut(&slot) {
                partition.flush = true;
                partition.dirty = true;
            }
        }
        self.commit_now(now)
    }

    /// Partitions are gone, in good order or not: what no commit contains is withdrawn, what is settled stays. Returns how
    /// many entries were withdrawn.
    pub fn lose(&mut self, partitions: &[Arc<PartitionId>], now: Now) -> usize {
        let slots = self.slots_of(partitions);
        let withdrawn = self.withdraw(&slots, now);
        let awaited = now.steady.saturating_add(self.policy.absent_partition_limit);
        for slot in slots {
            if let Some(partition) = self.partitions.slots.get_mut(&slot).filter(|partition| partition.is_assigned()) {
                partition.depart(withdrawn > 0, awaited, now.steady);
            }
        }
        self.look_behind(now);
        withdrawn
    }

    /// Partitions were let go in good order, with a last group commit under way: what of it the group still acknowledges
    /// counts, since the source tells that before it gives them up. Otherwise as [`Ledger::lose`].
    pub fn let_go(&mut self, partitions: &[Arc<PartitionId>], now: Now) -> usize {
        let withdrawn = self.lose(partitions, now);
        for slot in self.slots_of(partitions) {
            if let Some(partition) = self.partitions.slots.get_mut(&slot) {
                partition.released = true;
            }
        }
        withdrawn
    }

    fn slots_of(&self, partitions: &[Arc<PartitionId>]) -> BTreeSet<Slot> {
        partitions.iter().filter_map(|id| self.partitions.by_id.get(id).copied()).collect()
    }

    fn withdraw(&mut self, slots: &BTreeSet<Slot>, now: Now) -> usize {
        let handles: Vec<Handle> = self.journal.window.iter().map(|(_, handle)| *handle).collect();
        let mut withdrawn = 0;
        for handle in handles {
            let Some(entry) = self.entry(handle) else { continue };
            let of_lost = entry.origin.get().is_some_and(|origin| slots.contains(&origin.slot));
            if of_lost && entry.can_be_withdrawn() {
                self.remove_withdrawn(handle, now);
                withdrawn += 1;
            }
        }
        withdrawn
    }

    fn remove_withdrawn(&mut self, handle: Handle, now: Now) {
        let Some(entry) = self.remove(handle) else { return };
        self.groups.counts(entry.group).withdrawn += 1;
        self.left_queue(entry.group);
        self.no_longer_publishes(&entry, now);
        let partition =
            entry.origin.get().and_then(|origin| Some((origin, self.partitions.slots.get_mut(&origin.slot)?)));
        if let Some((origin, partition)) = partition {
            partition.blocked.remove(&origin.offset);
        }
    }
}

impl Partition {
    /// `withdrawn`: workers may have tasks of it that nothing here knows any more; whatever was read may be among them.
    fn depart(&mut self, withdrawn: bool, awaited: Steady, now: Steady) {
        if withdrawn {
            self.catch_up_to = self.catch_up_to.max(self.tracker.next().unwrap_or(i64::MIN));
        }
        self.phase = Phase::Absent;
        self.released = false;
        self.tracker.end();
        self.outstanding = false;
        self.committed = None;
        self.left_end(now);
        self.awaited_until = Some(awaited);
    }
}
