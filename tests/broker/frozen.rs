//! A broker that is frozen longer than its session: another takes over, and the frozen one comes back.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Result;
use taskbroker_support::{
    broker::{BrokerProcess, Setup},
    kafka::Kafka,
};
use tokio_util::sync::CancellationToken;

use super::{
    crew::{Crew, Producer, assert_empty, collect_dead},
    setup,
    witness::{Kind, Witness},
};

const WITHIN: Duration = Duration::from_secs(20);
const SESSION_MS: u64 = 1500;

/// Watches the group's positions, and says where one went back.
struct Positions {
    stop: CancellationToken,
    watching: tokio::task::JoinHandle<Result<Vec<String>>>,
}

impl Positions {
    fn watch(kafka: &Kafka, setup: &Setup) -> Self {
        let stop = CancellationToken::new();
        let (kafka, setup, stopped) = (kafka.clone(), setup.clone(), stop.clone());
        let watching = tokio::spawn(async move {
            let (mut highest, mut back) = (BTreeMap::new(), Vec::new());
            while !stopped.is_cancelled() {
                for (partition, position) in kafka.committed(&setup.group, &setup.topic).await? {
                    let before = highest.insert(partition, position.offset).unwrap_or(0);
                    if position.offset < before {
                        back.push(format!("{partition}: {before} -> {}", position.offset));
                    }
                }
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
            Ok(back)
        });
        Self { stop, watching }
    }

    async fn went_back(self) -> Result<Vec<String>> {
        self.stop.cancel();
        self.watching.await?
    }
}

/// Two brokers under load; each in turn is frozen until the other has taken over, and comes back.
async fn survives_freezes(setup: Setup, kafka: &Kafka, kinds: &[Kind]) -> Result<()> {
    let setup = setup
        .with("kafka_session_timeout_ms", SESSION_MS)
        .with("kafka_commit_interval", "1ms")
        .with("store.absent_partition_limit", "3s");
    let mut brokers = [BrokerProcess::start(&setup).await?, BrokerProcess::start(&setup).await?];
    let witness = Arc::new(Witness::of_takeovers());
    let mut crew = Crew::new(&witness, 30);
    for broker in &brokers {
        crew.serve(broker, 6)?;
        broker.await_partitions(2, WITHIN).await?;
    }
    let positions = Positions::watch(kafka, &setup);
    let producer = Producer::start(kafka, &setup, &witness, kinds, 10);
    tokio::time::sleep(Duration::from_millis(500)).await;
    for _ in 0..2 {
        let [frozen, other] = &brokers;
        let marks = [frozen.log().mark(), other.log().mark()];
        frozen.signal("STOP")?;
        other.await_partitions(4, WITHIN).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        frozen.signal("CONT")?;
        frozen.log().await_line(marks[0], "partitions lost", WITHIN).await?;
        frozen.await_partitions(2, WITHIN).await?;
        other.await_partitions(2, WITHIN).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        brokers.reverse();
    }
    producer.stop().await?;
    witness.await_all(Duration::from_secs(12)).await;
    for broker in &brokers {
        assert_empty(broker, WITHIN).await?;
        assert_eq!(broker.log().errors(), Vec::<String>::new());
    }
    crew.dismiss().await;
    collect_dead(kafka, &setup, &witness).await?;
    let tally = witness.vindicate();
    assert_eq!(positions.went_back().await?, Vec::<String>::new(), "a late commit undid a later one");
    kafka.await_no_lag(&setup.group, &setup.topic, WITHIN).await?;
    eprintln!("frozen: {tally}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_lost_while_frozen_loses_nothing_and_its_late_commits_change_nothing() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    survives_freezes(setup(&kafka, 4).await?, &kafka, &[Kind::Plain, Kind::Plain, Kind::RetryOnce]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_lost_while_a_commit_is_under_way_loses_nothing() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    // Without a window there is always a commit under way.
    let setup = setup(&kafka, 4).await?.with("store.linger", "0ms");
    survives_freezes(setup, &kafka, &[Kind::Plain]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_brokers_that_take_over_from_each_other_never_hand_out_at_most_once_twice() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    survives_freezes(setup(&kafka, 4).await?, &kafka, &[Kind::AtMostOnce, Kind::AtMostOnce, Kind::Plain]).await
}
