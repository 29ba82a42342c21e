//! Partitions: assignment, start, group commits, loss (rule 5 of the design).
//!
//! ```text
//!  Absent --assign--> Journalling --confirmed--> [Committing --acknowledged-->] Reading
//!    ^                                                                            |
//!    '------------------------- released, lost -----------------------------------'
//! ```

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use uuid::Uuid;

use super::{Ledger, entry::Handle, journal::Ticket};
use crate::{
    activation::{ActivationId, Origin, PartitionId, Slot, TopicId},
    ports::{
        source::{Assigned, AssignmentId, COMMIT_MARK, Committed, GroupCommit, Start},
        store::{FailureCause, Position, StoredState},
    },
    positions::{self, Because, CommittedBy, GroupPosition, Known, NoStart, Plan, Reading, Tracker},
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

/// Where an assigned partition starts, for the log and the metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartDecision {
    /// The partition.
    pub partition: Arc<PartitionId>,
    /// Where and why.
    pub plan: Plan,
}

#[derive(Debug)]
pub(super) struct Partitions {
    store: Uuid,
    slots: BTreeMap<Slot, Partition>,
    by_id: HashMap<Arc<PartitionId>, Slot>,
    next_slot: u32,
    dropped: Vec<Slot>,
    /// Any partition is still being read again.
    behind: bool,
    ticked_at: Steady,
}

#[derive(Debug)]
pub(super) struct Partition {
    id: Arc<PartitionId>,
    pub(super) tracker: Tracker,
    phase: Phase,
    assignment: AssignmentId,
    metadata: Arc<str>,
    /// The journalled position lacks something.
    dirty: bool,
    /// Everything of it is to be written with the next commit.
    flush: bool,
    /// Up to here a group commit is acknowledged, in an assignment that read it or a later one that began at or below it.
    acknowledged: i64,
    read_limit: i64,
    confirmed_read_limit: i64,
    confirmed_watermark: i64,
    confirmed_epoch: Option<i32>,
    /// The group's position, as learned or acknowledged in this assignment.
    committed: Option<i64>,
    outstanding: bool,
    commit_soon: bool,
    next_commit_at: Steady,
    /// Below it, what is read again may have been handed out in an earlier life or assignment.
    catch_up_to: i64,
    /// It was ours and may come back.
    awaited_until: Option<Steady>,
    /// Entries that wait for an acknowledgement or for the read limit.
    blocked: BTreeMap<i64, Handle>,
    at_end: bool,
    log_end: i64,
    read_to_end: Duration,
    graves: VecDeque<(ActivationId, Duration)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Absent,
    /// The start waits for this commit; `commit_first`: and then for the group.
    Journalling {
        at: i64,
        ticket: Ticket,
        commit_first: bool,
    },
    /// The start waits for the group's acknowledgement.
    Committing {
        at: i64,
    },
    /// The source is to be told.
    Starting {
        at: i64,
    },
    Reading,
}

impl Partitions {
    pub(super) fn new(store: Uuid) -> Self {
        Self {
            store,
            slots: BTreeMap::new(),
            by_id: HashMap::new(),
            next_slot: 0,
            dropped: Vec::new(),
            behind: false,
            ticked_at: Steady::default(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Partition> {
        self.slots.values()
    }

    pub(super) fn knows(&self, slot: Slot) -> bool {
        self.slots.contains_key(&slot)
    }

    pub(super) fn name(&self, slot: Slot) -> String {
        self.slots.get(&slot).map_or_else(String::new, |partition| {
            format!("{}:{}:{}", partition.id.topic, partition.id.topic_id, partition.id.partition)
        })
    }

    pub(super) fn row_loaded(&mut self, origin: Origin) {
        if let Some(partition) = self.slots.get_mut(&origin.slot) {
            partition.tracker.write(origin.offset);
        }
    }

    pub(super) fn is_acknowledged(&self, origin: Origin) -> bool {
        self.slots.get(&origin.slot).is_some_and(|partition| origin.offset < partition.acknowledged)
    }

    pub(super) fn block(&mut self, origin: Origin, handle: Handle) {
        if let Some(partition) = self.slots.get_mut(&origin.slot) {
            partition.blocked.insert(origin.offset, handle);
        }
    }

    pub(super) fn may_have_been_handed_out(&self, origin: Origin) -> bool {
        self.slots.get(&origin.slot).is_some_and(|partition| origin.offset < partition.catch_up_to)
    }

    pub(super) fn is_beyond_read_limit(&self, origin: Origin) -> bool {
        self.slots.get(&origin.slot).is_some_and(|partition| origin.offset >= partition.confirmed_read_limit)
    }

    pub(super) fn settle(&mut self, origin: Origin) {
        if let Some(partition) = self.slots.get_mut(&origin.slot) {
            partition.tracker.settle(origin.offset);
            partition.dirty = true;
        }
    }

    pub(super) fn write(&mut self, origin: Origin) {
        if let Some(partition) = self.slots.get_mut(&origin.slot) {
            partition.tracker.write(origin.offset);
            partition.dirty = true;
        }
    }

    pub(super) fn flush_all(&mut self) {
        for partition in self.slots.values_mut() {
            partition.flush = true;
        }
    }

    pub(super) fn take_flushes(&mut self, span_max: i64) -> BTreeSet<Slot> {
        let wide = |partition: &Partition| partition.tracker.span() > span_max;
        let flush = self
            .slots
            .iter_mut()
            .filter_map(|(slot, partition)| (std::mem::take(&mut partition.flush) || wide(partition)).then_some(*slot));
        flush.collect()
    }

    pub(super) fn take_dropped(&mut self) -> Vec<Slot> {
        std::mem::take(&mut self.dropped)
    }

    pub(super) fn take_positions(&mut self) -> Vec<Position> {
        let dirty = self
            .slots
            .iter_mut()
            .filter_map(|(slot, partition)| std::mem::take(&mut partition.dirty).then(|| partition.position(*slot)));
        dirty.collect()
    }

    pub(super) fn buried(&mut self, slot: Slot, id: ActivationId) {
        if let Some(partition) = self.slots.get_mut(&slot) {
            partition.graves.push_back((id, partition.read_to_end));
        }
    }

    pub(super) fn oldest_buried(&mut self, slot: Slot) -> Option<ActivationId> {
        self.slots.get_mut(&slot)?.graves.pop_front().map(|(id, _)| id)
    }

    pub(super) fn take_buried(&mut self, slot: Slot) -> Vec<ActivationId> {
        let graves = self.slots.get_mut(&slot).map(|partition| std::mem::take(&mut partition.graves));
        graves.unwrap_or_default().into_iter().map(|(id, _)| id).collect()
    }

    fn get(&self, id: &PartitionId, assignment: AssignmentId) -> Option<Slot> {
        let slot = *self.by_id.get(id)?;
        let partition = self.slots.get(&slot)?;
        (partition.assignment == assignment && partition.phase != Phase::Absent).then_some(slot)
    }

    /// The slot of a partition; a new one when it is not known.
    fn slot_of(&mut self, id: &Arc<PartitionId>, watermark: i64) -> Slot {
        if let Some(slot) = self.by_id.get(id) {
            return *slot;
        }
        let slot = Slot(self.next_slot);
        self.next_slot += 1;
        self.add(slot, Partition::new(id.clone(), Tracker::new(watermark), self.store));
        slot
    }

    fn add(&mut self, slot: Slot, partition: Partition) {
        self.next_slot = self.next_slot.max(slot.0 + 1);
        self.by_id.insert(partition.id.clone(), slot);
        self.slots.insert(slot, partition);
    }

    /// Logs of the same name that are gone: another topic id.
    fn predecessors(&self, id: &PartitionId) -> Vec<Slot> {
        let gone = |other: &PartitionId| {
            other.topic == id.topic
                && other.group == id.group
                && other.partition == id.partition
                && other.topic_id != id.topic_id
        };
        self.slots.iter().filter(|(_, partition)| gone(&partition.id)).map(|(slot, _)| *slot).collect()
    }

    fn committed_by(&self, committed: &Committed, topic_id: TopicId) -> Option<CommittedBy> {
        let Some(mark) = committed.metadata.strip_prefix(COMMIT_MARK) else { return Some(CommittedBy::Somebody) };
        let (store, topic) = mark.split_once(':').unwrap_or((mark, ""));
        if topic != topic_id.to_string() {
            return None;
        }
        Some(match store == self.store.to_string() {
            true => CommittedBy::ThisStore,
            false => CommittedBy::AnotherStore,
        })
    }
}

impl Partition {
    fn new(id: Arc<PartitionId>, tracker: Tracker, store: Uuid) -> Self {
        let watermark = tracker.watermark();
        Self {
            metadata: format!("{COMMIT_MARK}{store}:{}", id.topic_id).into(),
            id,
            confirmed_epoch: tracker.leader_epoch(),
            tracker,
            phase: Phase::Absent,
            assignment: AssignmentId::default(),
            dirty: false,
            flush: false,
            acknowledged: i64::MIN,
            read_limit: watermark,
            confirmed_read_limit: watermark,
            confirmed_watermark: watermark,
            committed: None,
            outstanding: false,
            commit_soon: false,
            next_commit_at: Steady::default(),
            catch_up_to: i64::MIN,
            awaited_until: None,
            blocked: BTreeMap::new(),
            at_end: false,
            log_end: watermark,
            read_to_end: Duration::ZERO,
            graves: VecDeque::new(),
        }
    }

    fn position(&mut self, slot: Slot) -> Position {
        self.tracker.advance();
        Position {
            slot,
            partition: self.id.clone(),
            watermark: self.tracker.watermark(),
            leader_epoch: self.tracker.leader_epoch(),
            settled: self.tracker.settled(),
            acknowledged: self.acknowledged,
            read_limit: self.read_limit,
        }
    }

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

    fn group_commit(&self, offset: i64) -> GroupCommit {
        GroupCommit {
            partition: self.id.clone(),
            assignment: self.assignment,
            offset,
            leader_epoch: self.confirmed_epoch,
            metadata: self.metadata.clone(),
        }
    }

    /// The position that the group lacks.
    fn uncommitted(&self) -> Option<i64> {
        match self.phase {
            Phase::Committing { at } => Some(at),
            Phase::Starting { .. } | Phase::Reading => {
                let lacks = self.committed.is_none_or(|committed| committed < self.confirmed_watermark);
                lacks.then_some(self.confirmed_watermark)
            }
            Phase::Absent | Phase::Journalling { .. } => None,
        }
    }

    pub(super) fn id(&self) -> &Arc<PartitionId> {
        &self.id
    }

    pub(super) fn is_assigned(&self) -> bool {
        self.phase != Phase::Absent
    }

    /// How many records it is behind the log's end, as far as known.
    pub(super) fn lag(&self) -> u64 {
        u64::try_from(self.log_end.saturating_sub(self.tracker.watermark())).unwrap_or(0)
    }

    pub(super) fn committed(&self) -> Option<i64> {
        self.committed
    }
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

    /// The partition behind a slot.
    pub fn partition_name(&self, slot: Slot) -> Option<Arc<PartitionId>> {
        self.partitions.slots.get(&slot).map(|partition| partition.id.clone())
    }

    /// The slot of a partition that is being read in this assignment; none: what comes from it is stale.
    pub fn reading(&self, partition: &PartitionId, assignment: AssignmentId) -> Option<Slot> {
        self.partitions.get(partition, assignment)
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
    fn doubt(&mut self, slot: Slot, committed: Option<i64>, now: Now) {
        let Some(committed) = committed else { return };
        let doubtful = self.handles_of(slot, |origin, entry| {
            entry.terms.at_most_once && !entry.flags.cleared && origin.offset < committed && entry.flags.row
        });
        for handle in doubtful {
            self.doubtful(handle, now);
        }
    }

    fn doubtful(&mut self, handle: Handle, now: Now) {
        use crate::lifecycle::State;
        if self.entry(handle).is_some_and(|entry| matches!(entry.state, State::Pending { .. })) {
            self.give_up(handle, FailureCause::InDoubt, now);
        }
    }

    fn handles_of(&self, slot: Slot, fits: impl Fn(Origin, &super::Entry) -> bool) -> Vec<Handle> {
        let all = self.entries.iter().filter_map(|(index, entry)| {
            let origin = entry.origin.filter(|origin| origin.slot == slot)?;
            let index = u32::try_from(index).ok()?;
            fits(origin, entry).then_some(Handle { key: entry.key, index })
        });
        all.collect()
    }

    fn offsets_of(&self, slot: Slot, fits: impl Fn(Origin, &super::Entry) -> bool) -> Vec<i64> {
        let handles = self.handles_of(slot, fits);
        handles.iter().filter_map(|handle| self.entry(*handle)?.origin).map(|origin| origin.offset).collect()
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
    fn look_behind(&mut self, now: Now) {
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
