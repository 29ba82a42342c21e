//! Limits while brokers come and go: none ever takes in more than it may hold.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use taskbroker_support::{
    broker::{BrokerProcess, Metrics},
    kafka::Kafka,
};
use tokio::task::JoinSet;

use super::{
    crew::{Crew, Producer, assert_empty},
    scale,
    seed::Chance,
    setup,
    storm::Member,
    witness::{Kind, Witness},
};

/// How many tasks may wait at a broker.
const PENDING_MAX: usize = 60;
const BROKERS: u64 = 3;
const STORM: Duration = Duration::from_secs(8);
const WITHIN: Duration = Duration::from_secs(60);

/// What was seen of the brokers' depths.
#[derive(Debug, Default)]
struct Depths {
    pending: f64,
    looks: usize,
}

impl Depths {
    /// Looks at all of them until `end`. One that is down says nothing.
    async fn watch(ports: Vec<u16>, end: Instant) -> Self {
        let mut most = Self::default();
        while Instant::now() < end {
            for port in &ports {
                let Ok(metrics) = Metrics::of(*port).await else { continue };
                most.pending = most.pending.max(metrics.of_labels("taskbroker_depth", &["state=\"pending\""]));
                most.looks += 1;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        most
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_that_come_and_go_under_load_keep_to_their_limits_and_hand_out_everything_once() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let seed = scale::seed();
    eprintln!("limits: TASKBROKER_TEST_SEED={seed}");
    let setup = setup(&kafka, 6)
        .await?
        .with("kafka_assignment_strategy", "cooperative-sticky")
        .with("store.max_pending_count", PENDING_MAX);
    let witness = Arc::new(Witness::default());
    // Slower than the producer.
    let mut crew = Crew::new(&witness, 60);
    let (mut members, mut ports) = (JoinSet::new(), Vec::new());
    let end = Instant::now() + STORM;
    for number in 0..BROKERS {
        let broker = BrokerProcess::start(&setup).await?;
        crew.serve(&broker, 8)?;
        ports.push(broker.http_port());
        members.spawn(Member { broker, chance: Chance::of(seed + number) }.live(end));
    }
    let producer = Producer::start(&kafka, &setup, &witness, &[Kind::Plain, Kind::RetryOnce, Kind::AtMostOnce], 30);
    let watching = tokio::spawn(Depths::watch(ports, end));
    let mut survivors = Vec::new();
    while let Some(member) = members.join_next().await {
        survivors.push(member??.broker);
    }
    producer.stop().await?;
    let depths = watching.await?;
    witness.await_all(WITHIN).await;
    crew.dismiss().await;
    let tally = witness.vindicate();
    eprintln!("limits: {tally}; {depths:?}");
    assert_eq!(tally.repeated, 0);
    assert!(depths.pending <= PENDING_MAX as f64, "{depths:?}");
    assert!(depths.pending >= PENDING_MAX as f64 / 2.0, "the limit was not tried: {depths:?}");
    for broker in &survivors {
        assert_empty(broker, WITHIN).await?;
        assert_eq!(broker.log().errors(), Vec::<String>::new());
    }
    kafka.await_no_lag(&setup.group, &setup.topic, WITHIN).await
}
