//! The broker's image as a container.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use taskbroker_support::{
    broker::{Metrics, Worker, free_port, http_get},
    kafka::Kafka,
};
use testcontainers::{
    ContainerAsync, ContainerRequest, GenericImage, ImageExt,
    core::{IntoContainerPort, Mount},
    runners::AsyncRunner,
};

use super::{
    docker::{self, docker},
    kafka::KafkaContainer,
};

const GRPC: u16 = 50_051;
const HTTP: u16 = 9464;
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Topics and a group, on a Kafka's container.
pub(crate) struct Names {
    pub(crate) topic: String,
    dead_letters: String,
    group: String,
}

impl Names {
    pub(crate) async fn on(kafka: &KafkaContainer) -> Result<Self> {
        let topic = kafka.new_topic("tasks", 4).await?;
        let dead_letters = kafka.new_topic("dead", 1).await?;
        Ok(Self { topic, dead_letters, group: Kafka::unique("brokers") })
    }

    /// Settings of a broker on them, with Kafka at this address.
    pub(crate) fn settings(&self, address: &str) -> Value {
        json!({
            "http_addr": "0.0.0.0",
            "kafka_clusters": { "main": { "address": address } },
            "kafka_topics": {
                &self.topic: { "cluster": "main", "consumer_group": self.group },
                &self.dead_letters: { "cluster": "main", "produce_only": true },
            },
            "kafka_deadletter_topic": self.dead_letters,
            "kafka_auto_offset_reset": "earliest",
            "upkeep_deadline_reset_skip_after_startup_sec": 0,
            "store": { "sqlite": { "path": "/var/lib/taskbroker/inflight.sqlite" } },
        })
    }
}

/// A broker in a container. Gone when dropped, and its volume with it.
pub(crate) struct BrokerContainer {
    container: ContainerAsync<GenericImage>,
    volume: Option<String>,
    grpc_port: u16,
    http_port: u16,
}

impl BrokerContainer {
    /// Starts the image as it is, with this configuration file and a volume of its own, and waits until it is ready.
    pub(crate) async fn start(kafka: &KafkaContainer, settings: &Value) -> Result<Self> {
        Self::start_as(kafka, settings, "/etc/taskbroker/config.yaml", |image| image).await
    }

    /// The same, with the configuration elsewhere and the container changed.
    pub(crate) async fn start_as(
        kafka: &KafkaContainer,
        settings: &Value,
        config: &str,
        change: impl FnOnce(ContainerRequest<GenericImage>) -> ContainerRequest<GenericImage>,
    ) -> Result<Self> {
        let (volume, grpc_port, http_port) = (Kafka::unique("taskbroker-test"), free_port()?, free_port()?);
        let image = GenericImage::new(docker::BROKER.0, docker::BROKER.1)
            .with_mapped_port(grpc_port, GRPC.tcp())
            .with_mapped_port(http_port, HTTP.tcp())
            .with_network(&kafka.network)
            .with_mount(Mount::volume_mount(&volume, "/var/lib/taskbroker"))
            .with_copy_to(config, format!("{settings:#}\n").into_bytes());
        let container = change(image).start().await.context("the broker's container cannot be started")?;
        let broker = Self { container, volume: Some(volume), grpc_port, http_port };
        broker.await_ready().await?;
        Ok(broker)
    }

    async fn await_ready(&self) -> Result<()> {
        let began = Instant::now();
        while !http_get(self.http_port, "/readyz").await.is_ok_and(|(status, _)| status == 200) {
            if began.elapsed() > READY_WITHIN || !self.container.is_running().await? {
                bail!("the broker is not ready; it said:\n{}", self.log()?);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// `kill -9`: it has no time for anything.
    pub(crate) fn kill(&self) -> Result<()> {
        docker(&["kill", "--signal", "KILL", self.container.id()]).map(drop)
    }

    /// Starts it again where it was, on the same volume.
    pub(crate) async fn start_again(&self) -> Result<()> {
        docker(&["start", self.container.id()])?;
        self.await_ready().await
    }

    /// Stops it as an orchestrator does. Its exit code.
    pub(crate) fn stop(&self) -> Result<String> {
        docker(&["stop", "--time", "15", self.container.id()])?;
        self.inspect("{{.State.ExitCode}}")
    }

    /// What Docker knows of it.
    pub(crate) fn inspect(&self, format: &str) -> Result<String> {
        docker(&["inspect", "--format", format, self.container.id()])
    }

    /// Waits until it reads so many partitions.
    pub(crate) async fn await_partitions(&self, count: usize, within: Duration) -> Result<()> {
        let began = Instant::now();
        loop {
            let assigned = self.metrics().await.map_or(0.0, |metrics| metrics.sum("taskbroker_kafka_assigned"));
            if (assigned - count as f64).abs() < 0.5 {
                return Ok(());
            }
            if began.elapsed() > within {
                bail!("{assigned} of {count} partitions after {within:?}; it said:\n{}", self.log()?);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until the image's own health check has said so.
    pub(crate) async fn await_health(&self, wanted: &str, within: Duration) -> Result<()> {
        let began = Instant::now();
        while self.inspect("{{.State.Health.Status}}")? != wanted {
            if began.elapsed() > within {
                bail!("not {wanted} after {within:?}: {}", self.inspect("{{json .State.Health}}")?);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    pub(crate) async fn metrics(&self) -> Result<Metrics> {
        Metrics::of(self.http_port).await
    }

    pub(crate) fn worker(&self) -> Result<Worker> {
        Worker::at(self.grpc_port)
    }

    /// What it said, in all its lives.
    pub(crate) fn log(&self) -> Result<String> {
        let output = std::process::Command::new("docker").args(["logs", self.container.id()]).output()?;
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

impl Drop for BrokerContainer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the broker's container said\n{}", self.log().unwrap_or_default());
        }
        docker(&["rm", "--force", "--volumes", self.container.id()]).ok();
        if let Some(volume) = self.volume.take() {
            docker(&["volume", "rm", "--force", &volume]).ok();
        }
    }
}
