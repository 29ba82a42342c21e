//! Commits.

use std::time::Duration;

use rdkafka::{
    Offset, TopicPartitionList,
    error::{KafkaError, KafkaResult},
};
use taskbroker_domain::ports::source::GroupCommit;

use super::Member;
use crate::{
    deadline::now,
    native::{CommittedEntry, set_leader_epoch},
    source::commits::Verdict,
};

/// How soon to send a refused commit again that is insisted on. A rebalance takes tenths of a second at least.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

impl Member {
    /// Commits what belongs to present assignments.
    pub(super) fn commit(&mut self, positions: Vec<GroupCommit>) {
        let ours = self.present(positions);
        let sendable = self.commits.submit(ours);
        self.send(sendable);
    }

    /// Commits what belongs to present assignments, before they end: what is refused for the moment is sent again, whenever
    /// [`Member::insist`] is called.
    pub(super) fn commit_last(&mut self, positions: Vec<GroupCommit>) {
        let ours = self.present(positions);
        let sendable = self.commits.submit_last(ours);
        self.send(sendable);
    }

    /// Sends refused commits again that are insisted on, if it is time for that.
    pub(super) fn insist(&mut self) {
        if self.commits.is_insistent() && now() >= self.commit_again_at {
            let sendable = self.commits.submit_again();
            tracing::debug!(topic = %self.desk.topic, partitions = sendable.len(), "last commits are sent again");
            self.send(sendable);
        }
    }

    fn present(&self, positions: Vec<GroupCommit>) -> Vec<GroupCommit> {
        positions.into_iter().filter(|position| self.is_present(position)).collect()
    }

    fn is_present(&self, position: &GroupCommit) -> bool {
        let partition = self.partitions.get(&position.partition.partition);
        partition.is_some_and(|partition| {
            partition.assignment == position.assignment && partition.id.as_deref() == Some(&*position.partition)
        })
    }

    fn send(&mut self, positions: Vec<GroupCommit>) {
        if positions.is_empty() {
            return;
        }
        let sent = self
            .list(&positions)
            .and_then(|list| self.queue.commit(&self.consumer, &list).map_err(KafkaError::ConsumerCommit));
        if let Err(error) = sent {
            tracing::info!(topic = %self.desk.topic, %error, "commit not sent");
            for position in &positions {
                self.settle(position.partition.partition, position.offset, verdict(&error));
            }
        }
    }

    fn list(&self, positions: &[GroupCommit]) -> KafkaResult<TopicPartitionList> {
        let topic = &self.desk.topic;
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for position in positions {
            let number = position.partition.partition;
            let mut entry = list.add_partition(topic, number);
            entry.set_offset(Offset::Offset(position.offset))?;
            entry.set_metadata(&*position.metadata);
            if let Some(epoch) = position.leader_epoch {
                set_leader_epoch(&mut list, topic, number, epoch);
            }
        }
        Ok(list)
    }

    pub(super) fn answered(&mut self, failure: Option<&KafkaError>, entries: &[CommittedEntry]) {
        let of_all = failure.map_or(Verdict::Taken, verdict);
        if let Some(error) = failure {
            tracing::info!(topic = %self.desk.topic, %error, "commit failed");
            if entries.is_empty() {
                self.commit_again_at = now() + AGAIN_AFTER;
                self.commits.all_answered(of_all).into_iter().for_each(|event| self.desk.inbox.tell(event));
            }
        }
        for entry in entries {
            let CommittedEntry { partition, offset, error, .. } = entry;
            if let Some(code) = error {
                tracing::info!(topic = %self.desk.topic, partition, %code, "commit of a partition failed");
            }
            self.settle(*partition, *offset, error.map_or(of_all, Verdict::from));
        }
    }

    /// Tells how a commit ended, and sends the one that waited for it.
    fn settle(&mut self, partition: i32, offset: i64, verdict: Verdict) {
        if verdict != Verdict::Taken {
            self.commit_again_at = now() + AGAIN_AFTER;
        }
        let (told, next) = self.commits.answered(partition, offset, verdict);
        told.into_iter().for_each(|event| self.desk.inbox.tell(event));
        // With nothing but failures this ends: each sends the one that waited, and none waits behind that.
        self.send(next.into_iter().collect());
    }
}

fn verdict(error: &KafkaError) -> Verdict {
    error.rdkafka_error_code().map_or(Verdict::Refused, Verdict::from)
}
