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
        source::{Assigned, AssignmentId},
        store::{FailureCause, StoredState},
    },
    positions::{self, Because, CommittedBy, GroupPosition, Known, NoStart, Plan, SPAN_MAX, Tracker},
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
            partition.first_assignment = AssignmentId::default();
            partition.read_limit = position.read_limit;
            partition.confirmed_read_limit = position.read_limit;
            partition.awaited_until = Some(awaited);
            if !state.closed {
                partition.catch_up_to = position.read_limit;
            }
            self.partitions.add(position.slot, partition);
        }
        let anything = !state.positions.is_empty() || !state.early_reports.is_empty();
        self.partitions.behind = anything && !state.closed;
    }

    /// A partition was assigned, or is to be started anew: decides where, and brings that into the journal. The source is
    /// told by [`Ledger::source_actions`] once it is durable.
    pub fn assign(&mut self, assigned: &Assigned, now: Now) -> Result<StartDecision, NoStart> {
        self.end_earlier_assignment(assigned, now);
        self.take_over(assigned);
        let predecessors = self.partitions.predecessors(&assigned.partition);
        let unread =
            !predecessors.is_empty() || self.partitions.has_older_sibling(&assigned.partition, assigned.assignment);
        let known = self.known(assigned, unread);
        let mut plan = positions::plan(known)?;
        for slot in predecessors {
            self.log_gone(slot, now);
        }
        let slot = self.partitions.slot_of(&assigned.partition, plan.at);
        if let Some(committed) = known.committed {
            self.believe(slot, committed, now);
            self.doubt(slot, committed.offset, now);
        }
        if plan.because == Because::Rewound {
            self.rewind(slot, plan.at, now);
        }
        plan.cut |= self.knows_beyond(slot, assigned.log_end);
        if plan.cut {
            self.cut(slot, assigned.log_end, now);
        }
        self.begin(slot, assigned, &plan, known, now);
        Ok(StartDecision { partition: assigned.partition.clone(), plan })
    }

    /// An assignment of which nobody said that it ended.
    fn end_earlier_assignment(&mut self, assigned: &Assigned, now: Now) {
        let slot = self.partitions.by_id.get(&assigned.partition);
        let earlier = slot.and_then(|slot| self.partitions.slots.get(slot));
        if earlier.is_some_and(|earlier| earlier.is_assigned() && earlier.assignment != assigned.assignment) {
            self.lose(std::slice::from_ref(&assigned.partition), now);
        }
    }

    fn known(&self, assigned: &Assigned, recreated: bool) -> Known {
        let slot = self.partitions.by_id.get(&assigned.partition);
        let partition = slot.and_then(|slot| self.partitions.slots.get(slot));
        let taken_over = partition.is_some_and(|partition| partition.taken_over);
        let stored = partition.map(|partition| {
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
            reset: self.policy.offset_reset(&assigned.partition.topic),
            taken_over,
        }
    }

    fn begin(&mut self, slot: Slot, assigned: &Assigned, plan: &Plan, known: Known, now: Now) {
        let ticket = self.commit_now(now);
        let step = self.policy.read_limit_step.max(1);
        let Some(partition) = self.partitions.slots.get_mut(&slot) else { return };
        match partition.tracker.next() {
            Some(_) => {
                partition.tracker.skip_to(plan.at);
            }
            None => partition.tracker.forward_to(plan.at),
        }
        partition.tracker.begin(plan.at);
        if partition.assignment != assigned.assignment {
            partition.outstanding = false;
        }
        partition.assignment = assigned.assignment;
        partition.first_assignment = partition.first_assignment.min(assigned.assignment);
        partition.committed = known.committed.map(|committed| committed.offset);
        partition.awaited_until = None;
        partition.log_end = assigned.log_end;
        // What had been handed out is in the log; what was reserved beyond its end was never read.
        partition.catch_up_to = partition.catch_up_to.min(assigned.log_end);
        partition.left_end(now.steady);
        if plan.at >= assigned.log_end {
            partition.reached_end(now.steady);
        }
        partition.read_limit = partition.read_limit.max(plan.at.saturating_add(step));
        partition.dirty = true;
        let commit_first = must_commit_first(known);
        partition.phase = Phase::Journalling { at: plan.at, ticket, commit_first };
        self.look_behind(now);
    }

    /// Somebody set the group's position back: everything from there up is to be done again, but for what is in flight.
    fn rewind(&mut self, slot: Slot, at: i64, now: Now) {
        self.forget_all_of(slot);
        self.forget_origins(slot, |origin, entry| origin.offset >= at && matches!(entry.state, State::Done(_)));
        let rows = self.handles_of(slot, |_, entry| entry.flags.row);
        let rows: Vec<i64> = rows.iter().filter_map(|row| Some(self.entry(*row)?.origin.get()?.offset)).collect();
        let Some(partition) = self.partitions.slots.get_mut(&slot) else { return };
        partition.tracker.void_from(at);
        partition.acknowledged = partition.acknowledged.min(at);
        partition.catch_up_to = i64::MIN;
        // A row far above need not be remembered by its offset: while it is here, its id keeps its copy out.
        for offset in rows.into_iter().filter(|offset| *offset < at.saturating_add(SPAN_MAX)) {
            partition.tracker.write(offset);
        }
        self.forget_origins(slot, |origin, _| origin.offset >= at.saturating_add(SPAN_MAX));
        self.position_changed(slot, now);
    }

    /// What is done and waits for its removal does not settle its offset any more.
    fn forget_origins(&mut self, slot: Slot, fits: impl Fn(Origin, &Entry) -> bool) {
        for handle in self.handles_of(slot, fits) {
            if let Some(entry) = self.entry_mut(handle) {
                entry.origin = None.into();
            }
        }
    }

    /// Rows or settled offsets at or above the log's end: the position below them need not be.
    fn knows_beyond(&self, slot: Slot, log_end: i64) -> bool {
        self.partitions.slots.get(&slot).is_some_and(|partition| partition.tracker.knows_from(log_end))
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
        self.doubt(slot, i64::MAX, now);
        self.orphan(slot, i64::MIN, now);
        self.forget_tombstones_of(slot);
        if let Some(partition) = self.partitions.slots.remove(&slot) {
            self.partitions.by_id.remove(partition.id());
            self.partitions.dropped.push(slot);
            self.commit_soon(now);
        }
    }

    /// Entries read at or above `from` lose their origin; those without a row get one, since nothing else has them.
    fn orphan(&mut self, slot: Slot, from: i64, now: Now) {
        for handle in self.handles_of(slot, |origin, _| origin.offset >= from) {
            let Some(entry) = self.entry_mut(handle) else { continue };
            let (key, row, origin) = (entry.key, entry.flags.row, entry.origin.take());
            match row {
                true => self.journal.clear_origin.push(key),
                false => self.mark_soon(handle, now),
            }
            if let Some(origin) = origin {
                self.unblock(origin, handle, now);
            }
        }
        self.commit_soon(now);
    }

    /// A position that this store itself committed counts as acknowledged, though its answer may have been lost in a crash or
    /// come after the last commit of an orderly stop: whatever at-most-once task is below it and still waits was read in the
    /// assignment of that commit, or found not to be in doubt when that began.
    fn believe(&mut self, slot: Slot, committed: GroupPosition, now: Now) {
        let Some(partition) = self.partitions.slots.get_mut(&slot) else { return };
        if committed.by == CommittedBy::ThisStore && committed.offset > partition.acknowledged {
            partition.acknowledged = committed.offset;
            partition.dirty = true;
            self.unblock_below(slot, committed.offset, now);
        }
    }

    /// The group is at `committed`, beyond at-most-once tasks of which no acknowledged commit of ours took it there: somebody
    /// else may have handed them out.
    pub(super) fn doubt(&mut self, slot: Slot, committed: i64, now: Now) {
        let doubtful = self.handles_of(slot, |origin, entry| {
            entry.terms.at_most_once()
                && entry.flags.row
                && origin.offset < committed
                && !self.partitions.is_acknowledged(origin)
                && matches!(entry.state, State::Pending { .. })
        });
        for handle in doubtful {
            self.give_up(handle, FailureCause::InDoubt, now);
        }
    }

    fn handles_of(&self, slot: Slot, fits: impl Fn(Origin, &Entry) -> bool) -> Vec<Handle> {
        let all = self.entries.iter().filter_map(|(index, entry)| {
            let origin = entry.origin.get().filter(|origin| origin.slot == slot)?;
            let index = u32::try_from(index).ok()?;
            fits(origin, entry).then_some(Handle { key: entry.key, index })
        });
        all.collect()
    }
}

/// Whether a commit of ours must stand in the group before anything is read: otherwise the next start finds the position of
/// somebody else below ours again and takes it for a new rewind, or finds one of ours that a cut log left behind.
fn must_commit_first(known: Known) -> bool {
    known.committed.is_some_and(|committed| committed.by == CommittedBy::Somebody || committed.offset > known.log_end)
}
