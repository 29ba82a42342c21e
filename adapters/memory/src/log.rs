//! A log with partitions, and the positions that a group committed in it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use taskbroker_domain::{
    activation::PartitionId,
    ports::source::{Committed, Record},
};
use tokio::sync::Notify;

use crate::{
    lock::Lock,
    source::{Member, MemorySource},
};

/// What Kafka is to a broker: partitions of records, and committed positions per group. Clones are the same log.
///
/// Every [`PartitionId`] has records of its own; committed positions belong to (group, topic name, partition), so that a
/// topic that was created again meets the positions of its predecessor.
#[derive(Clone, Debug, Default)]
pub struct MemoryLog {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) state: Lock<State>,
    pub(crate) changed: Notify,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    partitions: HashMap<Arc<PartitionId>, Partition>,
    committed: HashMap<GroupPartition, Committed>,
    pub(crate) members: Vec<Member>,
    pub(crate) assignments: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct GroupPartition {
    group: Arc<str>,
    topic: Arc<str>,
    partition: i32,
}

impl From<&PartitionId> for GroupPartition {
    fn from(id: &PartitionId) -> Self {
        Self { group: id.group.clone(), topic: id.topic.clone(), partition: id.partition }
    }
}

#[derive(Debug, Default)]
struct Partition {
    start: i64,
    end: i64,
    records: BTreeMap<i64, Record>,
}

impl MemoryLog {
    /// A log without partitions; a partition is there once it is named.
    pub fn new() -> Self {
        Self::default()
    }

    /// A new member of the group, with nothing assigned to it.
    pub fn member(&self) -> MemorySource {
        MemorySource::join(self.clone())
    }

    /// Appends a record with this payload and returns its offset.
    pub fn append(&self, partition: &Arc<PartitionId>, payload: impl Into<Bytes>) -> i64 {
        self.append_record(partition, Record { payload: payload.into(), ..Record::default() })
    }

    /// Appends a record, whose offset is set here, and returns that.
    pub fn append_record(&self, partition: &Arc<PartitionId>, record: Record) -> i64 {
        let offset = self.change(|state| {
            let log = state.log(partition);
            let offset = log.end;
            log.records.insert(offset, Record { offset, ..record });
            log.end += 1;
            offset
        });
        self.shared.changed.notify_waiters();
        offset
    }

    /// Appends `offsets` offsets that hold no record, as transaction markers and compaction leave them.
    pub fn append_gap(&self, partition: &Arc<PartitionId>, offsets: i64) {
        self.change(|state| state.log(partition).end += offsets);
        self.shared.changed.notify_waiters();
    }

    /// Retention: forgets everything below `start`.
    pub fn trim(&self, partition: &Arc<PartitionId>, start: i64) {
        self.change(|state| {
            let log = state.log(partition);
            log.start = start;
            log.end = log.end.max(start);
            log.records.retain(|offset, _| *offset >= start);
        });
    }

    /// Cuts the log off: `end` is the next offset to be written. An unclean leader election does so, a wiped topic too.
    pub fn truncate(&self, partition: &Arc<PartitionId>, end: i64) {
        self.change(|state| {
            let log = state.log(partition);
            log.start = log.start.min(end);
            log.end = end;
            log.records.retain(|offset, _| *offset < end);
        });
    }

    /// The first offset still there, and the one after the last.
    pub fn bounds(&self, partition: &Arc<PartitionId>) -> (i64, i64) {
        self.change(|state| state.bounds(partition))
    }

    /// Sets the group's position, as an operator's tool or another kind of broker does; `None` removes it.
    pub fn set_committed(&self, partition: &PartitionId, position: Option<Committed>) {
        self.change(|state| match position {
            Some(position) => state.commit(partition, position),
            None => drop(state.committed.remove(&partition.into())),
        });
    }

    /// The group's position.
    pub fn committed(&self, partition: &PartitionId) -> Option<Committed> {
        self.change(|state| state.committed(partition))
    }

    /// Waits until the group's position is at least `offset`.
    pub async fn committed_up_to(&self, partition: &PartitionId, offset: i64) {
        loop {
            let changed = self.shared.changed.notified();
            if self.committed(partition).is_some_and(|committed| committed.offset >= offset) {
                return;
            }
            changed.await;
        }
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.shared.state.lock())
    }
}

impl State {
    fn log(&mut self, partition: &Arc<PartitionId>) -> &mut Partition {
        self.partitions.entry(partition.clone()).or_default()
    }

    pub(crate) fn bounds(&mut self, partition: &Arc<PartitionId>) -> (i64, i64) {
        let log = self.log(partition);
        (log.start, log.end)
    }

    /// Up to `room` records from `position` on, and the position after them: after the last of them if there are more,
    /// else the end of the log.
    pub(crate) fn read(&mut self, partition: &Arc<PartitionId>, position: i64, room: usize) -> (Vec<Record>, i64) {
        let log = self.log(partition);
        let mut rest = log.records.range(position..).map(|(_, record)| record);
        let records: Vec<_> = rest.by_ref().take(room).cloned().collect();
        let next = match rest.next() {
            Some(_) => records.last().map_or(position, |record| record.offset + 1),
            None => log.end,
        };
        (records, next)
    }

    pub(crate) fn commit(&mut self, partition: &PartitionId, position: Committed) {
        self.committed.insert(partition.into(), position);
    }

    pub(crate) fn committed(&self, partition: &PartitionId) -> Option<Committed> {
        self.committed.get(&partition.into()).cloned()
    }
}
