//! Disks that refuse: what is said, and what goes on. In containers, because there the program is not root and a disk can be small.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use taskbroker_support::{
    broker::Task,
    kafka::{Kafka, Message},
};
use testcontainers::{ImageExt, core::Mount};

use super::{
    broker::{BrokerContainer, Names},
    docker::{self, docker},
    kafka::KafkaContainer,
};

/// Waits until the broker has said this.
async fn await_said(broker: &BrokerContainer, what: &str) -> Result<()> {
    let began = Instant::now();
    while !broker.log()?.contains(what) {
        if began.elapsed() > Duration::from_secs(60) {
            bail!("{what:?} was not said, but:\n{}", broker.log()?);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// A volume of 128 MiB that containers share: twice what the broker wants to be left. Gone when dropped.
struct SmallDisk(String);

impl SmallDisk {
    fn new() -> Result<Self> {
        let name = Kafka::unique("taskbroker-test");
        let tmpfs = ["--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", "o=size=128m,mode=1777"];
        docker(&[&["volume", "create"], &tmpfs[..], &[&name]].concat())?;
        Ok(Self(name))
    }

    /// Somebody else takes what is left of it.
    fn fill(&self) -> Result<()> {
        self.run("cat /dev/zero >/disk/ballast 2>/dev/null || true")
    }

    /// And gives it back.
    fn make_room(&self) -> Result<()> {
        self.run("rm /disk/ballast")
    }

    /// By a container with a shell: Kafka's.
    fn run(&self, script: &str) -> Result<()> {
        let image = format!("{}:{}", docker::KAFKA.0, docker::KAFKA.1);
        let disk = format!("{}:/disk", self.0);
        let shell = ["run", "--rm", "--user", "0", "--volume", &disk, "--entrypoint", "/bin/sh", &image, "-c", script];
        docker(&shell).map(drop)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        docker(&["volume", "rm", "--force", &self.0]).ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_waited_for_and_loses_nothing() -> Result<()> {
    if !docker::is_here() {
        return Ok(());
    }
    const TASKS: usize = 100;
    let kafka = KafkaContainer::start().await?;
    let names = Names::on(&kafka).await?;
    let disk = SmallDisk::new()?;
    let mut settings = names.settings(&kafka.address_inside());
    settings["store"]["sqlite"]["path"] = "/small/inflight.sqlite".into();
    settings["store"]["linger"] = "0ms".into();
    let small = Mount::volume_mount(&disk.0, "/small");
    let broker =
        BrokerContainer::start_as(&kafka, &settings, "/etc/taskbroker/config.yaml", |image| image.with_mount(small))
            .await?;
    disk.fill()?;
    let tasks: Vec<Task> = std::iter::repeat_with(|| Task::new().arguments(vec![7; 20_000])).take(TASKS).collect();
    kafka.produce(&names.topic, tasks.iter().map(|task| Message::new(task.encode()).partition(0))).await?;
    await_said(&broker, "hardly any room is left on the store's disk").await?;
    assert_eq!(broker.inspect("{{.State.Running}}")?, "true", "it goes on");
    disk.make_room()?;
    await_said(&broker, "the store's disk has room again").await?;

    let mut worker = broker.worker()?;
    let (mut completed, began) = (BTreeSet::new(), Instant::now());
    while completed.len() < TASKS {
        assert!(began.elapsed() < Duration::from_secs(120), "{} of {TASKS} came", completed.len());
        let Ok(Some(task)) = worker.fetch_within(Duration::from_secs(5)).await else { continue };
        if worker.complete(&task.id).await.is_ok() {
            assert!(completed.insert(task.id), "a task came twice");
        }
    }
    assert_eq!(completed, tasks.iter().map(Task::id).collect());
    assert_eq!(broker.stop()?, "0");
    Ok(())
}

#[test]
fn a_directory_that_may_not_be_written_is_named() -> Result<()> {
    if !docker::is_here() {
        return Ok(());
    }
    let image = format!("{}:{}", docker::BROKER.0, docker::BROKER.1);
    let foreign = ["--tmpfs", "/foreign:mode=0755", "--env", "TASKBROKER_STORE__SQLITE__PATH=/foreign/inflight.sqlite"];
    let name = Kafka::unique("taskbroker-test");
    // The client's own code is the program's.
    docker(&[&["create", "--name", &name], &foreign[..], &[&image]].concat())?;
    let _gone = Gone(name.clone());
    let ended = std::process::Command::new("docker").args(["start", "--attach", &name]).output()?;
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    let line = said.lines().find(|line| line.contains("the broker does not start")).unwrap_or_default();
    assert!(
        line.contains("/foreign") && line.contains("let the user that runs the broker read and write there"),
        "{said}"
    );
    Ok(())
}

/// Removes a container in the end.
struct Gone(String);

impl Drop for Gone {
    fn drop(&mut self) {
        docker(&["rm", "--force", &self.0]).ok();
    }
}
