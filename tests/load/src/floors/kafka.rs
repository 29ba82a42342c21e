//! Kafka alone: from a producer to a plain consumer.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use prost::Message as _;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
};

use crate::{activation::Task, latency::Latency, produce, tally::Tally};

const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Produces at a rate and consumes. Returns how long each took to come, without the first `skip` of them.
pub(crate) fn run(plan: produce::Plan, skip: u64) -> Result<Latency> {
    let consumer = consumer(&plan.kafka, &plan.topic)?;
    let count = plan.count;
    let producing = std::thread::spawn(move || produce::run(plan));
    let (mut ages, mut tally) = (Latency::default(), Tally::default());
    let mut last = Instant::now();
    while tally.taken() < count {
        ensure!(last.elapsed() < ANSWER_WITHIN, "{} of {count} messages came", tally.taken());
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let task = Task::decode(message?.payload().unwrap_or_default())?;
        tally.note(&task);
        if let (true, Some(age)) = (tally.taken() > skip, task.age()) {
            ages.record(age);
        }
        last = Instant::now();
    }
    if producing.join().is_err() {
        bail!("the producer panicked");
    }
    tally.exactly(count)?;
    Ok(ages)
}

/// With librdkafka's defaults, but for what has no bearing on latency.
fn consumer(kafka: &str, topic: &str) -> Result<BaseConsumer> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .set("group.id", "taskbroker-load")
        .set("enable.auto.commit", "false")
        .set("enable.metrics.push", "false")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER_WITHIN)?;
    let mut partitions = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
        partitions.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
    }
    consumer.assign(&partitions)?;
    // The first fetch finds the leaders.
    consumer.poll(Duration::from_millis(500));
    Ok(consumer)
}
