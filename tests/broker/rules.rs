//! Rules that are changed under a running broker, and tasks that no worker asks for.

use std::{path::Path, time::Duration};

use anyhow::Result;
use taskbroker_proto::pb::TaskActivation;
use taskbroker_support::{
    broker::{BrokerProcess, Task},
    kafka::{Kafka, Message},
};
use tokio::time::Instant;

use super::{crew::assert_empty, produce, setup, tasks};

const WITHIN: Duration = Duration::from_secs(20);

const NONE: &str = "drop_task_killswitch: []\ndemoted_namespaces: []\n";

/// Replaces the file, as editors and mounted configuration do: never half written.
fn write(path: &Path, text: &str) -> Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, text)?;
    Ok(std::fs::rename(new, path)?)
}

async fn events(broker: &BrokerProcess, event: &str) -> Result<f64> {
    let label = format!("event=\"{event}\"");
    Ok(broker.metrics().await?.of_labels("taskbroker_activations_total", &[&label]))
}

async fn await_events(broker: &BrokerProcess, event: &str, count: f64) -> Result<()> {
    let deadline = Instant::now() + WITHIN;
    while events(broker, event).await? < count {
        assert!(Instant::now() < deadline, "{} of {count} {event}", events(broker, event).await?);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(events(broker, event).await?, count);
    Ok(())
}

#[tokio::test]
async fn rules_are_obeyed_when_their_file_changes_and_a_bad_file_changes_nothing() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let directory = tempfile::tempdir()?;
    let (rules, long, slow) = (directory.path().join("rules.yaml"), Kafka::unique("long"), Kafka::unique("slow"));
    kafka.create_topic(&long, 1, &[]).await?;
    kafka.create_topic(&slow, 1, &[]).await?;
    let setup =
        setup(&kafka, 1).await?.with("runtime_config_path", rules.to_str()).with("kafka_long_topic", long.as_str());
    let broker = BrokerProcess::start(&setup).await?;
    broker.log().await_line(0, "the rules in force stay", WITHIN).await?;
    write(&rules, NONE)?;
    broker.log().await_line(0, "rules read", WITHIN).await?;
    let mut worker = broker.worker()?;

    let name = Task::new().0.taskname;
    produce(&kafka, &setup.topic, tasks(20)).await?;
    await_events(&broker, "admitted", 20.0).await?;
    write(&rules, &format!("drop_task_killswitch: [\"{name}\"]\ndemoted_namespaces: []\n"))?;
    await_events(&broker, "dropped", 20.0).await?;
    produce(&kafka, &setup.topic, tasks(5)).await?;
    await_events(&broker, "dropped", 25.0).await?;

    let mark = broker.log().mark();
    write(&rules, "drop_task_killswitch: [")?;
    broker.log().await_line(mark, "the rules in force stay", WITHIN).await?;
    produce(&kafka, &setup.topic, tasks(5)).await?;
    await_events(&broker, "dropped", 30.0).await?;

    let namespace = Task::new().0.namespace;
    write(&rules, &format!("drop_task_killswitch: []\ndemoted_namespaces: [\"{namespace}\"]\n"))?;
    broker.log().await_line(mark, "demoted=1", WITHIN).await?;
    let mut sent = produce(&kafka, &setup.topic, tasks(30)).await?;
    await_events(&broker, "forwarded", 30.0).await?;
    let mut forwarded: Vec<String> =
        kafka.consume_all(&long).await?.iter().map(|message| id_of(&message.payload)).collect();
    sent.sort_unstable();
    forwarded.sort_unstable();
    assert_eq!(forwarded, sent, "each exactly once, as it was");

    let cluster = format!("demoted_topic: {slow}\ndemoted_topic_cluster: '{}'\n", kafka.address());
    let mark = broker.log().mark();
    write(&rules, &format!("drop_task_killswitch: []\ndemoted_namespaces: [\"{namespace}\"]\n{cluster}"))?;
    broker.log().await_line(mark, "rules read", WITHIN).await?;
    let sent = produce(&kafka, &setup.topic, tasks(1)).await?;
    await_events(&broker, "forwarded", 31.0).await?;
    let forwarded = kafka.consume_all(&slow).await?;
    assert_eq!(forwarded.iter().map(|message| id_of(&message.payload)).collect::<Vec<_>>(), sent);

    let mark = broker.log().mark();
    write(&rules, NONE)?;
    broker.log().await_line(mark, "rules read", WITHIN).await?;
    // The file has not changed since: only the signal asks for it.
    let mark = broker.log().mark();
    broker.signal("HUP")?;
    broker.log().await_line(mark, "rules read", WITHIN).await?;
    produce(&kafka, &setup.topic, tasks(3)).await?;
    for _ in 0..3 {
        let task = worker.fetch_within(WITHIN).await?.unwrap_or_else(|| panic!("no rule holds it back"));
        worker.complete(&task.id).await?;
    }
    assert_empty(&broker, WITHIN).await
}

fn id_of(payload: &[u8]) -> String {
    <TaskActivation as prost::Message>::decode(payload).map(|task| task.id).unwrap_or_default()
}

async fn await_rows(broker: &BrokerProcess, count: usize) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while broker.stored().await?.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} rows", broker.stored().await?.len());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_load_is_served_behind_thousands_of_tasks_that_no_worker_asks_for_and_those_are_named() -> Result<()> {
    // More than may wait for workers (`store.max_pending_count`).
    const FORGOTTEN: usize = 5_000;
    const LOAD: usize = 500;
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let setup = setup(&kafka, 1).await?;
    let broker = BrokerProcess::start(&setup).await?;
    let mut worker = broker.worker()?;
    let forgotten = tasks(FORGOTTEN).map(|mut task| {
        task.0.application = Some(String::new());
        task
    });
    produce(&kafka, &setup.topic, forgotten).await?;
    await_rows(&broker, FORGOTTEN).await?;
    let served = produce(&kafka, &setup.topic, tasks(LOAD)).await?;

    let mut done = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(180);
    while done.len() < served.len() {
        assert!(Instant::now() < deadline, "{} of {} are served", done.len(), served.len());
        if let Some(task) = worker.fetch_within(Duration::from_secs(1)).await? {
            worker.complete(&task.id).await?;
            done.push(task.id);
        }
    }
    let named = broker.log().await_line(0, "no worker asks for these tasks", WITHIN).await?;
    assert!(named.contains("application= namespace=space") && named.contains("for_s="), "{named}");
    assert_eq!(broker.stored().await?.len(), FORGOTTEN, "they are kept, and nothing else is");
    let metrics = broker.metrics().await?;
    assert_eq!(metrics.sum("taskbroker_unserved"), FORGOTTEN as f64);
    let (status, reason) = broker.probe("/readyz").await?;
    assert_eq!(status, 503, "{reason}");
    assert!(reason.contains("no worker asks for 5000 tasks of application"), "{reason}");
    assert_eq!(broker.probe("/healthz").await?.0, 200, "it is alive");
    Ok(())
}

#[tokio::test]
async fn each_application_gets_its_canary_tasks_at_the_start() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let application = Task::new().0.application.unwrap_or_default();
    let setup = setup(&kafka, 1)
        .await?
        .with("canary_tasks", 2)
        .with("worker_map", serde_json::json!({ application: "http://127.0.0.1:1" }));
    let broker = BrokerProcess::start(&setup).await?;
    let mut worker = broker.worker()?;
    for _ in 0..2 {
        let task = worker.fetch_within(WITHIN).await?.unwrap_or_else(|| panic!("it does not come"));
        assert_eq!((task.namespace.as_str(), task.taskname.as_str()), ("internal", "canary_task"));
        worker.complete(&task.id).await?;
    }
    assert_eq!(worker.fetch().await?, None);
    assert_empty(&broker, WITHIN).await
}

#[tokio::test]
async fn tasks_without_an_application_are_served_as_those_of_the_default_one() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let application = Task::new().0.application.unwrap_or_default();
    let setup = setup(&kafka, 1).await?.with("default_application", application);
    let broker = BrokerProcess::start(&setup).await?;
    let mut worker = broker.worker()?;
    let mut task = Task::new();
    task.0.application = None;
    kafka.produce(&setup.topic, [Message::new(task.encode()).partition(0)]).await?;
    let found = worker.fetch_within(WITHIN).await?.unwrap_or_else(|| panic!("it does not come"));
    assert_eq!(found.id, task.id());
    worker.complete(&found.id).await?;
    assert_empty(&broker, WITHIN).await
}
