//! Two brokers in one group: orderly rebalances under load lose nothing and repeat nothing.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use taskbroker_support::{broker::BrokerProcess, kafka::Kafka};

use super::{
    crew::{Crew, Producer, assert_empty},
    setup,
    witness::{Kind, Witness},
};

const WITHIN: Duration = Duration::from_secs(20);

/// One broker; a second joins, leaves in good order, and comes back, all under load.
async fn rebalances_in_order(strategy: &str) -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let setup = setup(&kafka, 4).await?.with("kafka_assignment_strategy", strategy);
    let first = BrokerProcess::start(&setup).await?;
    let witness = Arc::new(Witness::default());
    let mut crew = Crew::new(&witness, 50);
    crew.serve(&first, 8)?;
    first.await_partitions(4, WITHIN).await?;
    let kinds = [Kind::Plain, Kind::Plain, Kind::AtMostOnce, Kind::Plain, Kind::RetryOnce];
    let producer = Producer::start(&kafka, &setup, &witness, &kinds, 8);

    let mut second = BrokerProcess::start(&setup).await?;
    crew.serve(&second, 8)?;
    second.await_partitions(2, WITHIN).await?;
    tokio::time::sleep(Duration::from_millis(700)).await;
    second.stop().await?;
    first.await_partitions(4, WITHIN).await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    second.start_again().await?;
    second.await_partitions(2, WITHIN).await?;
    tokio::time::sleep(Duration::from_millis(300)).await;

    producer.stop().await?;
    witness.await_all(Duration::from_secs(12)).await;
    crew.dismiss().await;
    let tally = witness.vindicate();
    assert_eq!(tally.repeated, 0);
    for broker in [&first, &second] {
        assert_empty(broker, WITHIN).await?;
        assert_eq!(broker.log().errors(), Vec::<String>::new());
    }
    kafka.await_no_lag(&setup.group, &setup.topic, WITHIN).await?;
    eprintln!("rebalance {strategy}: {tally}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eager_members_rebalance_without_loss_or_repetition() -> Result<()> {
    rebalances_in_order("range,roundrobin").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cooperative_members_rebalance_without_loss_or_repetition() -> Result<()> {
    rebalances_in_order("cooperative-sticky").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_by_the_consumer_protocol_rebalance_without_loss_or_repetition() -> Result<()> {
    rebalances_in_order("consumer").await
}
