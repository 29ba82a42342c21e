//! A Kafka of one topic: logs with holes, and the group's positions.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use taskbroker_domain::{
    activation::{Activation, ActivationId, OnFailure, PartitionId, Route, Terms, TopicId},
    ports::source::{Assigned, AssignmentId, Committed, GroupCommit},
    time::Timestamp,
};

/// A record: what a decoder would make of it.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) id: ActivationId,
    pub(crate) application: &'static str,
    pub(crate) at_most_once: bool,
    pub(crate) marked: bool,
    pub(crate) attempt: u32,
    pub(crate) delayed_until: Option<Timestamp>,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) on_failure: OnFailure,
    pub(crate) undecodable: bool,
    /// A second copy of a message that is in the log already.
    pub(crate) is_copy: bool,
    /// It may end without a trace.
    pub(crate) may_be_discarded: bool,
    pub(crate) epoch: i32,
}

pub(crate) fn message(name: &str) -> Message {
    Message {
        id: ActivationId::new(name),
        application: "app",
        at_most_once: false,
        marked: false,
        attempt: 0,
        delayed_until: None,
        expires_at: None,
        on_failure: OnFailure::DeadLetter,
        undecodable: false,
        is_copy: false,
        may_be_discarded: false,
        epoch: 1,
    }
}

impl Message {
    pub(crate) fn at_most_once(self) -> Self {
        Self { at_most_once: true, ..self }
    }

    pub(crate) fn marked(self) -> Self {
        Self { marked: true, ..self }
    }

    pub(crate) fn copy(self) -> Self {
        Self { is_copy: true, ..self }
    }

    pub(crate) fn until(self, at: Timestamp) -> Self {
        Self { delayed_until: Some(at), ..self }
    }

    pub(crate) fn expires(self, at: Timestamp) -> Self {
        Self { expires_at: Some(at), ..self }
    }

    pub(crate) fn activation(&self) -> Activation {
        Activation {
            id: self.id.clone(),
            route: Arc::new(Route::new(self.application, "ns", "task")),
            terms: Terms {
                run_limit: Duration::from_secs(10),
                expires_at: self.expires_at,
                delayed_until: self.delayed_until,
                at_most_once: self.at_most_once,
                on_failure: self.on_failure,
                attempt: self.attempt,
            },
            received_at: Timestamp::from_millis(1),
            marked: self.marked,
            payload: Bytes::copy_from_slice(self.id.text().as_bytes()),
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    pub(crate) topic_id: TopicId,
    pub(crate) records: BTreeMap<i64, Message>,
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) committed: Option<Committed>,
    /// The assignment that holds it: commits of any other are refused.
    pub(crate) holder: Option<AssignmentId>,
    /// Whether positions above its records are held against what became of those (not after an operator's doing).
    pub(crate) is_checked: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Kafka {
    logs: Vec<Log>,
}

impl Kafka {
    pub(crate) fn new(partitions: usize) -> Self {
        let log = Log { topic_id: TopicId([1; 16]), is_checked: true, ..Log::default() };
        Self { logs: vec![log; partitions] }
    }

    pub(crate) fn log(&self, partition: i32) -> &Log {
        &self.logs[usize::try_from(partition).unwrap()]
    }

    pub(crate) fn log_mut(&mut self, partition: i32) -> &mut Log {
        &mut self.logs[usize::try_from(partition).unwrap()]
    }

    pub(crate) fn id(&self, partition: i32) -> Arc<PartitionId> {
        let topic_id = self.log(partition).topic_id;
        Arc::new(PartitionId { topic: "tasks".into(), topic_id, group: "group".into(), partition })
    }

    pub(crate) fn produce(&mut self, partition: i32, message: Message) -> i64 {
        let log = self.log_mut(partition);
        let offset = log.end;
        log.records.insert(offset, message);
        log.end += 1;
        offset
    }

    /// Something that is in the log and is never delivered: a transaction's marker, or what compaction took.
    pub(crate) fn produce_marker(&mut self, partition: i32) {
        self.log_mut(partition).end += 1;
    }

    pub(crate) fn committed(&self, partition: i32) -> Option<i64> {
        self.log(partition).committed.as_ref().map(|committed| committed.offset)
    }

    /// Whether the group takes the commit.
    pub(crate) fn commit(&mut self, commit: &GroupCommit) -> bool {
        let partition = commit.partition.partition;
        let holds = self.log(partition).holder == Some(commit.assignment);
        if *commit.partition != *self.id(partition) || !holds {
            return false;
        }
        let committed = Committed { offset: commit.offset, metadata: commit.metadata.to_string() };
        self.log_mut(partition).committed = Some(committed);
        true
    }

    /// An operator, or another kind of broker, sets the group's position.
    pub(crate) fn set_position(&mut self, partition: i32, offset: i64) {
        let log = self.log_mut(partition);
        log.committed = Some(Committed { offset, metadata: String::new() });
        log.is_checked = false;
    }

    /// An unclean election: everything from `end` up is gone.
    pub(crate) fn cut(&mut self, partition: i32, end: i64) {
        let log = self.log_mut(partition);
        log.records.split_off(&end);
        log.end = end;
        log.is_checked = false;
    }

    /// Retention: everything below `start` is gone.
    pub(crate) fn retain_from(&mut self, partition: i32, start: i64) {
        let log = self.log_mut(partition);
        log.records = log.records.split_off(&start);
        log.start = start;
    }

    /// The topic is deleted and made again.
    pub(crate) fn recreate(&mut self, partition: i32) {
        let log = self.log_mut(partition);
        let committed = log.committed.take();
        *log = Log { topic_id: TopicId([2; 16]), committed, ..Log::default() };
    }

    pub(crate) fn assign(&mut self, partition: i32, assignment: u64) -> Assigned {
        self.log_mut(partition).holder = Some(AssignmentId(assignment));
        let log = self.log(partition);
        Assigned {
            partition: self.id(partition),
            assignment: AssignmentId(assignment),
            committed: log.committed.clone(),
            log_start: log.start,
            log_end: log.end,
        }
    }
}
