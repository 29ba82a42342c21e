//! Commits.

use rdkafka::{
    Offset, TopicPartitionList,
    error::{KafkaError, KafkaResult},
};
use taskbroker_domain::ports::source::GroupCommit;

use super::Member;
use crate::native::{CommittedEntry, set_leader_epoch};

impl Member {
    /// Commits what belongs to present assignments.
    pub(super) fn commit(&mut self, positions: Vec<GroupCommit>) {
        let ours = positions.into_iter().filter(|position| self.is_present(position)).collect();
        let sendable = self.commits.submit(ours);
        self.send(sendable);
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
                self.settle(position.partition.partition, position.offset, false);
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
        if let Some(error) = failure {
            tracing::info!(topic = %self.desk.topic, %error, "commit failed");
            if entries.is_empty() {
                self.commits.fail_all().into_iter().for_each(|event| self.desk.inbox.tell(event));
            }
        }
        for entry in entries {
            let CommittedEntry { partition, offset, error, .. } = entry;
            if let Some(code) = error {
                tracing::info!(topic = %self.desk.topic, partition, %code, "commit of a partition failed");
            }
            self.settle(*partition, *offset, failure.is_none() && error.is_none());
        }
    }

    /// Tells how a commit ended, and sends the one that waited for it.
    fn settle(&mut self, partition: i32, offset: i64, committed: bool) {
        let Some((told, next)) = self.commits.answered(partition, offset, committed) else {
            return;
        };
        self.desk.inbox.tell(told);
        // With nothing but failures this ends: each sends the one that waited, and none waits behind that.
        self.send(next.into_iter().collect());
    }
}
