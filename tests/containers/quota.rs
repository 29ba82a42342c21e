//! A fifth of a processor: what an orchestrator may grant a small broker.

use std::time::Duration;

use anyhow::Result;
use taskbroker_support::{broker::Task, kafka::Message};
use testcontainers::ImageExt;

use super::{
    broker::{BrokerContainer, Names},
    docker,
    kafka::KafkaContainer,
};

const TASKS: usize = 500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_with_a_fifth_of_a_processor_starts_works_and_stays_in_its_group() -> Result<()> {
    if !docker::is_here() {
        return Ok(());
    }
    let kafka = KafkaContainer::start().await?;
    let names = Names::on(&kafka).await?;
    let broker = BrokerContainer::start_as(
        &kafka,
        &names.settings(&kafka.address_inside()),
        "/etc/taskbroker/config.yaml",
        |image| {
            image.with_host_config_modifier(|host| {
                host.nano_cpus = Some(200_000_000);
            })
        },
    )
    .await?;
    let log = broker.log()?;
    assert!(
        log.contains("\"worker_threads\":1") || log.contains("worker_threads=1"),
        "threads follow the quota: {log}"
    );

    let tasks: Vec<Task> = std::iter::repeat_with(Task::new).take(TASKS).collect();
    let messages = tasks.iter().zip((0..4).cycle());
    kafka
        .produce(&names.topic, messages.map(|(task, partition)| Message::new(task.encode()).partition(partition)))
        .await?;
    let mut worker = broker.worker()?;
    for _ in 0..TASKS {
        let task = worker.fetch_within(Duration::from_secs(60)).await?.expect("a task is left");
        worker.complete(&task.id).await?;
    }
    // Longer than the session's time-out: a member that does not keep up would be thrown out.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let metrics = broker.metrics().await?;
    for event in ["lost", "revoked"] {
        assert_eq!(metrics.of_labels("taskbroker_partitions_total", &[&format!("event=\"{event}\"")]), 0.0, "{event}");
    }
    assert_eq!(metrics.sum("taskbroker_kafka_assigned"), 4.0);
    assert_eq!(broker.stop()?, "0");
    Ok(())
}
