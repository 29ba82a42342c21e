//! A broker's container is killed under load, and started again on its volume.

use std::{collections::BTreeSet, time::Duration};

use anyhow::Result;
use taskbroker_support::{
    broker::{Task, Worker},
    kafka::Message,
};
use tokio::time::Instant;

use super::{
    broker::{BrokerContainer, Names},
    docker,
    kafka::KafkaContainer,
};

async fn produce(kafka: &KafkaContainer, topic: &str, count: usize) -> Result<BTreeSet<String>> {
    let tasks: Vec<Task> = std::iter::repeat_with(|| Task::new().deadline(2)).take(count).collect();
    let messages = tasks.iter().zip((0..4).cycle());
    kafka.produce(topic, messages.map(|(task, partition)| Message::new(task.encode()).partition(partition))).await?;
    Ok(tasks.iter().map(Task::id).collect())
}

/// Completes tasks until all of these were completed; tells each as it comes.
async fn complete(worker: &mut Worker, wanted: usize, mut came: impl FnMut(String)) -> Result<()> {
    let mut completed = BTreeSet::new();
    let deadline = Instant::now() + Duration::from_secs(90);
    while completed.len() < wanted {
        assert!(Instant::now() < deadline, "{} of {wanted} tasks came", completed.len());
        let Some(task) = worker.fetch_within(Duration::from_secs(30)).await? else { continue };
        worker.complete(&task.id).await?;
        came(task.id.clone());
        completed.insert(task.id);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_container_goes_on_on_its_volume_and_loses_nothing() -> Result<()> {
    if !docker::is_here() {
        return Ok(());
    }
    let kafka = KafkaContainer::start().await?;
    let names = Names::on(&kafka).await?;
    let mut wanted = produce(&kafka, &names.topic, 300).await?;
    let broker = BrokerContainer::start(&kafka, &names.settings(&kafka.address_inside())).await?;
    assert_eq!(broker.inspect("{{.Config.User}}")?, "65532:65532", "not as root");

    let mut worker = broker.worker()?;
    let mut before = BTreeSet::new();
    complete(&mut worker, 100, |id| assert!(before.insert(id), "a task came twice")).await?;
    // With workers when the broker dies: they come again when their time is over.
    for _ in 0..20 {
        worker.fetch_within(Duration::from_secs(30)).await?;
    }
    broker.kill()?;
    assert_eq!(broker.inspect("{{.State.ExitCode}}")?, "137");
    wanted.append(&mut produce(&kafka, &names.topic, 50).await?);
    broker.start_again().await?;

    let mut after = BTreeSet::new();
    let rest = wanted.len() - before.len();
    complete(&mut worker, rest, |id| {
        assert!(!before.contains(&id), "{id} was completed, and came again");
        after.insert(id);
    })
    .await?;
    assert_eq!(before.union(&after).cloned().collect::<BTreeSet<_>>(), wanted);
    assert_eq!(broker.metrics().await?.imbalance(), 0.0);
    broker.await_health("healthy", Duration::from_secs(60)).await?;
    assert_eq!(broker.stop()?, "0", "{}", broker.log()?);
    Ok(())
}
