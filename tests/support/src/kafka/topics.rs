//! Topics.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::{
    admin::{AdminOptions, NewPartitions, NewTopic, TopicReplication},
    consumer::Consumer,
    types::RDKafkaErrorCode,
};

use super::{ANSWER_WITHIN, Kafka, blocking};

impl Kafka {
    /// Creates a topic with a name of its own. Returns the name.
    pub async fn new_topic(&self, prefix: &str, partitions: i32) -> Result<String> {
        let name = Self::unique(prefix);
        self.create_topic(&name, partitions, &[]).await?;
        Ok(name)
    }

    /// Creates a topic, with settings such as `retention.ms`, and waits until it can be used.
    pub async fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<()> {
        let new = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let new = settings.iter().fold(new, |new, (key, value)| new.set(key, value));
        let deadline = Instant::now() + ANSWER_WITHIN;
        loop {
            match self.clients.admin.create_topics([&new], &options()).await?.pop() {
                // A Kafka that has just started answers before it gives out partitions.
                Some(Err((_, RDKafkaErrorCode::InvalidReplicationFactor))) if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                answer => {
                    outcome(answer.into_iter().collect()).with_context(|| format!("topic {name} cannot be created"))?;
                    return self.await_partitions(name, usize::try_from(partitions)?).await;
                }
            }
        }
    }

    /// Raises the number of a topic's partitions.
    pub async fn add_partitions(&self, topic: &str, total: usize) -> Result<()> {
        let new = NewPartitions::new(topic, total);
        outcome(self.clients.admin.create_partitions([&new], &options()).await?)
            .with_context(|| format!("topic {topic} cannot grow"))?;
        self.await_partitions(topic, total).await
    }

    /// Deletes a topic and waits until it is gone.
    pub async fn delete_topic(&self, name: &str) -> Result<()> {
        outcome(self.clients.admin.delete_topics(&[name], &options()).await?)
            .with_context(|| format!("topic {name} cannot be deleted"))?;
        self.await_partitions(name, 0).await
    }

    async fn await_partitions(&self, topic: &str, wanted: usize) -> Result<()> {
        let deadline = Instant::now() + ANSWER_WITHIN;
        while self.led_partitions(topic).await? != wanted {
            if Instant::now() > deadline {
                bail!("topic {topic} has not {wanted} partitions with a leader after {ANSWER_WITHIN:?}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// How many partitions of a topic have a leader; 0 where there is no such topic.
    async fn led_partitions(&self, topic: &str) -> Result<usize> {
        let (clients, topic) = (std::sync::Arc::clone(&self.clients), topic.to_owned());
        blocking(move || {
            let metadata = clients.asker.fetch_metadata(Some(&topic), ANSWER_WITHIN)?;
            let partitions = metadata.topics().first().map_or(&[][..], |topic| topic.partitions());
            Ok(partitions.iter().filter(|partition| partition.leader() >= 0).count())
        })
        .await
    }
}

pub(super) fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(ANSWER_WITHIN)).operation_timeout(Some(ANSWER_WITHIN))
}

fn outcome(results: Vec<Result<String, (String, RDKafkaErrorCode)>>) -> Result<()> {
    for result in results {
        result.map_err(|(_, code)| anyhow::anyhow!("{code}"))?;
    }
    Ok(())
}
