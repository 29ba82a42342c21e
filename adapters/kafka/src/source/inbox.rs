//! What the polling thread has for the caller of `receive`: tidings, which come first, and records, which wait for room.

use std::{
    collections::VecDeque,
    panic::resume_unwind,
    sync::{Arc, Mutex},
};

use taskbroker_domain::ports::source::SourceEvent;
use tokio::sync::Notify;

use crate::native::Waker;

/// Bounded for records; tidings are bounded by what causes them.
pub(super) struct Inbox {
    state: Mutex<State>,
    arrived: Notify,
    waker: Waker,
    records_max: usize,
}

/// How many bytes of records wait here at most (one record more, since a record cannot be cut).
const BYTES_MAX: usize = 4 << 20;

/// How much more may be pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) records: usize,
    /// Those that begin within so many bytes.
    pub(super) bytes: usize,
}

impl Room {
    pub(super) fn is_none(self) -> bool {
        self.records == 0 || self.bytes == 0
    }
}

#[derive(Default)]
struct State {
    tidings: VecDeque<SourceEvent>,
    /// Records, and what must not overtake them: the end of a partition, a position out of range.
    stream: VecDeque<SourceEvent>,
    records: usize,
    bytes: usize,
    /// The thread that fills this, by its name, has ended by a bug: nothing comes any more.
    deserted: Option<&'static str>,
}

impl Inbox {
    pub(super) fn new(records_max: usize, waker: Waker) -> Self {
        Self { state: Mutex::default(), arrived: Notify::new(), waker, records_max }
    }

    /// The next event; records only if there is room. Loses nothing when cancelled. When the thread that fills this has ended
    /// by a bug, that goes on here: nobody waits for ever for what does not come.
    pub(super) async fn next(&self, room: usize) -> SourceEvent {
        loop {
            let arrived = self.arrived.notified();
            if let Some(thread) = self.lock().deserted {
                resume_unwind(Box::new(format!("the thread {thread} ended by a bug")));
            }
            if let Some(event) = self.take(room) {
                return event;
            }
            arrived.await;
        }
    }

    fn take(&self, room: usize) -> Option<SourceEvent> {
        let mut state = self.lock();
        if let Some(event) = state.tidings.pop_front() {
            return Some(event);
        }
        let was_full = state.room(self.records_max).is_none();
        let event = state.take_from_stream(room)?;
        if was_full {
            self.waker.wake();
        }
        Some(event)
    }

    /// Tells something that goes ahead of records.
    pub(super) fn tell(&self, event: SourceEvent) {
        self.lock().tidings.push_back(event);
        self.arrived.notify_one();
    }

    /// Says, should this thread end by a bug, that nothing comes any more. To be kept as long as the thread runs.
    pub(super) fn guard(self: &Arc<Self>, thread: &'static str) -> Guard {
        Guard { inbox: self.clone(), thread }
    }

    /// Adds to the stream of records.
    pub(super) fn push(&self, event: SourceEvent) {
        let mut state = self.lock();
        let (records, bytes) = size(&event);
        state.records += records;
        state.bytes += bytes;
        state.stream.push_back(event);
        self.arrived.notify_one();
    }

    /// How much more may be pushed.
    pub(super) fn room(&self) -> Room {
        self.lock().room(self.records_max)
    }

    /// How many records wait.
    pub(super) fn waiting(&self) -> usize {
        self.lock().records
    }

    /// Forgets what waits of the partitions that `gone` names: they are not ours any more.
    pub(super) fn drop_records(&self, gone: impl Fn(i32) -> bool) {
        let mut state = self.lock();
        state.stream.retain(|event| partition_of(event).is_none_or(|partition| !gone(partition)));
        let (records, bytes) = state.stream.iter().map(size).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        (state.records, state.bytes) = (records, bytes);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// See [`Inbox::guard`].
pub(super) struct Guard {
    inbox: Arc<Inbox>,
    thread: &'static str,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(
                thread = self.thread,
                "a thread of the Kafka client ended by a bug; the panic message above says where"
            );
            self.inbox.lock().deserted = Some(self.thread);
            self.inbox.arrived.notify_one();
        }
    }
}

impl State {
    fn room(&self, records_max: usize) -> Room {
        Room { records: records_max.saturating_sub(self.records), bytes: BYTES_MAX.saturating_sub(self.bytes) }
    }

    fn take_from_stream(&mut self, room: usize) -> Option<SourceEvent> {
        match self.stream.pop_front()? {
            SourceEvent::Records { partition, assignment, mut records } if records.len() > room => {
                let rest = records.split_off(room);
                let rest = SourceEvent::Records { partition: partition.clone(), assignment, records: rest };
                self.stream.push_front(rest);
                let taken = SourceEvent::Records { partition, assignment, records };
                self.leave(&taken);
                (room > 0).then_some(taken)
            }
            event => {
                self.leave(&event);
                Some(event)
            }
        }
    }

    fn leave(&mut self, event: &SourceEvent) {
        let (records, bytes) = size(event);
        self.records -= records;
        self.bytes -= bytes;
    }
}

fn size(event: &SourceEvent) -> (usize, usize) {
    match event {
        SourceEvent::Records { records, .. } => {
            (records.len(), records.iter().map(|record| record.payload.len()).sum())
        }
        SourceEvent::End { .. }
        | SourceEvent::OutOfRange(_)
        | SourceEvent::Assigned { .. }
        | SourceEvent::Revoking { .. }
        | SourceEvent::Lost { .. }
        | SourceEvent::Committed { .. }
        | SourceEvent::CommitFailed { .. }
        | SourceEvent::Connection { .. } => (0, 0),
    }
}

fn partition_of(event: &SourceEvent) -> Option<i32> {
    match event {
        SourceEvent::Records { partition, .. } | SourceEvent::End { partition, .. } => Some(partition.partition),
        SourceEvent::OutOfRange(assigned) => Some(assigned.partition.partition),
        SourceEvent::Assigned { .. }
        | SourceEvent::Revoking { .. }
        | SourceEvent::Lost { .. }
        | SourceEvent::Committed { .. }
        | SourceEvent::CommitFailed { .. }
        | SourceEvent::Connection { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use bytes::Bytes;
    use taskbroker_domain::{
        activation::{PartitionId, TopicId},
        ports::source::{AssignmentId, Record},
    };

    use super::*;

    fn partition(number: i32) -> Arc<PartitionId> {
        Arc::new(PartitionId { topic: "t".into(), topic_id: TopicId::default(), group: "g".into(), partition: number })
    }

    fn records(number: i32, offsets: std::ops::Range<i64>) -> SourceEvent {
        let record = |offset| Record { offset, payload: Bytes::from_static(b"0123456789"), ..Record::default() };
        let records = offsets.map(record).collect();
        SourceEvent::Records { partition: partition(number), assignment: AssignmentId(1), records }
    }

    fn inbox() -> Inbox {
        Inbox::new(10, Waker::of(&std::thread::current()))
    }

    fn offsets(event: Option<SourceEvent>) -> Vec<i64> {
        match event {
            Some(SourceEvent::Records { records, .. }) => records.iter().map(|record| record.offset).collect(),
            other => panic!("no records: {other:?}"),
        }
    }

    #[test]
    fn records_come_in_pieces_that_fit_the_room() {
        let inbox = inbox();
        inbox.push(records(0, 0..5));
        assert_eq!(offsets(inbox.take(2)), [0, 1]);
        assert!(inbox.take(0).is_none());
        assert_eq!(offsets(inbox.take(9)), [2, 3, 4]);
        assert!(inbox.take(9).is_none());
    }

    #[test]
    fn without_room_tidings_come_all_the_same() {
        let inbox = inbox();
        inbox.push(records(0, 0..5));
        inbox.tell(SourceEvent::Connection { up: false });
        assert!(matches!(inbox.take(0), Some(SourceEvent::Connection { up: false })));
        assert!(inbox.take(0).is_none());
    }

    #[test]
    fn the_end_does_not_overtake_the_records_before_it() {
        let inbox = inbox();
        inbox.push(records(0, 0..1));
        inbox.push(SourceEvent::End { partition: partition(0), assignment: AssignmentId(1), offset: 1 });
        assert!(inbox.take(0).is_none());
        assert_eq!(offsets(inbox.take(1)), [0]);
        assert!(matches!(inbox.take(0), Some(SourceEvent::End { offset: 1, .. })));
    }

    #[test]
    fn what_is_gone_is_forgotten_and_makes_room() {
        let inbox = inbox();
        inbox.push(records(0, 0..6));
        inbox.push(records(1, 0..4));
        assert!(inbox.room().is_none());
        inbox.drop_records(|partition| partition == 0);
        assert_eq!(inbox.room(), Room { records: 6, bytes: BYTES_MAX - 40 });
        assert_eq!(inbox.waiting(), 4);
        assert_eq!(offsets(inbox.take(9)), [0, 1, 2, 3]);
    }

    #[tokio::test]
    async fn a_thread_that_ends_by_a_bug_is_not_waited_for() {
        let inbox = Arc::new(inbox());
        let guard = inbox.guard("kafka-source");
        let ended = std::thread::spawn(move || {
            let _guard = guard;
            panic!("as the test wished");
        });
        assert!(ended.join().is_err());
        let next = tokio::spawn(async move { inbox.next(1).await }).await;
        let reason = *next.unwrap_err().into_panic().downcast::<String>().unwrap();
        assert_eq!(reason, "the thread kafka-source ended by a bug");
    }

    #[tokio::test]
    async fn a_thread_that_ends_as_it_should_deserts_nobody() {
        let inbox = Arc::new(inbox());
        drop(inbox.guard("kafka-watch"));
        inbox.push(records(0, 0..1));
        assert_eq!(offsets(Some(inbox.next(1).await)), [0]);
    }
}
