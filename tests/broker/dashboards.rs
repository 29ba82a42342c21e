//! Metrics under their earlier names, as the agent of an existing deployment receives them: all that `docs/metrics.md` says are
//! sent, from a broker to which everything happens that they count.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};
use taskbroker_proto::pb::{TaskActivation, TaskActivationStatus};
use taskbroker_support::{
    broker::{BrokerProcess, Metrics, Setup, Task, Worker},
    kafka::Kafka,
};
use tokio::{net::UdpSocket, time::Instant};

use super::{produce, setup, tasks};

const WITHIN: Duration = Duration::from_secs(60);
/// How many tasks may wait for workers: fewer than there will be.
const WAITING_MAX: usize = 10;

/// Rules for a task name and a namespace of their own.
const RULES: &str = "drop_task_killswitch: [unwanted]\ndemoted_namespaces: [elsewhere]\n";

/// What distinguishes metrics beyond their names.
const TAGS: [&str; 15] = [
    "grpc_server.set_status c result:ok,status:complete",
    "grpc_server.set_status c result:ok,status:failure",
    "grpc_server.set_status c result:ok,status:retry",
    "grpc_server.set_status c result:not_found,status:complete",
    "grpc_server.set_status c result:error,status:failure",
    "grpc.request c path:/sentry_protos.taskbroker.v1.ConsumerService/SetTaskStatus",
    "upkeep.task.state_transition c state:completed",
    "upkeep.task.state_transition c state:retried",
    "upkeep.task.state_transition c state:failed",
    "upkeep.cleanup_action c kind:publish_deadlettered",
    "upkeep.cleanup_action c kind:delete_discarded",
    "upkeep.cleanup_action c kind:removed_expired",
    "upkeep.cleanup_action c kind:processing_deadline_exceeded",
    "upkeep.current_pending_tasks g topic:taskworker,partition:-1",
    "worker.push_task c result:error",
];

/// A line without its value and its rate: name, type, and the tags, of which the first is that of the deployment.
type Received = Arc<Mutex<BTreeSet<(String, String, String)>>>;

/// Listens for as long as the test runs.
async fn agent() -> Result<(u16, Received)> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    let port = socket.local_addr()?.port();
    let received = Received::default();
    let noted = Arc::clone(&received);
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        while let Ok(length) = socket.recv(&mut buffer).await {
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            noted.lock().unwrap_or_else(PoisonError::into_inner).extend(text.lines().map(parts));
        }
    });
    Ok((port, received))
}

fn parts(line: &str) -> (String, String, String) {
    let (name, rest) = line.split_once(':').unwrap_or_else(|| panic!("no value: {line}"));
    let mut fields = rest.split('|').skip(1);
    let kind = fields.next().unwrap_or_default();
    let tags = fields.find_map(|field| field.strip_prefix('#')).unwrap_or_default();
    (name.to_owned(), kind.to_owned(), tags.to_owned())
}

/// What the document says is sent: types and tags by name.
fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let text = include_str!("../../docs/metrics.md").split("## Not sent").next().unwrap_or_default();
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let row = |row: &str| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let kind = cells[2].split(',').next().unwrap_or_default().to_owned();
        (format!("taskbroker.{}", quoted(cells[1])[0]), (kind, quoted(cells[2]).into_iter().collect()))
    };
    rows.map(row).collect()
}

/// The names of the tags on a line.
fn names(tags: &str) -> BTreeSet<String> {
    tags.split(',').filter_map(|tag| tag.split_once(':')).map(|(name, _)| name.to_owned()).collect()
}

fn changed(change: impl FnOnce(&mut TaskActivation)) -> Task {
    let mut task = Task::new();
    change(&mut task.0);
    task
}

async fn until(broker: &BrokerProcess, what: &str, holds: impl Fn(&Metrics) -> bool) -> Result<()> {
    let deadline = Instant::now() + WITHIN;
    while !holds(&broker.metrics().await?) {
        ensure!(Instant::now() < deadline, "not seen: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn next(worker: &mut Worker) -> Result<TaskActivation> {
    worker.fetch_within(WITHIN).await?.context("no task comes")
}

/// Everything that can be reported on tasks.
async fn every_report(kafka: &Kafka, setup: &Setup, broker: &BrokerProcess, worker: &mut Worker) -> Result<()> {
    let failing = || Task::new().dead_letter();
    produce(kafka, &setup.topic, [Task::new(), Task::new(), failing()]).await?;
    for status in [TaskActivationStatus::Retry, TaskActivationStatus::Failure, TaskActivationStatus::Failure] {
        let task = next(worker).await?;
        worker.report(&task.id, status).await?;
    }
    let retry = next(worker).await?;
    worker.complete(&retry.id).await?;
    worker.complete("nobody").await?;
    let ids = produce(kafka, &setup.topic, [Task::new().deadline(1)]).await?;
    ensure!(next(worker).await?.id == ids[0]);
    until(broker, "a lost worker", |metrics| metrics.sum("taskbroker_leases_lost_total") == 1.0).await?;
    worker.report(&ids[0], TaskActivationStatus::Failure).await?;
    ensure!(next(worker).await?.id == ids[0], "a late failure is not believed");
    Ok(worker.complete(&ids[0]).await?)
}

/// Tasks that no worker is to have.
async fn never_handed_out(kafka: &Kafka, setup: &Setup, broker: &BrokerProcess) -> Result<()> {
    let an_hour_ago = SystemTime::now() - Duration::from_secs(3600);
    let tasks = [
        Task::new().expires(1).received(an_hour_ago),
        Task::new().delay(2).expires(1),
        changed(|task| task.taskname = "unwanted".to_owned()),
        changed(|task| task.namespace = "elsewhere".to_owned()),
    ];
    produce(kafka, &setup.topic, tasks).await?;
    until(broker, "what expired", |metrics| metrics.activations("expired") == 2.0).await?;
    until(broker, "what is forwarded", |metrics| metrics.activations("forwarded") == 1.0).await
}

/// Somebody else has the store's lock for a moment.
async fn locked_out(path: &Path, broker: &BrokerProcess, worker: &mut Worker) -> Result<()> {
    let mut other = SqliteConnectOptions::new().filename(path).connect().await?;
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await?;
    let task = next(worker).await?;
    let mut reporting = worker.clone();
    let report = tokio::spawn(async move { reporting.complete(&task.id).await });
    until(broker, "a commit that fails", |metrics| metrics.sum("taskbroker_commit_retries_total") > 0.0).await?;
    other.close().await?;
    Ok(report.await??)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agent_of_an_existing_deployment_receives_all_that_the_document_says_with_its_types_and_tags() -> Result<()>
{
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let (directory, long) = (tempfile::tempdir()?, Kafka::unique("long"));
    kafka.create_topic(&long, 1, &[]).await?;
    let rules = directory.path().join("rules.yaml");
    std::fs::write(&rules, RULES)?;
    let (port, received) = agent().await?;
    let setup = setup(&kafka, 1)
        .await?
        .with("statsd_addr", format!("127.0.0.1:{port}"))
        .with("default_metrics_tags", json!({ "region": "eu" }))
        .with("runtime_config_path", rules.to_str())
        .with("kafka_long_topic", long)
        .with("store.max_pending_count", WAITING_MAX)
        .with("store.processing_deadline_grace_sec", 0);

    let mut broker = BrokerProcess::start(&setup).await?;
    let mut worker = broker.worker()?;
    every_report(&kafka, &setup, &broker, &mut worker).await?;
    never_handed_out(&kafka, &setup, &broker).await?;
    produce(&kafka, &setup.topic, tasks(5 * WAITING_MAX)).await?;
    until(&broker, "a pause", |metrics| metrics.sum("taskbroker_intake_pauses_total") > 0.0).await?;
    locked_out(broker.store_path(), &broker, &mut worker).await?;

    // Another one of the deployment joins; it pushes, to a worker that is away.
    let application = Task::new().0.application.unwrap_or_default();
    let setup = setup.with("delivery_mode", "push").with("worker_map", json!({ application: "http://127.0.0.1:1" }));
    let mut pushing = BrokerProcess::start(&setup).await?;
    let revoked = |metrics: &Metrics| metrics.of_labels("taskbroker_partitions_total", &["event=\"revoked\""]) > 0.0;
    until(&broker, "a rebalance", revoked).await?;
    broker.stop().await?;
    produce(&kafka, &setup.topic, tasks(1)).await?;
    until(&pushing, "an offer", |metrics| metrics.sum("taskbroker_push_offers_total") > 0.0).await?;
    pushing.stop().await?;

    let documented = documented();
    let deadline = Instant::now() + WITHIN;
    loop {
        let all = received.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let missing = missing(&documented, &all);
        if missing.is_empty() {
            nothing_else(&documented, &all);
            return Ok(());
        }
        assert!(Instant::now() < deadline, "{missing:?} did not come, but\n{all:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What is documented, or in [`TAGS`], and has not come.
fn missing(
    documented: &BTreeMap<String, (String, BTreeSet<String>)>,
    all: &BTreeSet<(String, String, String)>,
) -> Vec<String> {
    let of_region =
        |tags: &BTreeSet<String>| tags.iter().cloned().chain(["region".to_owned()]).collect::<BTreeSet<_>>();
    let came = |name: &String, kind: &String, tags: &BTreeSet<String>| {
        all.iter().any(|(found, its, on)| (found, its) == (name, kind) && names(on) == of_region(tags))
    };
    let names = documented.iter().filter(|(name, (kind, tags))| !came(name, kind, tags)).map(|(name, _)| name.clone());
    let exact = TAGS.into_iter().filter(|wanted| {
        !all.iter().any(|(name, kind, tags)| {
            let tags = tags.strip_prefix("region:eu,").unwrap_or_default();
            format!("{} {kind} {tags}", name.trim_start_matches("taskbroker.")) == **wanted
        })
    });
    names.chain(exact.map(str::to_owned)).collect()
}

fn nothing_else(documented: &BTreeMap<String, (String, BTreeSet<String>)>, all: &BTreeSet<(String, String, String)>) {
    for (name, kind, tags) in all {
        let (its, of_document) = documented.get(name).unwrap_or_else(|| panic!("{name} is not documented"));
        assert_eq!(its, kind, "{name}");
        assert!(tags.starts_with("region:eu"), "{name}: {tags}");
        let known = |tag: &String| tag == "region" || of_document.contains(tag);
        assert!(names(tags).iter().all(known), "{name}: {tags}");
    }
}
