//! A topic of the same name that is another one.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use taskbroker_support::{
    broker::{BrokerProcess, Setup},
    kafka::Kafka,
};

use super::{crew::assert_empty, produce, setup, tasks};

const WITHIN: Duration = Duration::from_secs(20);
const QUIET: Duration = Duration::from_millis(1500);

/// Deletes the topic and creates it again, as long as it was before.
async fn recreate(kafka: &Kafka, setup: &Setup) -> Result<()> {
    kafka.delete_topic(&setup.topic).await?;
    kafka.create_topic(&setup.topic, 1, &[]).await
}

/// A broker that has ten tasks: four are done, one is with a worker, five wait in the store.
async fn with_ten(kafka: &Kafka, setup: &Setup) -> Result<(BrokerProcess, Vec<String>)> {
    let broker = BrokerProcess::start(setup).await?;
    let ids = produce(kafka, &setup.topic, tasks(10)).await?;
    let mut worker = broker.worker()?;
    for id in &ids[..5] {
        assert_eq!(worker.fetch_within(WITHIN).await?.unwrap().id, *id);
    }
    for id in &ids[..4] {
        worker.complete(id).await?;
    }
    Ok((broker, ids))
}

#[tokio::test]
async fn a_topic_created_anew_while_the_broker_is_down_is_read_from_its_start() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let setup = setup(&kafka, 1).await?;
    let (mut broker, old) = with_ten(&kafka, &setup).await?;
    broker.stop().await?;
    recreate(&kafka, &setup).await?;
    // Fewer, as many, and more than the old log had: none may be skipped.
    let new = produce(&kafka, &setup.topic, tasks(12)).await?;
    broker.start_again().await?;
    let mut worker = broker.worker()?;
    worker.complete(&old[4]).await?;
    let mut came = Vec::new();
    while came.len() < 17 {
        let task = worker.fetch_within(WITHIN).await?;
        let Some(task) = task else { break };
        worker.complete(&task.id).await?;
        came.push(task.id);
    }
    assert_eq!(came, [&old[5..], &new[..]].concat(), "the rest of the old log from the store, and all of the new one");
    kafka.await_no_lag(&setup.group, &setup.topic, WITHIN).await?;
    assert_empty(&broker, WITHIN).await
}

#[tokio::test]
async fn a_topic_created_anew_under_a_running_broker_is_read_from_its_start() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let setup = setup(&kafka, 1).await?.with("store.linger", "0ms");
    let (broker, old) = with_ten(&kafka, &setup).await?;
    let deadline = tokio::time::Instant::now() + WITHIN;
    while broker.stored().await?.len() < 6 {
        assert!(tokio::time::Instant::now() < deadline, "the tasks do not become rows");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    recreate(&kafka, &setup).await?;
    let new = produce(&kafka, &setup.topic, tasks(12)).await?;
    let mut worker = broker.worker()?;
    worker.complete(&old[4]).await?;
    // What the new log has beyond the end of the old one may be read before anybody notices that it is another log: it is
    // repeated, which is better than lost.
    let mut came = BTreeMap::<String, usize>::new();
    while came.len() < 17 {
        let Some(task) = worker.fetch_within(WITHIN).await? else { break };
        worker.complete(&task.id).await?;
        *came.entry(task.id).or_default() += 1;
    }
    let beyond = worker.complete_all(QUIET).await?;
    assert!(beyond.iter().all(|id| new[10..].contains(id)), "{beyond:?}");
    assert!(
        old[5..].iter().chain(&new[..10]).all(|id| came.get(id) == Some(&1)),
        "{came:?}\n{}",
        broker.log().tail(60)
    );
    assert!(new[10..].iter().all(|id| came.contains_key(id)), "{came:?}");
    kafka.await_no_lag(&setup.group, &setup.topic, WITHIN).await?;
    assert_empty(&broker, WITHIN).await
}
