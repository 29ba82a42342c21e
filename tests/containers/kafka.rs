//! Kafka in a container, reached from this machine and from other containers.

use std::{ops::Deref, time::Duration};

use anyhow::{Context, Result};
use taskbroker_support::{broker::free_port, kafka::Kafka};
use testcontainers::{
    ContainerAsync, GenericImage, ImageExt,
    core::{IntoContainerPort, Mount},
    runners::AsyncRunner,
};

use super::{
    certificates::Certificates,
    docker::{self, docker},
};

/// Use it like a [`Kafka`]; besides, it is known to the containers of its network. Gone when dropped.
pub(crate) struct KafkaContainer {
    kafka: Kafka,
    /// The network that it shares with brokers.
    pub(crate) network: String,
    name: String,
    _container: ContainerAsync<GenericImage>,
}

const INSIDE: u16 = 19_092;
const ENCRYPTED: u16 = 19_093;

impl KafkaContainer {
    /// Starts one with a network of its own, and waits until it answers.
    pub(crate) async fn start() -> Result<Self> {
        Self::start_as(Kafka::unique("kafka"), None).await
    }

    /// The same; besides it speaks TLS, with a certificate by an authority that nobody knows.
    pub(crate) async fn start_encrypted() -> Result<(Self, Certificates)> {
        let name = Kafka::unique("kafka");
        let certificates = Certificates::of(&name)?;
        Ok((Self::start_as(name, Some(&certificates)).await?, certificates))
    }

    async fn start_as(name: String, certificates: Option<&Certificates>) -> Result<Self> {
        let (network, port) = (Kafka::unique("taskbroker-test"), free_port()?);
        let mut image = GenericImage::new(docker::KAFKA.0, docker::KAFKA.1)
            .with_mapped_port(port, port.tcp())
            .with_container_name(&name)
            .with_network(&network)
            .with_startup_timeout(Duration::from_secs(120));
        for (key, value) in settings(&name, port, certificates.is_some()) {
            image = image.with_env_var(key, value);
        }
        if let Some(certificates) = certificates {
            image = image
                .with_mount(Mount::bind_mount(certificates.server().display().to_string(), "/etc/kafka/server.pem"))
                .with_env_var("KAFKA_SSL_KEYSTORE_TYPE", "PEM")
                .with_env_var("KAFKA_SSL_KEYSTORE_LOCATION", "/etc/kafka/server.pem");
        }
        let container = image.start().await.context("Kafka's container cannot be started")?;
        let address = format!("127.0.0.1:{port}");
        let starting = tokio::task::spawn_blocking(move || Kafka::starting_at(&address)).await?;
        let kafka = starting.with_context(|| docker(&["logs", "--tail", "30", container.id()]).unwrap_or_default())?;
        Ok(Self { kafka, network, name, _container: container })
    }

    /// Where containers of its network reach it.
    pub(crate) fn address_inside(&self) -> String {
        format!("{}:{INSIDE}", self.name)
    }

    /// The same, encrypted.
    pub(crate) fn encrypted_address_inside(&self) -> String {
        format!("{}:{ENCRYPTED}", self.name)
    }
}

/// Several listeners, because a client goes on at the address that Kafka names.
fn settings(name: &str, port: u16, encrypted: bool) -> [(&'static str, String); 13] {
    let tls = |before: &str| if encrypted { format!("TLS://{before}:{ENCRYPTED},") } else { String::new() };
    let listeners = format!("INSIDE://:{INSIDE},{}HOST://:{port},CONTROLLER://localhost:9093", tls(""));
    let advertised = format!("INSIDE://{name}:{INSIDE},{}HOST://127.0.0.1:{port}", tls(name));
    [
        ("KAFKA_NODE_ID", "1"),
        ("KAFKA_PROCESS_ROLES", "broker,controller"),
        ("KAFKA_CONTROLLER_QUORUM_VOTERS", "1@localhost:9093"),
        ("KAFKA_CONTROLLER_LISTENER_NAMES", "CONTROLLER"),
        ("KAFKA_LISTENERS", &listeners),
        ("KAFKA_ADVERTISED_LISTENERS", &advertised),
        ("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP", "INSIDE:PLAINTEXT,TLS:SSL,HOST:PLAINTEXT,CONTROLLER:PLAINTEXT"),
        ("KAFKA_INTER_BROKER_LISTENER_NAME", "INSIDE"),
        ("KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR", "1"),
        ("KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS", "4"),
        ("KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", "0"),
        ("KAFKA_AUTO_CREATE_TOPICS_ENABLE", "false"),
        // As self-hosted installations have it.
        ("KAFKA_MESSAGE_MAX_BYTES", "50000000"),
    ]
    .map(|(key, value)| (key, value.to_owned()))
}

impl Deref for KafkaContainer {
    type Target = Kafka;

    fn deref(&self) -> &Kafka {
        &self.kafka
    }
}
