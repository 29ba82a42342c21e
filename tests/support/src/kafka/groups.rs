//! What a consumer group has committed.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
};

use super::{ANSWER_WITHIN, Kafka, blocking};

/// A position committed in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPosition {
    /// The offset of the next record.
    pub offset: i64,
    /// What was written beside it.
    pub metadata: String,
}

impl Kafka {
    /// What a group has committed of a topic, by partition.
    pub async fn committed(&self, group: &str, topic: &str) -> Result<BTreeMap<i32, GroupPosition>> {
        let (member, topic) = (self.passive_member(group)?, topic.to_owned());
        blocking(move || {
            let list = member.committed_offsets(partitions(&member, &topic)?, ANSWER_WITHIN)?;
            let position = |entry: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| match entry.offset() {
                Offset::Offset(offset) => {
                    Some((entry.partition(), GroupPosition { offset, metadata: entry.metadata().to_owned() }))
                }
                _ => None,
            };
            Ok(list.elements().iter().filter_map(position).collect())
        })
        .await
    }

    /// Sets a group's position, as an operator would. Kafka allows it only while the group has no members.
    pub async fn set_committed(
        &self,
        group: &str,
        topic: &str,
        partition: i32,
        offset: i64,
        metadata: &str,
    ) -> Result<()> {
        let member = self.passive_member(group)?;
        let mut list = TopicPartitionList::new();
        let mut entry = list.add_partition(topic, partition);
        entry.set_offset(Offset::Offset(offset))?;
        entry.set_metadata(metadata);
        let deadline = Instant::now() + ANSWER_WITHIN;
        let list = Arc::new(list);
        let member = Arc::new(member);
        // A group whose members have just left may still count as alive.
        loop {
            let (attempt, positions) = (Arc::clone(&member), Arc::clone(&list));
            let committed = blocking(move || Ok(attempt.commit(&positions, CommitMode::Sync)?)).await;
            match committed {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    return Err(error).with_context(|| format!("the position of group {group} cannot be set"));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// How many offsets of a topic a group has not committed yet: control markers count, what retention removed does not.
    pub async fn lag(&self, group: &str, topic: &str) -> Result<i64> {
        let (member, topic) = (self.passive_member(group)?, topic.to_owned());
        blocking(move || {
            let list = member.committed_offsets(partitions(&member, &topic)?, ANSWER_WITHIN)?;
            let mut lag = 0;
            for entry in list.elements() {
                let (start, end) = member.fetch_watermarks(&topic, entry.partition(), ANSWER_WITHIN)?;
                let position = entry.offset().to_raw().filter(|offset| *offset >= 0).unwrap_or(start);
                lag += end - position.max(start);
            }
            Ok(lag)
        })
        .await
    }

    /// Waits until a group has committed everything that is in a topic.
    pub async fn await_no_lag(&self, group: &str, topic: &str, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            let lag = self.lag(group, topic).await?;
            if lag == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("group {group} is still {lag} behind in {topic} after {within:?}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until a group is at rest with so many members.
    pub async fn await_members(&self, group: &str, count: usize) -> Result<()> {
        let deadline = Instant::now() + ANSWER_WITHIN;
        loop {
            let (clients, name) = (Arc::clone(&self.clients), group.to_owned());
            let found = blocking(move || {
                let list = clients.asker.fetch_group_list(Some(&name), ANSWER_WITHIN)?;
                Ok(list.groups().first().map(|found| (found.state().to_owned(), found.members().len())))
            });
            match found.await? {
                Some((state, members)) if state == "Stable" && members == count => return Ok(()),
                found if Instant::now() > deadline => bail!("group {group} has not {count} members: {found:?}"),
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// A client that names the group but does not join it.
    fn passive_member(&self, group: &str) -> Result<BaseConsumer> {
        Ok(self
            .config()
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_uncommitted")
            .create()?)
    }
}

fn partitions(member: &BaseConsumer, topic: &str) -> Result<TopicPartitionList> {
    let metadata = member.fetch_metadata(Some(topic), ANSWER_WITHIN)?;
    let count = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
    let mut list = TopicPartitionList::new();
    for partition in 0..i32::try_from(count)? {
        list.add_partition(topic, partition);
    }
    Ok(list)
}
