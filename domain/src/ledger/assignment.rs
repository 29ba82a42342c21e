//! How a partition comes: where it starts, and what that voids (rule 5 of the design).

use std::sync::Arc;

use super::{
    Ledger,
    entry::{Entry, Handle},
    partitions::{Partition, Phase},
};
use crate::{
    activation::{Origin, PartitionId, Slot},
    lifecycle::State,
    ports::{
        source::Assigned,
        store::{FailureCause, StoredState},
    },
    positions::{self, Because, GroupPosition, Known, NoStart, Plan, Tracker},
    time::Now,
};

/// Where an assigned partition starts, for the log and the metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartDecision {
    /// The partition.
    pub partition: Arc<PartitionId>,
    /// Where and why.
    pub plan: Plan,
}
impl Ledger {
    pub(super) fn load_positions(&mut self, state: &StoredState, now: Now) {
        let awaited = now.steady.saturating_add(self.policy.absent_partition_limit);
        for position in &state.positions {
            let tracker = Tracker::restore(position.watermark, position.leader_epoch, &position.settled);
            let mut partition = Partition::new(position.partition.clone(), tracker, self.partitions.store);
            partition.acknowledged = position.acknowledged;
            partition.read_limit = position.read_limit;
            partition.confirmed_read_limit = position.read_limit;
            partition.awaited_until = Some(awaited);
            if !state.closed {
                partition.catch_up_to = position.read_limit;
            }
            self.partitions.add(position.slot, partition);
        }
        self.partitions.behind = !state.closed && !state.positions.is_empty();
    }

    /// A partition was assigned, or is to be started anew: decides where, and brings that into the journal. The source is
    /// told by [`Ledger::source_actions`] once it is durable.
    pub fn assign(&mut self, assigned: &Assigned, now: Now) -> Result<StartDecision, NoStart> {
        let predecessors = self.partitions.predecessors(&assigned.partition);
        let known = self.known(assigned, !predecessors.is_empty());
        let plan = positions::plan(known)?;
        for slot in predecessors {
            self.log_gone(slot, now);
        }
        let slot = self.partitions.slot_of(&assigned.partition, plan.at);
        if plan.because == Because::Rewound {
            self.rewind(slot, plan.at, now);
        }
        if plan.cut {
            self.cut(slot, assigned.log_end, now);
        }
        self.doubt(slot, known.committed.map(|committed| committed.offset), now);
        self.begin(slot, assigned, &plan, known, now);
        Ok(StartDecision { partition: assigned.partition.clone(), plan })
    }

    fn known(&self, assigned: &Assigned, recreated: bool) -> Known {
        let slot = self.partitions.by_id.get(&assigned.partition);
        let stored = slot.and_then(|slot| self.partitions.slots.get(slot)).map(|partition| {
            // A partition that is being read and is out of the log's range goes on from where it was reading.
            partition.tracker.next().unwrap_or(partition.tracker.watermark())
        });
        let topic_id = assigned.partition.topic_id;
        let committed = assigned.committed.as_ref().and_then(|committed| {
            let by = self.partitions.committed_by(committed, topic_id)?;
            Some(GroupPosition { offset: committed.offset, by })
        });
        Known {
            stored,
            committed,
            log_start: assigned.log_start,
            log_end: assigned.log_end,
            recreated,
            reset: self.policy.offset_reset,
        }
    }

    fn begin(&mut self, slot: Slot, assigned: &Assigned, plan: &Plan, known: Known, now: Now) {
        let step = self.policy.read_limit_step;
        let Some(partition) = self.partitions.slots.get_mut(&slot) else { return };
        match partition.tracker.next() {
            Some(_) => {
                partition.tracker.skip_to(plan.at);
            }
            None => partition.tracker.forward_to(plan.at),
        }
        partition.tracker.begin(plan.at);
        partition.assignment = assigned.assignment;
        partition.committed = known.committed.map(|committed| committed.offset);
        partition.outstanding = false;
        partition.awaited_until = None;
        partition.log_end = assigned.log_end;
        partition.at_end = plan.at >= assigned.log_end;
        partition.read_limit = partition.read_limit.max(plan.at.saturating_add(step));
        partition.dirty = true;
        let commit_first = plan.because == Because::Rewound;
        let ticket = self.commit_now(now);
        if let Some(partition) = self.partitions.slots.get_mut(&slot) {
            partition.phase = Phase::Journalling { at: plan.at, ticket, commit_first };
        }
        self.look_behind(now);
    }

    /// Somebody set the group's position back: everything from there up is to be done again, but for what is in flight.
    fn rewind(&mut self, slot: Slot, at: i64, now: Now) {
        self.forget_all_of(slot);
        let rows: Vec<i64> = self.offsets_of(slot, |_, entry| entry.flags.row);
        let Some(partition) = self.partitions.slots.get_mut(&slot) else { return };
        partition.tracker.void_from(at);
        partition.acknowledged = partition.acknowledged.min(at);
        partition.catch_up_to = i64::MIN;
        for offset in rows {
            partition.tracker.write(offset);
        }
        self.position_changed(slot, now);
    }

    /// The log ends before what was known of it: what is above its end is void, and what was read from there is kept as
    /// rows of no origin.
    fn cut(&mut self, slot: Slot, log_end: i64, now: Now) {
        if let Some(partition) = self.partitions.slots.get_mut(&slot) {
            partition.tracker.void_from(log_end);
            partition.acknowledged = partition.acknowledged.min(log_end);
        }
        self.orphan(slot, log_end, now);
    }

    /// A log of the same name took this one's place: its positions are dropped, its entries stay.
    fn log_gone(&mut self, slot: Slot, now: Now) {
        self.doubt(slot, Some(i64::MAX), now);
        self.orphan(slot, i64::MIN, now);
        for id in self.partitions.take_buried(slot) {
            self.memory.unbury(id);
        }
        if let Some(partition) = self.partitions.slots.remove(&slot) {
            self.partitions.by_id.remove(&partition.id);
            self.partitions.dropped.push(slot);
            self.commit_soon(now);
        }
    }

    /// Entries read at or above `from` lose their origin; those without a row get one, since nothing else has them.
    fn orphan(&mut self, slot: Slot, from: i64, now: Now) {
        let of: Vec<Handle> = self.handles_of(slot, |origin, _| origin.offset >= from);
        for handle in of {
            let Some(entry) = self.entry_mut(handle) else { continue };
            entry.origin = None;
            let (key, row) = (entry.key, entry.flags.row);
            match row {
                true => self.journal.clear_origin.push(key),
                false => self.mark_soon(handle, now),
            }
            if let Some(partition) = self.partitions.slots.get_mut(&slot) {
                partition.blocked.retain(|_, blocked| *blocked != handle);
            }
            self.place_again(handle, now);
        }
        self.commit_soon(now);
    }

    fn place_again(&mut self, handle: Handle, now: Now) {
        if self.entry(handle).is_some_and(|entry| entry.terms.at_most_once && !entry.flags.cleared) {
            self.place(handle, now);
        }
    }

    /// The group is beyond at-most-once tasks of which no acknowledged commit of ours took it there: somebody else may have
    /// handed them out.
    pub(super) fn doubt(&mut self, slot: Slot, committed: Option<i64>, now: Now) {
        let Some(committed) = committed else { return };
        let doubtful = self.handles_of(slot, |origin, entry| {
            entry.terms.at_most_once && !entry.flags.cleared && origin.offset < committed && entry.flags.row
        });
        for handle in doubtful {
            self.doubtful(handle, now);
        }
    }

    fn doubtful(&mut self, handle: Handle, now: Now) {
        if self.entry(handle).is_some_and(|entry| matches!(entry.state, State::Pending { .. })) {
            self.give_up(handle, FailureCause::InDoubt, now);
        }
    }

    fn handles_of(&self, slot: Slot, fits: impl Fn(Origin, &Entry) -> bool) -> Vec<Handle> {
        let all = self.entries.iter().filter_map(|(index, entry)| {
            let origin = entry.origin.filter(|origin| origin.slot == slot)?;
            let index = u32::try_from(index).ok()?;
            fits(origin, entry).then_some(Handle { key: entry.key, index })
        });
        all.collect()
    }

    fn offsets_of(&self, slot: Slot, fits: impl Fn(Origin, &Entry) -> bool) -> Vec<i64> {
        let handles = self.handles_of(slot, fits);
        handles.iter().filter_map(|handle| self.entry(*handle)?.origin).map(|origin| origin.offset).collect()
    }
}
