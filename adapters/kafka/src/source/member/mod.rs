//! One consumer in the group, from joining until it leaves or its assignment is lost.

mod committing;
mod leaving;
mod reading;
mod revoking;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

pub(super) use leaving::reap;
use rdkafka::{
    TopicPartitionList,
    consumer::Consumer,
    error::{KafkaError, KafkaResult},
    types::RDKafkaErrorCode,
};
use taskbroker_domain::{
    activation::{PartitionId, TopicId},
    ports::source::{Assigned, AssignmentId, SourceEvent, Start},
};

use self::revoking::Revocation;
use super::{
    commits::Commits,
    desk::{Command, Desk},
    happenings::{GroupConsumer, Happening, Happenings, assign_paused},
    partition::{Partition, Phase},
    survey::{self, Cause, Finding, Findings, Survey},
    watch::Watch,
};
use crate::{
    deadline::now,
    native::{ConsumerQueue, Failure, PartitionQueue},
};

/// A member of the group.
pub(super) struct Member {
    desk: Arc<Desk>,
    // The queues are dropped before the consumer that they belong to.
    partitions: BTreeMap<i32, Partition>,
    queue: ConsumerQueue,
    consumer: Arc<GroupConsumer>,
    commits: Commits,
    /// When refused commits that are insisted on may be sent again.
    commit_again_at: Instant,
    happenings: VecDeque<Happening>,
    /// The rebalance that librdkafka waits for an answer to.
    unanswered: Option<Happening>,
    revocation: Option<Revocation>,
    /// Starts that came during a revocation.
    postponed: Vec<Start>,
    /// Which partition is read first in the next turn.
    turn: usize,
}

/// Why a member cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ejected {
    /// The group gave its partitions away, or may have.
    #[error("the assignment was lost")]
    Lost,
    /// The consumer is of no use any more.
    #[error("the consumer failed: {0}")]
    Fatal(String),
}

/// How many events are dealt with before reading goes on.
const EVENTS_PER_TURN: usize = 1000;

impl Member {
    /// Makes a consumer and subscribes. Joins in the background.
    pub(super) fn join(desk: &Arc<Desk>) -> KafkaResult<Self> {
        let config = desk.options.member_config();
        let mut consumer: GroupConsumer = config.create_with_context(Happenings::default())?;
        let waker = desk.waker.clone();
        consumer.set_nonempty_callback(move || waker.wake());
        consumer.subscribe(&[&desk.topic])?;
        let no_queue = || KafkaError::ClientCreation("the consumer has no queue".to_owned());
        let queue = ConsumerQueue::of(&consumer).ok_or_else(no_queue)?;
        Ok(Self {
            desk: Arc::clone(desk),
            partitions: BTreeMap::new(),
            queue,
            consumer: Arc::new(consumer),
            commits: Commits::default(),
            commit_again_at: now(),
            happenings: VecDeque::new(),
            unanswered: None,
            revocation: None,
            postponed: Vec::new(),
            turn: 0,
        })
    }

    /// Does what can be done without waiting. Returns whether there is more.
    pub(super) fn turn(&mut self, watch: &Watch) -> Result<bool, Ejected> {
        self.poll()?;
        while let Some(happening) = self.happenings.pop_front() {
            self.deal_with(happening, watch)?;
        }
        self.serve_revocation()?;
        Ok(self.read())
    }

    pub(super) fn obey(&mut self, command: Command) {
        match command {
            Command::Start(start) => self.start(start),
            Command::Commit(positions) => self.commit(positions),
            Command::Release { revocation, positions } => self.release(revocation, positions),
            Command::Surveyed(findings) => self.surveyed(findings),
            Command::Sighted(_) | Command::Close { .. } | Command::Abandon => {}
        }
    }

    /// Lets librdkafka tell what happened. Polls at least once: that is how it knows that we live.
    fn poll(&mut self) -> Result<(), Ejected> {
        for _ in 0..EVENTS_PER_TURN {
            match self.consumer.poll(Duration::ZERO) {
                // Records come from the partitions' own queues. One that comes here would be lost.
                Some(Ok(_)) => return Err(Ejected::Fatal("a record came out of turn".to_owned())),
                Some(Err(KafkaError::MessageConsumptionFatal(code))) => return Err(self.fatal(code)),
                Some(Err(_)) | None => {}
            }
            if self.queue.waiting() == 0 {
                break;
            }
        }
        self.happenings.extend(self.consumer.context().take());
        Ok(())
    }

    fn fatal(&self, code: RDKafkaErrorCode) -> Ejected {
        let reason = self.consumer.client().fatal_error().map_or_else(|| code.to_string(), |(_, reason)| reason);
        Ejected::Fatal(reason)
    }

    fn deal_with(&mut self, happening: Happening, watch: &Watch) -> Result<(), Ejected> {
        match happening {
            Happening::Assigned(list) => {
                self.unanswered = Some(Happening::Assigned(list.clone()));
                self.assigned(list)
            }
            Happening::Revoked(list) => {
                self.unanswered = Some(Happening::Revoked(list.clone()));
                self.revoked(&list)
            }
            Happening::Answered { failure, entries } => {
                self.answered(failure.as_ref(), &entries);
                Ok(())
            }
            Happening::Trouble(code, reason) => {
                self.trouble(code, reason, watch);
                Ok(())
            }
        }
    }

    fn trouble(&self, code: RDKafkaErrorCode, reason: String, watch: &Watch) {
        use RDKafkaErrorCode as Code;
        let topic = &self.desk.topic;
        match code {
            // Whether Kafka is away, or the topic missing, the watch finds out and says.
            Code::AllBrokersDown | Code::BrokerTransportFailure | Code::Resolve | Code::OperationTimedOut => {
                tracing::debug!(%topic, ?code, reason, "trouble with the connection");
                watch.nudge();
            }
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownTopicId => watch.nudge(),
            Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed | Code::ClusterAuthorizationFailed => {
                self.desk.refused(&Failure::new(code, reason));
            }
            _ => {
                tracing::warn!(%topic, ?code, reason, "trouble in the consumer group");
                self.desk.update(|status| status.last_trouble = Some(format!("{reason} ({code:?})")));
            }
        }
    }

    /// Takes new partitions: paused, so that nothing is read before its start is named, and at offset 0, so that librdkafka
    /// looks nothing up by itself.
    fn assigned(&mut self, list: TopicPartitionList) -> Result<(), Ejected> {
        let assignment = self.desk.next_assignment();
        let numbers: Vec<i32> = list.elements().iter().map(|entry| entry.partition()).collect();
        for number in &numbers {
            let partition = self.new_partition(*number, assignment)?;
            self.partitions.insert(*number, partition);
        }
        assign_paused(&self.consumer, list).map_err(failed)?;
        self.unanswered = None;
        tracing::info!(topic = %self.desk.topic, partitions = ?numbers, "partitions assigned");
        self.report_assignment();
        self.survey(numbers, assignment, Cause::Assignment)
    }

    fn new_partition(&self, number: i32, assignment: AssignmentId) -> Result<Partition, Ejected> {
        let queue = PartitionQueue::split(&self.consumer, &self.desk.topic, number, self.desk.waker.clone())
            .ok_or_else(|| Ejected::Fatal(format!("partition {number} has no queue")))?;
        let wanted = Arc::new(());
        Ok(Partition { assignment, phase: Phase::Surveyed, queue, id: None, was_started: false, wanted })
    }

    /// Asks in the background for what must be known of these partitions.
    fn survey(&mut self, numbers: Vec<i32>, assignment: AssignmentId, cause: Cause) -> Result<(), Ejected> {
        if numbers.is_empty() {
            return Ok(());
        }
        let wanted = Arc::new(());
        for number in &numbers {
            if let Some(partition) = self.partitions.get_mut(number) {
                partition.wanted = Arc::clone(&wanted);
            }
        }
        let survey = Survey {
            consumer: Arc::clone(&self.consumer),
            topic: Arc::clone(&self.desk.topic),
            partitions: numbers,
            assignment,
            cause,
            wanted: Arc::downgrade(&wanted),
        };
        let desk = Arc::downgrade(&self.desk);
        let report = move |findings| {
            if let Some(desk) = desk.upgrade() {
                desk.post(Command::Surveyed(findings));
            }
        };
        survey::start(survey, report).map_err(|error| Ejected::Fatal(format!("no thread for a survey: {error}")))
    }

    fn surveyed(&mut self, findings: Findings) {
        let Findings { assignment, cause, topic_id, partitions } = findings;
        let found: Vec<Assigned> =
            partitions.into_iter().filter_map(|finding| self.found(finding, assignment, topic_id)).collect();
        match cause {
            Cause::Assignment if found.is_empty() => {}
            Cause::Assignment => {
                self.desk.admitted();
                self.desk.inbox.tell(SourceEvent::Assigned { partitions: found });
            }
            Cause::OutOfRange => found.into_iter().for_each(|assigned| self.tell_out_of_range(assigned)),
        }
    }

    fn found(&mut self, finding: Finding, assignment: AssignmentId, topic_id: TopicId) -> Option<Assigned> {
        let Finding { partition: number, committed, log_start, log_end } = finding;
        let partition = self.partitions.get_mut(&number)?;
        if partition.assignment != assignment || partition.phase != Phase::Surveyed {
            return None;
        }
        partition.phase = Phase::Waiting;
        let id = PartitionId {
            topic: Arc::clone(&self.desk.topic),
            topic_id,
            group: Arc::clone(&self.desk.group),
            partition: number,
        };
        Some(Assigned { partition: Arc::new(id), assignment, committed, log_start, log_end }).inspect(|assigned| {
            // Out of range in a topic that was created anew: the old log is told as lost, see `tell_out_of_range`.
            if partition.id.is_none() {
                partition.id = Some(Arc::clone(&assigned.partition));
            }
        })
    }

    /// A position is not in the log. If that is another log by now, the old one is lost and the new one assigned.
    fn tell_out_of_range(&mut self, mut assigned: Assigned) {
        let number = assigned.partition.partition;
        let Some(partition) = self.partitions.get_mut(&number) else {
            return;
        };
        match partition.id.replace(Arc::clone(&assigned.partition)) {
            Some(old) if old != assigned.partition => {
                let assignment = self.desk.next_assignment();
                partition.assignment = assignment;
                assigned.assignment = assignment;
                self.commits.forget(number);
                self.desk.inbox.drop_records(|gone| gone == number);
                self.desk.inbox.tell(SourceEvent::Lost { partitions: vec![old] });
                self.desk.inbox.tell(SourceEvent::Assigned { partitions: vec![assigned] });
            }
            _ => self.desk.inbox.push(SourceEvent::OutOfRange(assigned)),
        }
    }

    /// The topic has this id now. Partitions that were told under another one belong to a log that is gone: they are lost
    /// and assigned anew.
    pub(super) fn topic_is(&mut self, topic_id: TopicId) {
        if self.revocation.is_some() || topic_id == TopicId::default() {
            return;
        }
        let is_replaced = |partition: &Partition| partition.id.as_ref().is_some_and(|id| id.topic_id != topic_id);
        let numbers: Vec<i32> =
            self.partitions.iter().filter(|(_, partition)| is_replaced(partition)).map(|(number, _)| *number).collect();
        if numbers.is_empty() {
            return;
        }
        tracing::warn!(topic = %self.desk.topic, %topic_id, "the topic was deleted and created again");
        let assignment = self.desk.next_assignment();
        let lost = numbers.iter().filter_map(|number| self.give_up_log(*number, assignment)).collect();
        self.desk.inbox.drop_records(|gone| numbers.contains(&gone));
        self.desk.inbox.tell(SourceEvent::Lost { partitions: lost });
        let mut list = TopicPartitionList::with_capacity(numbers.len());
        for number in &numbers {
            list.add_partition(&self.desk.topic, *number);
        }
        let paused = self.consumer.pause(&list).map_err(failed);
        if let Err(error) = paused.and_then(|()| self.survey(numbers, assignment, Cause::Assignment)) {
            tracing::error!(topic = %self.desk.topic, %error, "the new log cannot be surveyed");
        }
    }

    fn give_up_log(&mut self, number: i32, assignment: AssignmentId) -> Option<Arc<PartitionId>> {
        self.commits.forget(number);
        let partition = self.partitions.get_mut(&number)?;
        partition.assignment = assignment;
        partition.phase = Phase::Surveyed;
        partition.id.take()
    }

    fn report_assignment(&self) {
        let assigned = self.partitions.keys().copied().collect();
        self.desk.update(|status| status.assigned = assigned);
    }
}

fn failed(error: KafkaError) -> Ejected {
    Ejected::Fatal(error.to_string())
}
