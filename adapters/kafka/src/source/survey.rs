//! What must be known of a partition before it may be read: the topic's id, the committed position, the range of its log.
//! Asked for on a thread of its own, since the questions block, until they are answered or nobody wants to know any more.

use std::{
    sync::{Arc, Weak},
    thread,
    time::Duration,
};

use rdkafka::{TopicPartitionList, consumer::Consumer, error::KafkaError};
use taskbroker_domain::{
    activation::TopicId,
    ports::source::{AssignmentId, Committed},
};

use super::{happenings::GroupConsumer, inbox::Guard, member::reap};
use crate::native::{self, CommittedEntry, Failure, TopicSight};

/// How long each question may take, and how long to wait after one that failed.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// A survey that fails is mentioned now and then.
const MENTION_EVERY: u32 = 10;

/// Partitions of one assignment to be surveyed.
pub(super) struct Survey {
    pub(super) consumer: Arc<GroupConsumer>,
    pub(super) topic: Arc<str>,
    pub(super) partitions: Vec<i32>,
    pub(super) assignment: AssignmentId,
    /// Why.
    pub(super) cause: Cause,
    /// Alive as long as somebody wants to know.
    pub(super) wanted: Weak<()>,
}

/// Why partitions are surveyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// They were assigned.
    Assignment,
    /// A position is not in the log.
    OutOfRange,
}

/// What was found.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) assignment: AssignmentId,
    pub(super) cause: Cause,
    pub(super) topic_id: TopicId,
    pub(super) partitions: Vec<Finding>,
}

/// What was found of one partition.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) partition: i32,
    pub(super) committed: Option<Committed>,
    pub(super) log_start: i64,
    pub(super) log_end: i64,
}

#[derive(Debug, thiserror::Error)]
enum SurveyError {
    #[error("the topic does not exist")]
    NoTopic,
    #[error("the topic was deleted and created again meanwhile")]
    Replaced,
    #[error(transparent)]
    Failure(#[from] Failure),
    #[error("the committed positions cannot be read: {0}")]
    Committed(#[from] KafkaError),
}

/// Surveys in the background and hands each finding to `report`; no more of them once they are not wanted any more.
pub(super) fn start(survey: Survey, guard: Guard, report: impl Fn(Findings) + Send + 'static) -> std::io::Result<()> {
    thread::Builder::new().name("kafka-survey".to_owned()).spawn(move || {
        let _guard = guard;
        survey.until_answered(report);
        reap(survey.consumer);
    })?;
    Ok(())
}

impl Survey {
    /// Asks for all at once; where that fails, for each alone as well: one partition without a leader holds up no other.
    fn until_answered(&self, report: impl Fn(Findings)) {
        let mut open = self.partitions.clone();
        for attempt in 1_u32.. {
            let questions =
                if attempt % 2 == 1 { vec![open.clone()] } else { open.iter().map(|one| vec![*one]).collect() };
            for question in questions {
                if !self.is_wanted() {
                    return;
                }
                match self.once(&question) {
                    Ok(findings) => {
                        open.retain(|partition| !question.contains(partition));
                        report(findings);
                    }
                    Err(error) => self.mention(attempt, &question, &error),
                }
            }
            if open.is_empty() {
                return;
            }
            thread::sleep(TRY_AGAIN_AFTER);
        }
    }

    fn is_wanted(&self) -> bool {
        self.wanted.strong_count() > 0 && !self.consumer.context().closing()
    }

    fn mention(&self, attempt: u32, partitions: &[i32], error: &SurveyError) {
        if attempt % MENTION_EVERY == 1 {
            tracing::warn!(topic = %self.topic, ?partitions, %error, "positions not learned yet, asking again");
        }
    }

    fn once(&self, partitions: &[i32]) -> Result<Findings, SurveyError> {
        let topic_id = self.topic_id()?;
        let committed = self.committed(partitions)?;
        let ranges = native::log_ranges(self.consumer.client(), &self.topic, partitions, ANSWER_WITHIN)?;
        if self.topic_id()? != topic_id {
            return Err(SurveyError::Replaced);
        }
        let partitions = committed.into_iter().filter_map(|(partition, committed)| {
            let range = ranges.get(&partition)?;
            Some(Finding { partition, committed, log_start: range.start, log_end: range.end })
        });
        Ok(Findings { assignment: self.assignment, cause: self.cause, topic_id, partitions: partitions.collect() })
    }

    fn topic_id(&self) -> Result<TopicId, SurveyError> {
        match native::sight_topic(self.consumer.client(), &self.topic, ANSWER_WITHIN)? {
            TopicSight::Present(id) => Ok(id),
            TopicSight::Missing => Err(SurveyError::NoTopic),
        }
    }

    fn committed(&self, partitions: &[i32]) -> Result<Vec<(i32, Option<Committed>)>, SurveyError> {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition(&self.topic, *partition);
        }
        let list = self.consumer.committed_offsets(list, ANSWER_WITHIN)?;
        native::committed_entries(&list).into_iter().map(committed).collect()
    }
}

fn committed(entry: CommittedEntry) -> Result<(i32, Option<Committed>), SurveyError> {
    let CommittedEntry { partition, offset, metadata, error } = entry;
    match error {
        Some(code) => Err(KafkaError::OffsetFetch(code).into()),
        None => Ok((partition, (offset >= 0).then_some(Committed { offset, metadata }))),
    }
}
