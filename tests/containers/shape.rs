//! The shape of existing self-hosted deployments: the program at `/opt/taskbroker`, its configuration at
//! `/etc/taskbroker/config.yml`, a Kafka that speaks TLS by an authority that only the system's store knows, unused variables set
//! to nothing, and a volume of 1 GiB.

use std::{collections::BTreeSet, time::Duration};

use anyhow::Result;
use serde_json::json;
use taskbroker_support::{broker::Task, kafka::Message};
use testcontainers::{ImageExt, core::Mount};

use super::{
    broker::{BrokerContainer, Names},
    docker,
    kafka::KafkaContainer,
};

/// Variables that such deployments set to nothing where they use neither SASL nor TLS of their own.
const UNUSED: [&str; 7] = [
    "TASKBROKER_KAFKA_SASL_MECHANISM",
    "TASKBROKER_KAFKA_SASL_USERNAME",
    "TASKBROKER_KAFKA_SASL_PASSWORD",
    "TASKBROKER_KAFKA_SSL_CA_LOCATION",
    "TASKBROKER_KAFKA_SSL_CERTIFICATE_LOCATION",
    "TASKBROKER_KAFKA_SSL_KEY_LOCATION",
    "TASKBROKER_GRPC_SHARED_SECRET",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shape_of_a_self_hosted_deployment_works() -> Result<()> {
    if !docker::is_here() {
        return Ok(());
    }
    let (kafka, certificates) = KafkaContainer::start_encrypted().await?;
    let names = Names::on(&kafka).await?;
    let mut settings = names.settings(&kafka.encrypted_address_inside());
    settings["kafka_clusters"]["main"]["security_protocol"] = json!("SSL");
    settings["store"]["sqlite"]["path"] = json!("/opt/sqlite/taskbroker-activations.sqlite");
    let authority = certificates.authority().display().to_string();
    let volume = Mount::tmpfs_mount("/opt/sqlite").with_size("1g").with_mode(0o1777);
    let broker = BrokerContainer::start_as(&kafka, &settings, "/etc/taskbroker/config.yml", |image| {
        let image = image
            .with_cmd(["-c", "/etc/taskbroker/config.yml"])
            .with_mount(Mount::bind_mount(authority, "/etc/ssl/certs/ca-certificates.crt"))
            .with_mount(volume);
        UNUSED.iter().fold(image, |image, name| image.with_env_var(*name, ""))
    })
    .await?;
    assert_eq!(broker.inspect("{{.Path}} {{join .Args \" \"}}")?, "/opt/taskbroker -c /etc/taskbroker/config.yml");

    let tasks: Vec<Task> = std::iter::repeat_with(Task::new).take(100).collect();
    kafka.produce(&names.topic, tasks.iter().map(|task| Message::new(task.encode()))).await?;
    let mut worker = broker.worker()?;
    let mut completed = BTreeSet::new();
    for _ in 0..tasks.len() {
        let task = worker.fetch_within(Duration::from_secs(60)).await?.expect("a task is left");
        worker.complete(&task.id).await?;
        completed.insert(task.id);
    }
    assert_eq!(completed, tasks.iter().map(Task::id).collect());
    assert_eq!(broker.stop()?, "0");
    Ok(())
}
