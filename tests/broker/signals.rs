//! Orderly stops.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use taskbroker_support::{
    broker::{BrokerProcess, Setup},
    kafka::Kafka,
};

use super::{
    BINARY, broker,
    crew::{Crew, assert_empty, produce},
    witness::{Kind, Witness},
};

const WITHIN: Duration = Duration::from_secs(10);

/// Stops a broker under load with a signal, starts it again, and expects every task exactly once.
async fn stops_in_order_on(signal: &str) -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let (setup, mut broker) = broker(&kafka, 2).await?;
    let witness = Arc::new(Witness::default());
    produce(&kafka, &setup, &witness, &[Kind::Plain, Kind::AtMostOnce], 600).await?;
    let mut crew = Crew::new(&witness, 60);
    crew.serve(&broker, 8)?;
    broker.await_partitions(2, Duration::from_secs(15)).await?;
    while witness.open() > 500 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    broker.signal(signal)?;
    let ended = broker.ended(WITHIN).await?;
    assert!(ended.status.success(), "{}", ended.status);
    let stored = broker.stored().await?;
    let odd = stored.iter().find(|task| task.status != "Pending" && task.status != "Processing");
    assert_eq!(odd, None, "what is done is settled");
    assert!(!stored.is_empty(), "what was in flight is in the store");
    broker.start_again().await?;
    witness.await_all(Duration::from_secs(10)).await;
    crew.dismiss().await;
    assert_eq!(witness.not_exactly_once(), Vec::<String>::new(), "an orderly stop repeats nothing");
    witness.vindicate();
    assert_empty(&broker, WITHIN).await?;
    assert_eq!(broker.log().errors(), Vec::<String>::new());
    eprintln!("{signal}: stopped in {:?}", ended.took);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_stops_in_order_and_nothing_is_repeated() -> Result<()> {
    stops_in_order_on("TERM").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigint_under_load_stops_in_order_and_nothing_is_repeated() -> Result<()> {
    stops_in_order_on("INT").await
}

/// An address at which nobody answers.
fn nobody() -> Result<String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.to_string())
}

#[tokio::test]
async fn a_broker_without_kafka_is_ready_and_stops_with_0() -> Result<()> {
    for signal in ["TERM", "INT"] {
        let mut broker = BrokerProcess::start(&Setup::without_topics(&nobody()?, BINARY)).await?;
        assert_eq!(broker.worker()?.fetch().await?, None, "it answers workers");
        broker.log().await_line(0, "no connection to Kafka", WITHIN).await?;
        assert_eq!(broker.probe("/healthz").await?.0, 200, "Kafka away is not unhealthy");
        broker.signal(signal)?;
        let ended = broker.ended(WITHIN).await?;
        assert!(ended.status.success(), "{signal}: {}", ended.status);
        eprintln!("{signal} without Kafka: stopped in {:?}", ended.took);
    }
    Ok(())
}
