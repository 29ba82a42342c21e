//! The shape of existing self-hosted deployments: the program at `/opt/taskbroker`, its configuration at
//! `/etc/taskbroker/config.yml`, one topic of activations and seven raw ones in five groups, messages up to 50 MB, a Kafka that
//! speaks TLS by an authority that only the system's store knows, unused variables set to nothing, a volume of 1 GiB, and a fifth
//! of a processor.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use taskbroker_proto::pb::{GetTaskRequest, TaskActivation};
use taskbroker_support::{
    broker::{Task, Worker},
    kafka::Message,
};
use testcontainers::{ImageExt, core::Mount};

use super::{broker::BrokerContainer, docker, kafka::KafkaContainer};

/// Variables that such deployments set to nothing where they use neither SASL nor TLS of their own.
const UNUSED: [&str; 14] = [
    "TASKBROKER_KAFKA_SASL_MECHANISM",
    "TASKBROKER_KAFKA_SASL_USERNAME",
    "TASKBROKER_KAFKA_SASL_PASSWORD",
    "TASKBROKER_KAFKA_SSL_CA_LOCATION",
    "TASKBROKER_KAFKA_SSL_CERTIFICATE_LOCATION",
    "TASKBROKER_KAFKA_SSL_KEY_LOCATION",
    "TASKBROKER_KAFKA_CLUSTERS__DEFAULT__SASL_MECHANISM",
    "TASKBROKER_KAFKA_CLUSTERS__DEFAULT__SASL_USERNAME",
    "TASKBROKER_KAFKA_CLUSTERS__DEFAULT__SASL_PASSWORD",
    "TASKBROKER_KAFKA_CLUSTERS__DEFAULT__SSL_CA_LOCATION",
    "TASKBROKER_KAFKA_CLUSTERS__DEFAULT__SSL_CERTIFICATE_LOCATION",
    "TASKBROKER_KAFKA_CLUSTERS__DEFAULT__SSL_KEY_LOCATION",
    "TASKBROKER_KAFKA_DEADLETTER_SASL_PASSWORD",
    "TASKBROKER_GRPC_SHARED_SECRET",
];

const ACTIVATIONS: &str = "taskworker";
/// Raw topics, and the groups that read them.
const RAW: [(&str, &str); 7] = [
    ("profiles", "profiles"),
    ("ingest-attachments", "ingest-attachments"),
    ("ingest-events", "ingest-events"),
    ("ingest-transactions", "ingest-events"),
    ("ingest-feedback", "ingest-events"),
    ("monitors", "monitors"),
    ("results", "monitors"),
];

/// Large messages: Kafka's limit there is 50 MB with what Kafka puts around them.
const LARGE: usize = 49_000_000;
/// Longer than a group waits for a member that does not show up (6 s).
const QUIET: Duration = Duration::from_secs(8);
/// A fifth of a processor, shared with other tests, takes its time.
const WITHIN: Duration = Duration::from_secs(120);

fn settings(address: &str) -> Value {
    let mut topics = json!({
        ACTIVATIONS: { "cluster": "default", "consumer_group": ACTIVATIONS },
        "taskworker-dlq": { "cluster": "default", "consumer_group": ACTIVATIONS, "produce_only": true },
    });
    for (topic, group) in RAW {
        // Attachments are compressed already.
        let level = if topic == "ingest-attachments" { -1 } else { 3 };
        topics[topic] = json!({ "cluster": "default", "consumer_group": group, "raw": {
            "namespace": "ingest", "application": "sentry", "taskname": topic, "processing_deadline_duration": 60,
            "compression_level": level,
        }});
    }
    json!({
        "http_addr": "0.0.0.0",
        "kafka_clusters": { "default": { "address": address, "security_protocol": "SSL" } },
        "kafka_topics": topics,
        "kafka_retry_topic": ACTIVATIONS,
        "kafka_deadletter_topic": "taskworker-dlq",
        "kafka_auto_offset_reset": "earliest",
        "create_missing_topics": true,
        "max_message_size": 50_000_000,
        "store": { "max_size": 1_000_000_000, "sqlite": { "path": "/opt/sqlite/taskbroker-activations.sqlite" } },
    })
}

/// Bytes that nobody can compress.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(count).collect()
}

fn task() -> Task {
    let mut task = Task::new();
    task.0.application = Some("sentry".to_owned());
    task
}

/// The next task, which is completed.
async fn next(worker: &mut Worker) -> Result<TaskActivation> {
    let deadline = tokio::time::Instant::now() + WITHIN;
    let request = GetTaskRequest { namespace: None, application: Some("sentry".to_owned()) };
    while tokio::time::Instant::now() < deadline {
        if let Ok(answer) = worker.client().get_task(request.clone()).await {
            let task = answer.into_inner().task.context("an answer without a task")?;
            worker.complete(&task.id).await?;
            return Ok(task);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("no task comes within {WITHIN:?}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shape_of_a_self_hosted_deployment_works() -> Result<()> {
    if !docker::is_here() {
        return Ok(());
    }
    let (kafka, certificates) = KafkaContainer::start_encrypted().await?;
    let authority = certificates.authority().display().to_string();
    let volume = Mount::tmpfs_mount("/opt/sqlite").with_size("1g").with_mode(0o1777);
    let settings = settings(&kafka.encrypted_address_inside());
    let broker = BrokerContainer::start_as(&kafka, &settings, "/etc/taskbroker/config.yml", |image| {
        let image = image
            .with_cmd(["-c", "/etc/taskbroker/config.yml"])
            .with_mount(Mount::bind_mount(authority, "/etc/ssl/certs/ca-certificates.crt"))
            .with_mount(volume)
            .with_host_config_modifier(|host| host.nano_cpus = Some(200_000_000));
        UNUSED.iter().fold(image, |image, name| image.with_env_var(*name, ""))
    })
    .await?;
    assert_eq!(broker.inspect("{{.Path}} {{join .Args \" \"}}")?, "/opt/taskbroker -c /etc/taskbroker/config.yml");
    // It makes its topics, of one partition each, and is a member of each group.
    broker.await_partitions(1 + RAW.len(), WITHIN).await?;
    tokio::time::sleep(QUIET).await;

    let mut worker = broker.worker()?;
    everything_small_comes(&kafka, &mut worker).await?;
    what_is_large_comes_whole(&kafka, &mut worker).await?;

    let metrics = broker.metrics().await?;
    assert_eq!(metrics.of_labels("taskbroker_partitions_total", &["event=\"lost\""]), 0.0, "{}", broker.log()?);
    assert_eq!(metrics.sum("taskbroker_kafka_assigned"), (1 + RAW.len()) as f64);
    assert_eq!(metrics.imbalance(), 0.0);
    for (topic, group) in RAW.into_iter().chain([(ACTIVATIONS, ACTIVATIONS)]) {
        kafka.await_no_lag(group, topic, WITHIN).await?;
    }
    assert_eq!(broker.stop()?, "0");
    Ok(())
}

async fn everything_small_comes(kafka: &KafkaContainer, worker: &mut Worker) -> Result<()> {
    let tasks: Vec<Task> = std::iter::repeat_with(task).take(100).collect();
    kafka.produce(ACTIVATIONS, tasks.iter().map(|task| Message::new(task.encode()))).await?;
    for (topic, _) in RAW {
        kafka.produce(topic, (0..10).map(|number| Message::new(format!("{topic} {number}")))).await?;
    }
    let (mut completed, mut of_messages) = (BTreeSet::new(), Vec::new());
    for _ in 0..tasks.len() + 10 * RAW.len() {
        let task = next(worker).await?;
        match task.namespace.as_str() {
            "ingest" => of_messages.push(task.taskname),
            _ => drop(completed.insert(task.id)),
        }
    }
    assert_eq!(completed, tasks.iter().map(Task::id).collect());
    for (topic, _) in RAW {
        assert_eq!(of_messages.iter().filter(|name| *name == topic).count(), 10, "{topic}");
    }
    Ok(())
}

async fn what_is_large_comes_whole(kafka: &KafkaContainer, worker: &mut Worker) -> Result<()> {
    let bytes = noise(LARGE);
    let large = task().arguments(bytes.clone());
    kafka.produce(ACTIVATIONS, [Message::new(large.encode())]).await?;
    let came = next(worker).await?;
    assert_eq!(came.id, large.id());
    assert!(came.parameters_bytes == bytes, "{} bytes came of {LARGE}", came.parameters_bytes.len());

    kafka.produce("ingest-attachments", [Message::new(bytes.clone())]).await?;
    let came = next(worker).await?;
    assert_eq!(came.taskname, "ingest-attachments");
    // The only argument: a few bytes say so before it.
    let begin = came.parameters_bytes.windows(64).position(|window| window == &bytes[..64]);
    let begin = begin.with_context(|| format!("it does not begin: {:?}", &came.parameters_bytes[..64]))?;
    assert!(begin < 64 && came.parameters_bytes[begin..].starts_with(&bytes), "it came otherwise than it was");
    Ok(())
}
