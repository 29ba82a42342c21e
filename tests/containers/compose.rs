//! `docker-compose.yml`, brought up as it is, on ports of its own.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use taskbroker_support::{
    broker::{Metrics, Task, Worker, free_port, http_get},
    kafka::{Kafka, Message},
};

use super::docker;

/// The whole of it may be slow on a loaded machine; Kafka alone takes some seconds.
const UP_WITHIN: Duration = Duration::from_secs(180);

/// A project. Taken down when dropped, with its volumes.
struct Project {
    name: String,
    kafka_port: u16,
    grpc_port: u16,
    http_port: u16,
}

impl Project {
    fn up() -> Result<Self> {
        let name = Kafka::unique("taskbroker");
        let project = Self { name, kafka_port: free_port()?, grpc_port: free_port()?, http_port: free_port()? };
        project.compose(&["up", "--detach", "--no-build"])?;
        Ok(project)
    }

    /// Runs a command of compose: the plugin of Docker's client, or the program of old.
    fn compose(&self, arguments: &[&str]) -> Result<()> {
        let plugin = Command::new("docker").args(["compose", "version"]).output();
        let mut command = match plugin.is_ok_and(|output| output.status.success()) {
            true => Command::new("docker"),
            false => Command::new("docker-compose"),
        };
        if command.get_program() == "docker" {
            command.arg("compose");
        }
        command.args(["--project-name", &self.name]).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR"));
        command.env("TASKBROKER_IMAGE", format!("{}:{}", docker::BROKER.0, docker::BROKER.1));
        let ports = [("KAFKA_PORT", self.kafka_port), ("GRPC_PORT", self.grpc_port), ("HTTP_PORT", self.http_port)];
        command.envs(ports.map(|(name, port)| (name, port.to_string()))).stdin(Stdio::null());
        let output =
            command.output().context("docker-compose cannot be run: install it, or Docker's compose plugin")?;
        ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    async fn await_assigned(&self, partitions: f64) -> Result<()> {
        let began = Instant::now();
        loop {
            let assigned = Metrics::of(self.http_port).await.map_or(0.0, |all| all.sum("taskbroker_kafka_assigned"));
            if assigned >= partitions {
                return Ok(());
            }
            if began.elapsed() > UP_WITHIN {
                bail!("{assigned} instead of {partitions} partitions after {UP_WITHIN:?}");
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if let Err(error) = self.compose(&["down", "--volumes", "--timeout", "15"]) {
            eprintln!("{error:#}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_compose_brings_up_takes_a_task_through() -> Result<()> {
    if !docker::is_here() {
        return Ok(());
    }
    let project = tokio::task::spawn_blocking(Project::up).await??;
    project.await_assigned(4.0).await?;
    let kafka = Kafka::starting_at(&format!("127.0.0.1:{}", project.kafka_port))?;
    let mut worker = Worker::at(project.grpc_port)?;
    // A new group starts at the log's end as it was when the partitions were given out: the first tasks may come before that.
    let began = Instant::now();
    let (produced, task) = loop {
        let produced = Task::new();
        kafka.produce("taskworker", [Message::new(produced.encode())]).await?;
        if let Some(task) = worker.fetch_within(Duration::from_secs(2)).await? {
            break (produced, task);
        }
        ensure!(began.elapsed() < UP_WITHIN, "no task came through");
    };
    assert_eq!(task.taskname, produced.0.taskname);
    worker.complete(&task.id).await?;
    let completed = Metrics::of(project.http_port)
        .await?
        .of_labels("taskbroker_reports_total", &["verdict=\"complete\"", "answer=\"settled\""]);
    assert_eq!(completed, 1.0);
    assert_eq!(http_get(project.http_port, "/healthz").await?.0, 200);
    Ok(())
}
