//! What a partition's log holds.

use std::{ops::Range, sync::Arc};

use anyhow::Result;
use rdkafka::{Offset, TopicPartitionList, consumer::Consumer};

use super::{ANSWER_WITHIN, Kafka, blocking, topics::options};

impl Kafka {
    /// The offset of the first record and the offset after the last one (control markers count).
    pub async fn log_range(&self, topic: &str, partition: i32) -> Result<Range<i64>> {
        let (clients, topic) = (Arc::clone(&self.clients), topic.to_owned());
        blocking(move || {
            let (start, end) = clients.asker.fetch_watermarks(&topic, partition, ANSWER_WITHIN)?;
            Ok(start..end)
        })
        .await
    }

    /// Removes the records below an offset, as retention would.
    pub async fn delete_records(&self, topic: &str, partition: i32, below: i64) -> Result<()> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(below))?;
        let deleted = self.clients.admin.delete_records(&list, &options()).await?;
        deleted.elements().iter().try_for_each(|entry| entry.error())?;
        Ok(())
    }
}
