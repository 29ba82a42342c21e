//! One assigned partition: what it waits for, and how far it was read.

use std::{ops::ControlFlow, sync::Arc};

use taskbroker_domain::{
    activation::PartitionId,
    ports::source::{AssignmentId, Record, SourceEvent},
};

use super::{happenings::Happenings, inbox::Room};
use crate::native::{Failure, Fetched, PartitionQueue};

/// A partition of the current assignment.
pub(super) struct Partition {
    pub(super) assignment: AssignmentId,
    pub(super) phase: Phase,
    pub(super) queue: PartitionQueue<Happenings>,
    /// Set when it was told to the caller.
    pub(super) id: Option<Arc<PartitionId>>,
    /// It was started before in this consumer: a new start must begin with a fresh fetch.
    pub(super) was_started: bool,
    /// Surveys go on as long as this lives.
    pub(super) wanted: Arc<()>,
}

/// What a partition is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its position and log are being asked for.
    Surveyed,
    /// It was told and waits for its start.
    Waiting,
    /// It is read.
    Reading {
        /// The offset of the next record.
        next: i64,
        /// The leader epoch of the record before it.
        leader_epoch: Option<i32>,
    },
    /// It is being revoked: nothing more comes from it.
    Halted,
}

/// What draining a partition brought.
#[derive(Default)]
pub(super) struct Drained {
    /// To be put in the stream, in order.
    pub(super) events: Vec<SourceEvent>,
    /// There may be more.
    pub(super) more: bool,
    /// Fetching stopped, because the position is not in the log.
    pub(super) out_of_range: Option<String>,
    /// Other troubles, which pass or do not.
    pub(super) troubles: Vec<Failure>,
}

impl Partition {
    /// Whether it is read.
    pub(super) fn is_reading(&self) -> bool {
        matches!(self.phase, Phase::Reading { .. })
    }

    /// Where fetching goes on if it has to begin anew; 0 where it has not begun.
    pub(super) fn position(&self) -> (i64, Option<i32>) {
        match self.phase {
            Phase::Reading { next, leader_epoch } => (next, leader_epoch),
            Phase::Surveyed | Phase::Waiting | Phase::Halted => (0, None),
        }
    }

    /// Takes out what there is room for, without waiting.
    pub(super) fn drain(&mut self, room: Room) -> Drained {
        let Self { queue, phase, id, assignment, .. } = self;
        let Some(id) = id else {
            return Drained::default();
        };
        let mut drain = Drain::new(id, *assignment, phase, room.bytes);
        let more = queue.drain(room.records, |fetched| drain.take(fetched));
        drain.flush();
        Drained { more, ..drain.drained }
    }
}

struct Drain<'a> {
    id: &'a Arc<PartitionId>,
    assignment: AssignmentId,
    phase: &'a mut Phase,
    records: Vec<Record>,
    bytes_left: usize,
    drained: Drained,
}

impl<'a> Drain<'a> {
    fn new(id: &'a Arc<PartitionId>, assignment: AssignmentId, phase: &'a mut Phase, bytes_max: usize) -> Self {
        Self { id, assignment, phase, records: Vec::new(), bytes_left: bytes_max, drained: Drained::default() }
    }

    fn take(&mut self, fetched: Fetched) -> ControlFlow<()> {
        match fetched {
            Fetched::Record(record) => self.take_record(record),
            Fetched::End(offset) => self.take_end(offset),
            Fetched::Trouble(code, text) => self.take_trouble(code, text),
        }
        match self.bytes_left {
            0 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }

    fn take_record(&mut self, record: Record) {
        match self.phase {
            Phase::Reading { next, leader_epoch } if record.offset >= *next => {
                *next = record.offset.saturating_add(1);
                *leader_epoch = record.leader_epoch.or(*leader_epoch);
                self.bytes_left = self.bytes_left.saturating_sub(record.payload.len());
                self.records.push(record);
            }
            // Of an earlier start, or delivered before.
            Phase::Reading { .. } | Phase::Surveyed | Phase::Waiting | Phase::Halted => {}
        }
    }

    fn take_end(&mut self, offset: i64) {
        match self.phase {
            Phase::Reading { next, .. } if offset >= *next => {
                *next = offset;
                self.flush();
                let (partition, assignment) = (Arc::clone(self.id), self.assignment);
                self.drained.events.push(SourceEvent::End { partition, assignment, offset });
            }
            Phase::Reading { .. } | Phase::Surveyed | Phase::Waiting | Phase::Halted => {}
        }
    }

    fn take_trouble(&mut self, code: rdkafka::types::RDKafkaErrorCode, text: String) {
        use rdkafka::types::RDKafkaErrorCode as Code;
        if matches!(code, Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation) {
            self.flush();
            *self.phase = Phase::Surveyed;
            self.drained.out_of_range = Some(text);
        } else {
            self.drained.troubles.push(Failure::new(code, text));
        }
    }

    fn flush(&mut self) {
        if self.records.is_empty() {
            return;
        }
        let records = std::mem::take(&mut self.records);
        let (partition, assignment) = (Arc::clone(self.id), self.assignment);
        self.drained.events.push(SourceEvent::Records { partition, assignment, records });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use bytes::Bytes;
    use taskbroker_domain::activation::TopicId;

    use super::*;

    #[test]
    fn no_record_begins_beyond_the_bytes_that_there_is_room_for() {
        let id =
            Arc::new(PartitionId { topic: "t".into(), topic_id: TopicId::default(), group: "g".into(), partition: 0 });
        let mut phase = Phase::Reading { next: 0, leader_epoch: None };
        let mut drain = Drain::new(&id, AssignmentId(1), &mut phase, 25);
        let record = |offset| Record { offset, payload: Bytes::from_static(b"0123456789"), ..Record::default() };
        let taken: Vec<_> = (0..3).map(|offset| drain.take(Fetched::Record(record(offset))).is_continue()).collect();
        assert_eq!(taken, [true, true, false]);
        drain.flush();
        let Some(SourceEvent::Records { records, .. }) = drain.drained.events.pop() else { unreachable!() };
        assert_eq!(records.len(), 3);
    }
}
