//! From the existing system to this one and back, on one store.

use std::{path::Path, time::Duration};

use anyhow::{Result, ensure};
use sqlx::{ConnectOptions, Connection, SqliteConnection, raw_sql, sqlite::SqliteConnectOptions};
use taskbroker_support::{
    broker::{BrokerProcess, Task},
    kafka::Kafka,
};

use super::{produce, setup, tasks};

const WITHIN: Duration = Duration::from_secs(60);
const QUIET: Duration = Duration::from_millis(2500);

/// The tables as they are after its six migrations.
const TABLES: &str = include_str!("../support/existing-store.sql");

async fn connect(path: &Path) -> Result<SqliteConnection> {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true).pragma("journal_mode", "WAL");
    Ok(options.connect().await?)
}

/// The file that the existing system leaves when it has read all of these from partition 0 and completed the first of them.
async fn left_behind(path: &Path, all: &[Task], completed: usize) -> Result<()> {
    let mut conn = connect(path).await?;
    raw_sql(TABLES).execute(&mut conn).await?;
    raw_sql("BEGIN").execute(&mut conn).await?;
    for (offset, task) in all.iter().enumerate().skip(completed) {
        let sql =
            "INSERT INTO inflight_taskactivations (id, activation, partition, offset, added_at, processing_attempts,
                processing_deadline_duration, status, namespace, received_at, taskname, application)
            VALUES (?, ?, 0, ?, unixepoch(), 0, 60, 'Pending', 'space', unixepoch(), 'task', 'tests')";
        let row = sqlx::query(sql).bind(task.id()).bind(task.encode()).bind(i64::try_from(offset)?);
        row.execute(&mut conn).await?;
    }
    raw_sql("COMMIT").execute(&mut conn).await?;
    Ok(conn.close().await?)
}

/// Completes what comes until all of these came, and a while longer. Each must come once, and nothing else.
async fn all_come_once(broker: &BrokerProcess, ids: &[String]) -> Result<()> {
    let mut came = broker.worker()?.complete_all(QUIET).await?;
    came.sort();
    let mut expected = ids.to_vec();
    expected.sort();
    ensure!(came == expected, "{} came, {} were expected", came.len(), expected.len());
    Ok(())
}

#[tokio::test]
async fn what_the_existing_system_stored_and_did_not_commit_runs_once() -> Result<()> {
    const STORED: usize = 3_000;
    const COMPLETED: usize = 758;
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let setup = setup(&kafka, 1).await?;
    let all: Vec<Task> = tasks(STORED + 100).collect();
    let ids = produce(&kafka, &setup.topic, all.clone()).await?;
    kafka.set_committed(&setup.group, &setup.topic, 0, 0, "").await?;
    let mut broker = BrokerProcess::prepare(&setup)?;
    left_behind(broker.store_path(), &all[..STORED], COMPLETED).await?;

    broker.start_again().await?;
    broker.await_partitions(1, WITHIN).await?;
    let taken = broker.log().with("the existing system's store was taken over");
    assert!(taken.len() == 1 && taken[0].contains("rows=2242"), "{taken:?}");
    all_come_once(&broker, &ids[COMPLETED..]).await?;
    kafka.await_no_lag(&setup.group, &setup.topic, WITHIN).await?;
    broker.kill().await?;
    broker.start_again().await?;
    broker.await_partitions(1, WITHIN).await?;
    all_come_once(&broker, &[]).await?;
    assert!(broker.store_path().with_file_name("store.sqlite.before-takeover").exists());
    Ok(())
}

#[tokio::test]
async fn a_store_that_was_written_back_is_gone_on_with_and_taken_over_again() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let setup = setup(&kafka, 1).await?.with("store.linger", "0ms");
    let mut broker = BrokerProcess::start(&setup).await?;
    let ids = produce(&kafka, &setup.topic, tasks(50)).await?;
    let mut worker = broker.worker()?;
    for id in &ids[..10] {
        assert_eq!(worker.fetch_within(WITHIN).await?.map(|task| task.id), Some(id.clone()));
        worker.complete(id).await?;
    }
    kafka.await_no_lag(&setup.group, &setup.topic, WITHIN).await?;
    let store = broker.store_path().display().to_string();
    let (refused, text) = broker.command(&["downgrade", &store]).await?;
    assert!(!refused && text.contains("in use by pid"), "{text}");
    broker.stop().await?;

    let (done, text) = broker.command(&["downgrade", &store]).await?;
    assert!(done && text.contains("40 tasks, for the existing system") && text.contains("has to be at 50"), "{text}");
    let mut conn = connect(broker.store_path()).await?;
    let sql =
        "SELECT count(*) FROM inflight_taskactivations WHERE status = 'Pending' AND partition = 0 AND offset >= 10";
    let rows: i64 = sqlx::query_scalar(sql).fetch_one(&mut conn).await?;
    conn.close().await?;
    assert_eq!(rows, 40);

    broker.start_again().await?;
    broker.await_partitions(1, WITHIN).await?;
    all_come_once(&broker, &ids[10..]).await
}

#[tokio::test]
async fn a_damaged_store_is_set_aside_and_what_is_left_of_it_is_recovered() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let setup = setup(&kafka, 1).await?.with("store.linger", "0ms");
    let mut broker = BrokerProcess::start(&setup).await?;
    let ids = produce(&kafka, &setup.topic, tasks(200)).await?;
    kafka.await_no_lag(&setup.group, &setup.topic, WITHIN).await?;
    broker.stop().await?;
    let mut bytes = std::fs::read(broker.store_path())?;
    bytes[..100].fill(0xa5);
    std::fs::write(broker.store_path(), bytes)?;
    broker.start_again().await?;
    let told = broker.log().errors();
    assert!(told.iter().any(|line| line.contains("was set aside") && line.contains("taskbroker recover")), "{told:?}");
    broker.stop().await?;

    let directory = broker.store_path().parent().map(Path::to_path_buf).unwrap_or_default();
    let damaged = std::fs::read_dir(&directory)?.filter_map(|entry| Some(entry.ok()?.path()));
    let damaged = damaged.filter(|path| path.display().to_string().contains(".damaged-")).min();
    let damaged = damaged.map(|path| path.display().to_string()).unwrap_or_default();
    let recovered = directory.join("recovered.sqlite");
    let (done, text) = broker.command(&["recover", &damaged, "--to", &recovered.display().to_string()]).await?;
    assert!(done && text.contains("200 tasks were whole"), "{text}");
    std::fs::rename(&recovered, broker.store_path())?;
    let (done, text) = broker.command(&["parked", &broker.store_path().display().to_string(), "list"]).await?;
    assert!(done && text == "0 in all\n", "{text}");
    broker.start_again().await?;
    broker.await_partitions(1, WITHIN).await?;
    all_come_once(&broker, &ids).await
}

#[tokio::test]
async fn what_a_broker_that_will_not_come_back_holds_is_run_by_another() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let setup = setup(&kafka, 1).await?.with("store.linger", "0ms").with("store.processing_deadline_grace_sec", 0);
    let mut leaving = BrokerProcess::start(&setup).await?;
    let (once, taken) = (Task::new().at_most_once().deadline(2).dead_letter(), Task::new().deadline(2));
    let first = produce(&kafka, &setup.topic, [once.clone(), taken.clone()]).await?;
    let mut worker = leaving.worker()?;
    let mut had = [worker.fetch_within(WITHIN).await?, worker.fetch_within(WITHIN).await?];
    had.sort_by_key(|task| task.as_ref().map(|task| task.id != first[0]));
    assert!(had.iter().all(Option::is_some), "workers have both");
    let waiting = tasks(100).chain(std::iter::repeat_with(|| Task::new().at_most_once()).take(10));
    let waiting: Vec<Task> = waiting.chain([Task::new().delay(4)]).collect();
    let ids = produce(&kafka, &setup.topic, waiting).await?;
    kafka.await_no_lag(&setup.group, &setup.topic, WITHIN).await?;
    let (refused, text) = leaving.command(&["evacuate"]).await?;
    assert!(!refused && text.contains("in use by pid"), "{text}");
    leaving.stop().await?;

    let (done, text) = leaving.command(&["evacuate"]).await?;
    assert!(done && text.contains("112 published again under their own ids"), "{text}");
    assert!(text.contains("0 published as retries, 1 as dead letters"), "{text}");
    assert!(leaving.stored().await?.is_empty());
    let (again, text) = leaving.command(&["evacuate"]).await?;
    assert!(again && text.contains("0 published again"), "{text}");

    let other = BrokerProcess::start(&setup).await?;
    other.await_partitions(1, WITHIN).await?;
    let all: Vec<String> = ids.into_iter().chain([taken.id()]).collect();
    all_come_once(&other, &all).await?;
    let dead = kafka.consume_all(&setup.dead_letters).await?;
    assert_eq!(dead.len(), 1, "the at-most-once task that a worker had is not run again");
    Ok(())
}
