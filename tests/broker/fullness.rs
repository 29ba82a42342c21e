//! Each limit by itself, on the real program: when it is reached its topic is held back, which is said with the limit's name; what
//! has no room waits in Kafka; and when there is room everything is served, once.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::Result;
use taskbroker_support::{
    broker::{BrokerProcess, Metrics, Setup, Task},
    kafka::Kafka,
};

use super::{crew::assert_empty, produce, setup};

const WITHIN: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);
/// How long a pause is looked at. A second look at the store's size comes within it.
const A_WHILE: Duration = Duration::from_millis(1500);

fn read(metrics: &Metrics) -> f64 {
    metrics.of_labels("taskbroker_records_total", &["kind=\"read\""])
}

fn is_held(metrics: &Metrics, limit: &str) -> bool {
    metrics.of_labels("taskbroker_intake_paused", &[&format!("reason=\"{limit}\"")]) == 1.0
}

/// Waits until this limit holds the topic back; then nothing more is read for a while. What was measured at its end.
async fn held(broker: &BrokerProcess, limit: &str) -> Result<Metrics> {
    let began = Instant::now();
    while !is_held(&broker.metrics().await?, limit) {
        assert!(began.elapsed() < WITHIN, "{limit} holds nothing back: {:?}", broker.metrics().await?);
        tokio::time::sleep(PAUSE).await;
    }
    let (before, since) = (read(&broker.metrics().await?), Instant::now());
    loop {
        let metrics = broker.metrics().await?;
        assert!(is_held(&metrics, limit), "{limit} holds nothing back any more: {metrics:?}");
        assert_eq!(read(&metrics), before, "more is read although {limit} is reached");
        if since.elapsed() > A_WHILE {
            return Ok(metrics);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Completes everything: each of these once, and nothing else.
async fn serve(broker: &BrokerProcess, ids: &[String]) -> Result<()> {
    let (mut worker, mut served) = (broker.worker()?, BTreeSet::new());
    while served.len() < ids.len() {
        let task = worker.fetch_within(WITHIN).await?;
        let task = task.unwrap_or_else(|| panic!("{} of {} are served", served.len(), ids.len()));
        worker.complete(&task.id).await?;
        assert!(served.insert(task.id.clone()), "{} came twice", task.id);
    }
    assert_eq!(served, ids.iter().cloned().collect());
    assert_empty(broker, WITHIN).await
}

/// Nothing is left in Kafka, nothing was lost, nothing went wrong.
async fn all_is_well(kafka: &Kafka, setup: &Setup, broker: &BrokerProcess) -> Result<()> {
    kafka.await_no_lag(&setup.group, &setup.topic, WITHIN).await?;
    assert_eq!(broker.metrics().await?.imbalance(), 0.0);
    assert_eq!(broker.log().errors(), Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn delayed_tasks_beyond_their_limit_wait_in_kafka() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let setup = setup(&kafka, 1).await?.with("store.max_delay_count", 40).with("store.max_pending_count", 20);
    let broker = BrokerProcess::start(&setup).await?;
    let ids = produce(&kafka, &setup.topic, (0..300).map(|_| Task::new().delay(8))).await?;
    let delayed = held(&broker, "delay_limit").await?.depth("delayed");
    // What a record will be is not known before it is read: there was room for as many as may be waiting.
    assert!((40.0..60.0).contains(&delayed), "{delayed} are delayed");
    serve(&broker, &ids).await?;
    all_is_well(&kafka, &setup, &broker).await
}

#[tokio::test]
async fn more_than_workers_may_have_waits_in_kafka() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let setup = setup(&kafka, 1).await?.with("store.max_processing_count", 30).with("store.max_pending_count", 20);
    let broker = BrokerProcess::start(&setup).await?;
    let mut ids = produce(&kafka, &setup.topic, super::tasks(300)).await?;
    let (mut worker, mut taken) = (broker.worker()?, Vec::new());
    while taken.len() < 30 {
        taken.push(worker.fetch_within(WITHIN).await?.unwrap_or_else(|| panic!("{} of 30 came", taken.len())).id);
    }
    let metrics = held(&broker, "processing_limit").await?;
    assert_eq!(metrics.depth("processing"), 30.0);
    assert!(metrics.depth("pending") <= 20.0, "{metrics:?}");
    for id in &taken {
        worker.complete(id).await?;
    }
    ids.retain(|id| !taken.contains(id));
    serve(&broker, &ids).await?;
    all_is_well(&kafka, &setup, &broker).await
}

/// A task with so many bytes of arguments.
fn heavy(bytes: usize) -> Task {
    Task::new().arguments(vec![b'x'; bytes])
}

#[tokio::test]
async fn a_store_that_has_reached_its_size_takes_nothing_more_and_is_served() -> Result<()> {
    const MAX: u64 = 2 << 20;
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let setup = setup(&kafka, 1)
        .await?
        .with("max_message_size", 1_000_000)
        .with("store.max_size", MAX)
        .with("store.linger", "0ms");
    let broker = BrokerProcess::start(&setup).await?;
    // The store is measured once a second: slowly, so that the limit is met and not leapt over.
    let (mut ids, began) = (Vec::new(), Instant::now());
    while !is_held(&broker.metrics().await?, "db_size_limit") {
        assert!(began.elapsed() < WITHIN, "the store's size holds nothing back: {:?}", broker.metrics().await?);
        ids.extend(produce(&kafka, &setup.topic, (0..5).map(|_| heavy(20_000))).await?);
        tokio::time::sleep(PAUSE * 5).await;
    }
    ids.extend(produce(&kafka, &setup.topic, (0..50).map(|_| heavy(20_000))).await?);
    let metrics = held(&broker, "db_size_limit").await?;
    assert!(metrics.sum("taskbroker_store_used_bytes") >= MAX as f64, "{metrics:?}");
    assert!(kafka.lag(&setup.group, &setup.topic).await? >= 50, "what came later is not in Kafka any more");
    serve(&broker, &ids).await?;
    all_is_well(&kafka, &setup, &broker).await
}

#[tokio::test]
async fn payloads_beyond_their_memory_wait_on_the_disk() -> Result<()> {
    const MEMORY: u64 = 1 << 20;
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let setup = setup(&kafka, 1)
        .await?
        .with("max_message_size", 1_000_000)
        .with("store.payload_memory_bytes", MEMORY)
        .with("store.linger", "100ms");
    let broker = BrokerProcess::start(&setup).await?;
    let ids = produce(&kafka, &setup.topic, (0..400).map(|_| heavy(100_000))).await?;
    let (mut most, began) = (0.0_f64, Instant::now());
    loop {
        let metrics = broker.metrics().await?;
        let memory = metrics.sum("taskbroker_payload_memory_bytes");
        most = most.max(memory);
        if metrics.depth("pending") == 400.0 && memory <= MEMORY as f64 {
            break;
        }
        assert!(began.elapsed() < WITHIN, "{memory} bytes of payloads are in memory: {metrics:?}");
        tokio::time::sleep(PAUSE).await;
    }
    // 16 MiB may wait to be written besides, and what was read at once when these were reached: 4 MiB and a message.
    assert!(most <= (MEMORY + (20 << 20) + 100_100) as f64, "{most} bytes of payloads were in memory");
    serve(&broker, &ids).await?;
    all_is_well(&kafka, &setup, &broker).await
}
