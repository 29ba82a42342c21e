//! Partitions: what is known of each, by slot.
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

use super::{entry::Handle, journal::Ticket};
use crate::{
    activation::{ActivationId, Origin, PartitionId, Slot, TopicId},
    ports::{
        source::{AssignmentId, COMMIT_MARK, Committed},
        store::Position,
    },
    positions::{CommittedBy, Tracker},
    time::Steady,
};

#[derive(Debug)]
pub(super) struct Partitions {
    pub(super) store: Uuid,
    pub(super) slots: BTreeMap<Slot, Partition>,
    pub(super) by_id: HashMap<Arc<PartitionId>, Slot>,
    pub(super) next_slot: u32,
    pub(super) dropped: Vec<Slot>,
    /// Any partition is still being read again.
    pub(super) behind: bool,
}

#[derive(Debug)]
pub(super) struct Partition {
    pub(super) id: Arc<PartitionId>,
    pub(super) tracker: Tracker,
    pub(super) phase: Phase,
    pub(super) assignment: AssignmentId,
    /// The assignment in which it was first seen; those of an earlier life count as the zeroth.
    pub(super) first_assignment: AssignmentId,
    /// Its position was taken over from the existing system, and the group has not acknowledged it yet: it stays journalled
    /// without a topic id, so that a crash meanwhile changes nothing.
    pub(super) taken_over: bool,
    /// Its assignment ended in good order: answers to the last group commit in it count.
    pub(super) released: bool,
    pub(super) metadata: Arc<str>,
    /// The journalled position lacks something.
    pub(super) dirty: bool,
    /// Everything of it is to be written with the next commit.
    pub(super) flush: bool,
    /// Up to here a group commit is acknowledged, in an assignment that read it or a later one that began at or below it.
    pub(super) acknowledged: i64,
    pub(super) read_limit: i64,
    pub(super) confirmed_read_limit: i64,
    pub(super) confirmed_watermark: i64,
    pub(super) confirmed_epoch: Option<i32>,
    /// The group's position, as learned or acknowledged in this assignment.
    pub(super) committed: Option<i64>,
    pub(super) outstanding: bool,
    pub(super) commit_soon: bool,
    pub(super) next_commit_at: Steady,
    /// Below it, what is read again may have been handed out in an earlier life or assignment.
    pub(super) catch_up_to: i64,
    /// It was ours and may come back.
    pub(super) awaited_until: Option<Steady>,
    /// Entries that wait for an acknowledgement or for the read limit.
    pub(super) blocked: BTreeMap<i64, Handle>,
    /// Since when it is read to its end.
    at_end_since: Option<Steady>,
    pub(super) log_end: i64,
    /// How long it had been read to its end before that.
    at_end_before: Duration,
    /// Tombstones by the time at the end at which their minutes began; what is not so in `Memory` is out of date.
    pub(super) graves: VecDeque<(ActivationId, Duration)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
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
        Self { store, slots: BTreeMap::new(), by_id: HashMap::new(), next_slot: 0, dropped: Vec::new(), behind: false }
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

    pub(super) fn time_at_end(&self, slot: Slot, now: Steady) -> Option<Duration> {
        self.slots.get(&slot).map(|partition| partition.time_at_end(now))
    }

    /// The minutes of a tombstone begin.
    pub(super) fn dig(&mut self, slot: Slot, id: ActivationId, since: Duration) {
        if let Some(partition) = self.slots.get_mut(&slot) {
            partition.graves.push_back((id, since));
        }
    }

    pub(super) fn oldest_grave(&mut self, slot: Slot) -> Option<(ActivationId, Duration)> {
        self.slots.get_mut(&slot)?.graves.pop_front()
    }

    /// Tombstones whose minutes are over, unless they began anew.
    pub(super) fn take_overdue_graves(&mut self, keep: Duration, now: Steady) -> Vec<(ActivationId, Duration)> {
        let mut overdue = Vec::new();
        for partition in self.slots.values_mut() {
            let time = partition.time_at_end(now);
            while partition.graves.front().is_some_and(|(_, since)| time.saturating_sub(*since) >= keep) {
                overdue.extend(partition.graves.pop_front());
            }
        }
        overdue
    }

    pub(super) fn close_graves(&mut self, slot: Slot) {
        if let Some(partition) = self.slots.get_mut(&slot) {
            partition.graves.clear();
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

    /// Partitions that did not come back in time.
    pub(super) fn take_given_up(&mut self, now: Steady) -> Vec<Slot> {
        let given_up = |partition: &mut Partition| {
            let overdue = partition.awaited_until.take_if(|until| *until <= now);
            overdue.is_some() && !partition.is_assigned()
        };
        self.slots.iter_mut().filter_map(|(slot, partition)| given_up(partition).then_some(*slot)).collect()
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

    /// The partition, if this is the assignment that holds it.
    pub(super) fn get(&self, id: &PartitionId, assignment: AssignmentId) -> Option<Slot> {
        let slot = *self.by_id.get(id)?;
        let partition = self.slots.get(&slot)?;
        (partition.assignment == assignment && partition.phase != Phase::Absent).then_some(slot)
    }

    /// The partition, if this is the assignment that holds it, or held it and let it go in good order.
    pub(super) fn get_or_released(&self, id: &PartitionId, assignment: AssignmentId) -> Option<Slot> {
        let slot = *self.by_id.get(id)?;
        let partition = self.slots.get(&slot)?;
        (partition.assignment == assignment && (partition.is_assigned() || partition.released)).then_some(slot)
    }

    /// The slot of a partition; a new one when it is not known.
    pub(super) fn slot_of(&mut self, id: &Arc<PartitionId>, watermark: i64) -> Slot {
        if let Some(slot) = self.by_id.get(id) {
            return *slot;
        }
        let slot = Slot(self.next_slot);
        self.next_slot += 1;
        self.add(slot, Partition::new(id.clone(), Tracker::new(watermark), self.store));
        slot
    }

    pub(super) fn add(&mut self, slot: Slot, partition: Partition) {
        self.next_slot = self.next_slot.max(slot.0 + 1);
        self.by_id.insert(partition.id.clone(), slot);
        self.slots.insert(slot, partition);
    }

    /// Logs of the same name that are gone: another topic id.
    pub(super) fn predecessors(&self, id: &PartitionId) -> Vec<Slot> {
        let gone = |other: &PartitionId| {
            other.topic == id.topic
                && other.group == id.group
                && other.partition == id.partition
                && other.topic_id != id.topic_id
        };
        self.slots.iter().filter(|(_, partition)| gone(&partition.id)).map(|(slot, _)| *slot).collect()
    }

    /// Another partition of the same log was read in an earlier assignment: one of which nobody knows a position was added
    /// since, and no record of it was seen.
    pub(super) fn has_older_sibling(&self, id: &PartitionId, assignment: AssignmentId) -> bool {
        let sibling = |other: &PartitionId| {
            other.topic == id.topic
                && other.group == id.group
                && other.topic_id == id.topic_id
                && other.partition != id.partition
        };
        self.slots.values().any(|partition| sibling(&partition.id) && partition.first_assignment < assignment)
    }

    pub(super) fn committed_by(&self, committed: &Committed, topic_id: TopicId) -> Option<CommittedBy> {
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
    pub(super) fn new(id: Arc<PartitionId>, tracker: Tracker, store: Uuid) -> Self {
        let watermark = tracker.watermark();
        let id_unknown = id.topic_id == TopicId::UNKNOWN;
        Self {
            metadata: metadata(&id, store),
            id,
            confirmed_epoch: tracker.leader_epoch(),
            tracker,
            phase: Phase::Absent,
            assignment: AssignmentId::default(),
            first_assignment: AssignmentId(u64::MAX),
            taken_over: id_unknown,
            released: false,
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
            at_end_since: None,
            log_end: watermark,
            at_end_before: Duration::ZERO,
            graves: VecDeque::new(),
        }
    }

    /// It is this log's: what is known of it was taken over without its topic id.
    pub(super) fn name(&mut self, id: Arc<PartitionId>, store: Uuid) {
        self.metadata = metadata(&id, store);
        self.id = id;
        self.first_assignment = AssignmentId(u64::MAX);
    }

    fn position(&mut self, slot: Slot) -> Position {
        self.tracker.advance();
        Position {
            slot,
            partition: if self.taken_over { Arc::new(unknown(&self.id)) } else { self.id.clone() },
            watermark: self.tracker.watermark(),
            leader_epoch: self.tracker.leader_epoch(),
            settled: self.tracker.settled(),
            acknowledged: self.acknowledged,
            read_limit: self.read_limit,
        }
    }

    /// How long it has been read to its end, in all.
    pub(super) fn time_at_end(&self, now: Steady) -> Duration {
        self.at_end_before + self.at_end_since.map_or(Duration::ZERO, |since| now.since(since))
    }

    pub(super) fn reached_end(&mut self, now: Steady) {
        self.at_end_since.get_or_insert(now);
    }

    pub(super) fn left_end(&mut self, now: Steady) {
        self.at_end_before = self.time_at_end(now);
        self.at_end_since = None;
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

fn metadata(id: &PartitionId, store: Uuid) -> Arc<str> {
    format!("{COMMIT_MARK}{store}:{}", id.topic_id).into()
}

/// The same partition of a log whose topic id is not known.
pub(super) fn unknown(id: &PartitionId) -> PartitionId {
    PartitionId { topic_id: TopicId::UNKNOWN, ..id.clone() }
}
