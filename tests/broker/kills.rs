//! `kill -9` at random moments under load.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use taskbroker_support::{broker::BrokerProcess, kafka::Kafka};

use super::{
    crew::{Crew, Producer, assert_empty, collect_dead},
    scale,
    seed::Chance,
    setup,
    witness::{Kind, Witness},
};

/// What is in the load, most of it plain.
const LOAD: [Kind; 10] = [
    Kind::Plain,
    Kind::Plain,
    Kind::AtMostOnce,
    Kind::Plain,
    Kind::RetryOnce,
    Kind::Plain,
    Kind::Delayed,
    Kind::Plain,
    Kind::Fails,
    Kind::Plain,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_under_load_lose_nothing_and_what_was_answered_never_comes_again() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let seed = scale::seed();
    eprintln!("kills: TASKBROKER_TEST_SEED={seed}");
    let mut chance = Chance::of(seed);
    // A static member takes its partitions back at once: a new one would wait for the session of the killed one to end.
    let setup = setup(&kafka, 4).await?.with("store.hold_after_crash", "500ms").with("kafka_group_instance_id", "only");
    let mut broker = BrokerProcess::start(&setup).await?;
    let witness = Arc::new(Witness::default());
    let mut crew = Crew::new(&witness, 40);
    crew.serve(&broker, 16)?;
    let producer = Producer::start(&kafka, &setup, &witness, &LOAD, 20);

    for _ in 0..scale::kills() {
        tokio::time::sleep(chance.millis(300..2500)).await;
        broker.kill().await?;
        witness.crashed();
        broker.start_again().await?;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    producer.stop().await?;
    witness.await_all(Duration::from_secs(12)).await;
    assert_empty(&broker, Duration::from_secs(20)).await?;
    crew.dismiss().await;
    kafka.await_no_lag(&setup.group, &setup.topic, Duration::from_secs(10)).await?;
    collect_dead(&kafka, &setup, &witness).await?;
    let tally = witness.vindicate();
    assert_eq!(broker.log().errors(), Vec::<String>::new());
    eprintln!("kills: {} rounds; {tally}", scale::kills());
    Ok(())
}
