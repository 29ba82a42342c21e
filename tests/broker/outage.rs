//! Kafka goes away and comes back.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use taskbroker_support::{
    broker::{BrokerProcess, Task},
    kafka::Kafka,
};

use super::{
    crew::{Crew, assert_empty, collect_dead, produce},
    scale, setup, tasks,
    witness::{Kind, Witness},
};

const WITHIN: Duration = Duration::from_secs(30);
/// All of them: they stop at the same time.
const STOPS_WITHIN: Duration = Duration::from_secs(10);
/// Once Kafka answers again.
const RESUMES_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_stopped_under_load_loses_nothing_and_work_goes_on_within_10_s_of_its_return() -> Result<()> {
    let Some(kafka) = Kafka::own() else { return Ok(()) };
    let setup = setup(&kafka, 4).await?.with("store.max_pending_count", 1000);
    let broker = BrokerProcess::start(&setup).await?;
    let witness = Arc::new(Witness::default());
    let kinds = [Kind::Plain, Kind::Plain, Kind::RetryOnce, Kind::Plain, Kind::AtMostOnce, Kind::Plain, Kind::Fails];
    produce(&kafka, &setup, &witness, &kinds, 4000).await?;
    let mut crew = Crew::new(&witness, 40);
    crew.serve(&broker, 16)?;
    while witness.open() > 3800 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    tokio::task::block_in_place(|| kafka.stop())?;
    let (stopped, at_stop) = (Instant::now(), witness.open());
    tokio::time::sleep(scale::outage()).await;
    let (at_start, metrics) = (witness.open(), broker.metrics().await?);
    assert!(at_stop - at_start > 200, "workers are served meanwhile: {} tasks", at_stop - at_start);
    assert_eq!(metrics.sum("taskbroker_kafka_up"), 0.0);
    assert_eq!(broker.probe("/healthz").await?.0, 200, "Kafka away is not unhealthy");

    tokio::task::block_in_place(|| kafka.start_again())?;
    let (answers, before) = (Instant::now(), records_read(&broker).await?);
    while records_read(&broker).await? <= before {
        assert!(answers.elapsed() < RESUMES_WITHIN, "nothing was read within {RESUMES_WITHIN:?} of Kafka's return");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let resumed = answers.elapsed();
    witness.await_all(Duration::from_secs(15)).await;
    assert_empty(&broker, WITHIN).await?;
    crew.dismiss().await;
    collect_dead(&kafka, &setup, &witness).await?;
    let tally = witness.vindicate();
    kafka.await_no_lag(&setup.group, &setup.topic, WITHIN).await?;
    eprintln!(
        "outage: {:.1?} away, {} served meanwhile, reading again {resumed:.1?} after its return; {tally}",
        answers - stopped,
        at_stop - at_start
    );
    Ok(())
}

async fn records_read(broker: &BrokerProcess) -> Result<f64> {
    Ok(broker.metrics().await?.of_labels("taskbroker_records_total", &["kind=\"read\""]))
}

/// A Kafka that accepts connections and does not answer is the worst case of a stop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_stop_in_order_while_kafka_is_frozen_and_a_second_one_ends_at_once() -> Result<()> {
    let Some(kafka) = Kafka::own() else { return Ok(()) };
    let mut brokers = Vec::new();
    for strategy in ["range", "range", "cooperative-sticky"] {
        // Each has a partition, which it cannot give back.
        let setup = setup(&kafka, 1).await?.with("kafka_assignment_strategy", strategy);
        let broker = BrokerProcess::start(&setup).await?;
        broker.await_partitions(1, WITHIN).await?;
        brokers.push((broker, setup));
    }
    // A cooperative member without a partition takes leave of its group in a way of its own.
    let idle = BrokerProcess::start(&brokers[2].1).await?;
    kafka.await_members(&brokers[2].1.group, 2).await?;
    let last = BrokerProcess::start(&setup(&kafka, 1).await?).await?;
    last.await_partitions(1, WITHIN).await?;
    let brokers = brokers.into_iter().map(|(broker, _)| broker);
    let mut brokers: Vec<_> = brokers.chain([idle, last]).collect();
    tokio::task::block_in_place(|| kafka.freeze())?;
    for (broker, signal) in brokers.iter_mut().zip(["TERM", "INT", "TERM", "TERM"]) {
        broker.signal(signal)?;
    }
    let signalled = Instant::now();
    for broker in &mut brokers[..4] {
        let ended = broker.ended(STOPS_WITHIN.saturating_sub(signalled.elapsed())).await?;
        assert!(ended.status.success(), "{}", ended.status);
        eprintln!("stopped with Kafka frozen, seen after {:?}", signalled.elapsed());
    }
    // A second signal ends at once.
    brokers[4].signal("TERM")?;
    tokio::time::sleep(Duration::from_millis(600)).await;
    brokers[4].signal("TERM")?;
    let ended = brokers[4].ended(Duration::from_secs(1)).await?;
    assert_eq!(ended.status.code(), Some(1));
    tokio::task::block_in_place(|| kafka.thaw())
}

/// A task that must not run twice is in the store, and the group's position is not above it yet: another broker may read it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_most_once_is_kept_until_kafka_acknowledges_and_runs_once_when_another_broker_takes_over() -> Result<()> {
    let Some(kafka) = Kafka::own() else { return Ok(()) };
    let setup = setup(&kafka, 1).await?.with("kafka_session_timeout_ms", 1500).with("store.linger", "0ms");
    let mut first = BrokerProcess::start(&setup.clone().with("store.max_pending_count", 1)).await?;
    let (ahead, once) = (Task::new(), Task::new().at_most_once().dead_letter());
    crate::produce(&kafka, &setup.topic, [ahead.clone(), once.clone()]).await?;
    // There is room for one; the other is fetched, and waits in the client.
    let deadline = Instant::now() + WITHIN;
    while kafka.committed(&setup.group, &setup.topic).await?.get(&0).is_none_or(|position| position.offset < 1) {
        assert!(Instant::now() < deadline, "the group's position does not follow");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Not frozen: a commit that waits in a socket would be taken when it thaws.
    tokio::task::block_in_place(|| kafka.kill())?;
    let mut worker = first.worker()?;
    assert_eq!(worker.fetch().await?.unwrap().id, ahead.id());
    let deadline = Instant::now() + WITHIN;
    while !first.stored().await?.iter().any(|task| task.id == once.id()) {
        assert!(Instant::now() < deadline, "the task does not become a row:\n{}", first.log().tail(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(worker.fetch_within(Duration::from_secs(1)).await?, None, "nobody acknowledged the position above it");

    first.kill().await?;
    tokio::task::block_in_place(|| kafka.start_again())?;
    let second = BrokerProcess::start(&setup).await?;
    let mut other = second.worker()?;
    let task = other.fetch_within(WITHIN).await?.unwrap();
    assert_eq!(task.id, once.id());
    other.complete(&task.id).await?;
    kafka.await_no_lag(&setup.group, &setup.topic, WITHIN).await?;
    drop(second);
    first.start_again().await?;
    first.await_partitions(1, WITHIN).await?;
    worker.complete(&ahead.id()).await?;
    assert_empty(&first, WITHIN).await?;
    assert_eq!(worker.fetch().await?, None, "it never comes again");
    assert_eq!(kafka.consume_all(&setup.dead_letters).await?.len(), 1, "here it failed in doubt");
    Ok(())
}

/// Its topics have the same names and other ids, and its groups know nothing. A running broker reads all that is in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kafka_that_was_wiped_and_grew_again_is_read_from_its_start() -> Result<()> {
    let Some(kafka) = Kafka::own() else { return Ok(()) };
    let setup = setup(&kafka, 1).await?.with("store.linger", "0ms");
    let broker = BrokerProcess::start(&setup).await?;
    let old = crate::produce(&kafka, &setup.topic, tasks(8)).await?;
    let mut worker = broker.worker()?;
    let first = worker.fetch_within(WITHIN).await?.unwrap();
    worker.complete(&first.id).await?;
    kafka.await_no_lag(&setup.group, &setup.topic, WITHIN).await?;

    tokio::task::block_in_place(|| kafka.wipe())?;
    setup.create_topics(&kafka, 1).await?;
    let new = crate::produce(&kafka, &setup.topic, tasks(5)).await?;
    let mut came = BTreeSet::new();
    while came.len() < old.len() - 1 + new.len() {
        let task = worker.fetch_within(WITHIN).await?.unwrap_or_else(|| panic!("only {} came", came.len()));
        worker.complete(&task.id).await?;
        assert!(came.insert(task.id), "each comes once");
    }
    assert!(old[1..].iter().chain(&new).all(|id| came.contains(id)));
    kafka.await_no_lag(&setup.group, &setup.topic, WITHIN).await?;
    assert_empty(&broker, WITHIN).await
}
