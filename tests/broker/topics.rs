//! Several topics on several clusters, raw topics, and topics that do not exist yet.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result};
use prost::Message as _;
use serde_json::json;
use taskbroker_proto::pb::{TaskActivation, TaskActivationStatus};
use taskbroker_support::{
    broker::{BrokerProcess, Setup, Task, Worker},
    kafka::{Kafka, Message},
};

use super::{BINARY, crew::assert_empty, setup, tasks};

const WITHIN: Duration = Duration::from_secs(60);

/// Takes so many tasks, without a report.
async fn take(worker: &mut Worker, count: usize) -> Result<Vec<TaskActivation>> {
    let mut taken = Vec::new();
    while taken.len() < count {
        taken.push(worker.fetch_within(WITHIN).await?.with_context(|| format!("{} of {count} came", taken.len()))?);
    }
    Ok(taken)
}

/// Waits until a topic holds so many messages.
async fn await_messages(kafka: &Kafka, topic: &str, count: usize) -> Result<Vec<TaskActivation>> {
    let deadline = tokio::time::Instant::now() + WITHIN;
    loop {
        let found = kafka.consume_all(topic).await?;
        if found.len() >= count {
            return found.iter().map(|one| Ok(TaskActivation::decode(one.payload.as_slice())?)).collect();
        }
        assert!(tokio::time::Instant::now() < deadline, "{} of {count} messages in {topic}", found.len());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn topics_are_read_in_groups_of_their_own_and_each_message_goes_to_the_cluster_of_its_topic() -> Result<()> {
    let (Some(kafka), Some(other)) = (Kafka::shared(), Kafka::own()) else { return Ok(()) };
    let setup = setup(&kafka, 2).await?;
    let (second, retries, dead) = (Kafka::unique("second"), Kafka::unique("retries"), Kafka::unique("dead"));
    kafka.create_topic(&second, 1, &[]).await?;
    other.create_topic(&retries, 1, &[]).await?;
    other.create_topic(&dead, 1, &[]).await?;
    let group = format!("{}-second", setup.group);
    let setup = setup
        .with("kafka_clusters.other", json!({ "address": other.address() }))
        .with(&format!("kafka_topics.{second}"), json!({ "cluster": "test", "consumer_group": group }))
        .with(&format!("kafka_topics.{retries}"), json!({ "cluster": "other", "consumer_group": "retries" }))
        .with(&format!("kafka_topics.{dead}"), json!({ "cluster": "other", "produce_only": true }))
        .with("kafka_retry_topic", retries.clone())
        .with("kafka_deadletter_topic", dead.clone());
    let mut broker = BrokerProcess::start(&setup).await?;
    let mut worker = broker.worker()?;
    let (first_task, second_task) = (Task::new(), Task::new().dead_letter());
    kafka.produce(&setup.topic, [Message::new(first_task.encode())]).await?;
    kafka.produce(&second, [Message::new(second_task.encode())]).await?;
    for task in take(&mut worker, 2).await? {
        let status = match task.id == first_task.id() {
            true => TaskActivationStatus::Retry,
            false => TaskActivationStatus::Failure,
        };
        worker.report(&task.id, status).await?;
    }
    // The retry went to the other cluster and came back from there.
    let retried = take(&mut worker, 1).await?;
    assert_eq!(retried[0].retry_state.as_ref().map(|state| state.attempts), Some(1));
    worker.complete(&retried[0].id).await?;
    assert_eq!(await_messages(&other, &retries, 1).await?[0].id, retried[0].id);
    assert_eq!(await_messages(&other, &dead, 1).await?[0].id, second_task.id());
    assert_empty(&broker, WITHIN).await?;
    kafka.await_no_lag(&setup.group, &setup.topic, WITHIN).await?;
    kafka.await_no_lag(&group, &second, WITHIN).await?;
    other.await_no_lag("retries", &retries, WITHIN).await?;
    let metrics = broker.metrics().await?;
    for topic in [&setup.topic, &second, &retries] {
        let label = format!("topic=\"{topic}\"");
        assert_eq!(metrics.of_labels("taskbroker_records_total", &[&label, "kind=\"read\""]), 1.0, "{topic}");
    }
    assert_eq!(broker.log().errors(), Vec::<String>::new());
    assert_eq!(broker.stop().await?.status.code(), Some(0));
    Ok(())
}

#[tokio::test]
async fn a_cluster_that_is_away_keeps_no_other_topic_from_being_read() -> Result<()> {
    let (Some(kafka), Some(other)) = (Kafka::shared(), Kafka::own()) else { return Ok(()) };
    let setup = setup(&kafka, 1).await?;
    other.create_topic("elsewhere", 1, &[]).await?;
    let retry_topic = setup.topic.clone();
    let setup = setup
        .with("kafka_clusters.other", json!({ "address": other.address() }))
        .with("kafka_topics.elsewhere", json!({ "cluster": "other", "consumer_group": "elsewhere" }))
        .with("kafka_retry_topic", retry_topic);
    other.kill()?;
    let mut broker = BrokerProcess::start(&setup).await?;
    let mut worker = broker.worker()?;
    let ids = super::produce(&kafka, &setup.topic, tasks(50)).await?;
    for task in take(&mut worker, 50).await? {
        worker.complete(&task.id).await?;
    }
    assert_empty(&broker, WITHIN).await?;
    other.start_again()?;
    super::produce(&other, "elsewhere", tasks(1)).await?;
    let task = take(&mut worker, 1).await?.remove(0);
    assert!(!ids.contains(&task.id));
    worker.complete(&task.id).await?;
    other.await_no_lag("elsewhere", "elsewhere", WITHIN).await?;
    assert_eq!(broker.stop().await?.status.code(), Some(0));
    Ok(())
}

#[tokio::test]
async fn a_topic_that_is_switched_off_is_not_read_and_what_is_here_of_it_is_served() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let off = kafka.new_topic("off", 1).await?;
    let (path, group) = (format!("kafka_topics.{off}"), Kafka::unique("brokers"));
    let setup = setup(&kafka, 1).await?.with("store.linger", "0ms");
    let retry_topic = setup.topic.clone();
    let setup =
        setup.with("kafka_retry_topic", retry_topic).with(&path, json!({ "cluster": "test", "consumer_group": group }));
    let mut broker = BrokerProcess::start(&setup).await?;
    let mut ids = super::produce(&kafka, &off, tasks(3)).await?;
    kafka.await_no_lag(&group, &off, WITHIN).await?;
    assert_eq!(broker.stop().await?.status.code(), Some(0));
    assert_eq!(broker.stored().await?.len(), 3);

    let switched_off = json!({ "cluster": "test", "consumer_group": group, "consumer_disabled": true });
    broker.configure(&setup.clone().with(&path, switched_off))?;
    super::produce(&kafka, &off, tasks(2)).await?;
    broker.start_again().await?;
    broker.await_partitions(1, WITHIN).await?;
    ids.extend(super::produce(&kafka, &setup.topic, tasks(1)).await?);
    let mut worker = broker.worker()?;
    let mut served: Vec<String> = take(&mut worker, 4).await?.into_iter().map(|task| task.id).collect();
    assert_eq!(worker.fetch_within(Duration::from_secs(1)).await?, None, "nothing more is read of it");
    for id in &served {
        worker.complete(id).await?;
    }
    served.sort_unstable();
    ids.sort_unstable();
    assert_eq!(served, ids);
    assert_empty(&broker, WITHIN).await?;
    assert_eq!(kafka.lag(&group, &off).await?, 2);
    assert_eq!(broker.log().errors(), Vec::<String>::new());
    Ok(())
}

fn raw(group: &str) -> serde_json::Value {
    json!({
        "cluster": "test",
        "consumer_group": group,
        "raw": { "namespace": "raw", "application": "tests", "taskname": "raw.take", "processing_deadline_duration": 30 },
    })
}

#[tokio::test]
async fn a_raw_message_is_one_task_however_often_it_is_read() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let setup = setup(&kafka, 1).await?;
    let events = kafka.new_topic("events", 2).await?;
    let (group, retry_topic) = (setup.group.clone(), setup.topic.clone());
    let setup = setup
        .with(&format!("kafka_topics.{events}"), raw(&group))
        .with("kafka_retry_topic", retry_topic)
        .with("worker_map", json!({ "tests": "http://127.0.0.1:1" }));
    let mut broker = BrokerProcess::start(&setup).await?;
    let messages = (0..20).map(|n| Message::new(format!("event {n}")).header("n", n.to_string()).partition(n % 2));
    kafka.produce(&events, messages).await?;
    let mut worker = broker.worker()?;
    let first = take(&mut worker, 20).await?;
    let ids: BTreeSet<String> = first.iter().map(|task| task.id.clone()).collect();
    assert_eq!(ids.len(), 20);
    assert!(first.iter().all(|task| task.headers.contains_key("n") && task.taskname == "raw.take"));
    // Another group, with another store, reads the same log.
    let another = Kafka::unique("another");
    let mut setup = setup.with(&format!("kafka_topics.{events}"), raw(&another));
    setup.group = another;
    let second = BrokerProcess::start(&setup).await?;
    let again = take(&mut second.worker()?, 20).await?;
    assert_eq!(again.iter().map(|task| task.id.clone()).collect::<BTreeSet<_>>(), ids);
    // What is in flight is not taken in again when the log is read again.
    broker.kill().await?;
    broker.start_again().await?;
    for task in &first {
        broker.worker()?.complete(&task.id).await?;
    }
    assert_empty(&broker, WITHIN).await?;
    assert_eq!(broker.log().errors(), Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn a_missing_topic_is_named_and_waited_for_or_created() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let waiting = Setup::without_topics(kafka.address(), BINARY);
    let mut broker = BrokerProcess::start(&waiting).await?;
    broker.log().await_line(0, "the topic does not exist", WITHIN).await?;
    assert_eq!(broker.log().with("the topic does not exist").len(), 1, "it is said once");
    let line = broker.log().with("the topic does not exist").remove(0);
    assert!(line.contains(&waiting.topic) && line.contains(kafka.address()), "{line}");

    let mut creating = waiting
        .clone()
        .with("create_missing_topics", true)
        .with("default_topic_partitions", 3)
        .with("default_topic_replication_factor", 1);
    creating.group = Kafka::unique("creators");
    let creator = BrokerProcess::start(&creating).await?;
    creator.await_partitions(3, WITHIN).await?;
    broker.await_partitions(3, WITHIN).await?;
    assert_eq!(kafka.log_range(&waiting.dead_letters, 2).await?, 0..0);
    assert_eq!(creator.log().with("topic created").len(), 2);
    assert_eq!(creator.log().errors(), Vec::<String>::new());
    assert_eq!(broker.stop().await?.status.code(), Some(0));
    Ok(())
}
