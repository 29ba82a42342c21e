//! Everything that was produced is completed exactly once.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use taskbroker_support::{broker::BrokerProcess, kafka::Kafka};

use super::{
    broker,
    crew::{Crew, assert_empty, produce},
    scale,
    witness::{Kind, Witness},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_workers_complete_everything_exactly_once() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let (setup, broker) = broker(&kafka, 4).await?;
    let witness = Arc::new(Witness::default());
    produce(&kafka, &setup, &witness, &[Kind::Plain], scale::drain()).await?;

    let began = Instant::now();
    let mut crew = Crew::new(&witness, 0);
    crew.serve(&broker, 16)?;
    witness.await_all(Duration::from_secs(20)).await;
    let took = began.elapsed();
    crew.dismiss().await;

    assert_eq!(witness.not_exactly_once(), Vec::<String>::new());
    let tally = witness.vindicate();
    kafka.await_no_lag(&setup.group, &setup.topic, Duration::from_secs(10)).await?;
    assert_empty(&broker, Duration::from_secs(5)).await?;
    assert_eq!(broker.log().errors(), Vec::<String>::new());
    eprintln!("drain: {tally}; {took:.2?}, {:.0} a second", tally.produced as f64 / took.as_secs_f64());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_holds_on_the_store_in_memory() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let setup = super::setup(&kafka, 2).await?.with("store.adapter", "memory").with("store.linger", "0ms");
    let broker = BrokerProcess::start(&setup).await?;
    let witness = Arc::new(Witness::default());
    produce(&kafka, &setup, &witness, &[Kind::Plain], 500).await?;

    let mut crew = Crew::new(&witness, 0);
    crew.serve(&broker, 4)?;
    witness.await_all(Duration::from_secs(20)).await;
    crew.dismiss().await;

    assert_eq!(witness.not_exactly_once(), Vec::<String>::new());
    witness.vindicate();
    kafka.await_no_lag(&setup.group, &setup.topic, Duration::from_secs(10)).await?;
    assert!(!broker.store_path().exists(), "nothing is written to a file");
    assert_eq!(broker.log().errors(), Vec::<String>::new());
    Ok(())
}
