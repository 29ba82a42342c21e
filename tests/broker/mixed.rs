//! Groups whose members are not all alike: an earlier kind of broker among ours, and members that keep a name of their own.

use std::time::Duration;

use anyhow::{Context, Result};
use rdkafka::{
    ClientConfig,
    consumer::{CommitMode, Consumer, StreamConsumer},
    message::Message as _,
};
use taskbroker_support::{
    broker::{BrokerProcess, Setup},
    kafka::Kafka,
};

use super::{
    setup,
    storm::{READ_WITHIN, produce, roomy},
};

/// A member as the existing brokers are: eager, `range`, commits what it has read.
struct Earlier {
    consumer: StreamConsumer,
}

impl Earlier {
    fn join(kafka: &Kafka, setup: &Setup) -> Result<Self> {
        let consumer: StreamConsumer = ClientConfig::new()
            .set("bootstrap.servers", kafka.address())
            .set("group.id", &setup.group)
            .set("session.timeout.ms", "6000")
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .create()?;
        consumer.subscribe(&[&setup.topic])?;
        Ok(Self { consumer })
    }

    /// Reads so many and commits each.
    async fn take(&self, count: usize) -> Result<Vec<String>> {
        let mut ids = Vec::new();
        while ids.len() < count {
            let message = tokio::time::timeout(READ_WITHIN, self.consumer.recv()).await.context("nothing comes")??;
            let task = <taskbroker_proto::pb::TaskActivation as prost::Message>::decode(
                message.payload().unwrap_or_default(),
            )?;
            self.consumer.commit_message(&message, CommitMode::Sync)?;
            ids.push(task.id);
        }
        Ok(ids)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_still_has_an_earlier_broker_is_switched_while_it_runs() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let setup = roomy(setup(&kafka, 4).await?, 1000);
    let earlier = Earlier::join(&kafka, &setup)?;
    let mut ids = produce(&kafka, &setup, 4, 100, Duration::ZERO).await?;
    let mut taken = earlier.take(100).await?;
    // One of ours joins: they share the partitions.
    let mut broker = BrokerProcess::start(&setup).await?;
    let polling = async {
        // The earlier one has to be asked, so that it hears of the rebalance.
        loop {
            drop(tokio::time::timeout(Duration::from_millis(100), earlier.consumer.recv()).await);
        }
    };
    tokio::select! {
        () = polling => {}
        shared = broker.await_partitions(2, READ_WITHIN) => shared?,
    }
    ids.extend(produce(&kafka, &setup, 4, 100, Duration::ZERO).await?);
    taken.extend(earlier.take(50).await?);
    // It leaves: the rest is ours.
    drop(earlier);
    broker.await_partitions(4, READ_WITHIN).await?;
    ids.extend(produce(&kafka, &setup, 4, 100, Duration::ZERO).await?);
    kafka.await_no_lag(&setup.group, &setup.topic, READ_WITHIN).await?;
    assert_eq!(broker.stop().await?.status.code(), Some(0));
    taken.extend(broker.stored().await?.into_iter().map(|task| task.id));
    taken.sort_unstable();
    ids.sort_unstable();
    assert_eq!(taken, ids, "each is with one of the two, once");
    assert_eq!(broker.log().errors(), Vec::<String>::new());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_static_member_that_comes_back_in_time_disturbs_nobody() -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let setup = roomy(setup(&kafka, 4).await?, 1000).with("kafka_session_timeout_ms", 45_000);
    let mut broker = BrokerProcess::start(&setup.clone().with("kafka_group_instance_id", "first")).await?;
    broker.await_partitions(4, READ_WITHIN).await?;
    let other = BrokerProcess::start(&setup.clone().with("kafka_group_instance_id", "second")).await?;
    other.await_partitions(2, READ_WITHIN).await?;
    broker.await_partitions(2, READ_WITHIN).await?;
    let mark = other.log().mark();
    broker.kill().await?;
    broker.start_again().await?;
    broker.await_partitions(2, READ_WITHIN).await?;
    let ids = produce(&kafka, &setup, 4, 40, Duration::ZERO).await?;
    kafka.await_no_lag(&setup.group, &setup.topic, READ_WITHIN).await?;
    let revoked = other.log().since(mark).into_iter().filter(|line| line.contains("revoked") || line.contains("lost"));
    assert_eq!(revoked.collect::<Vec<_>>(), Vec::<String>::new());
    let both = broker.stored().await?.len() + other.stored().await?.len();
    assert_eq!(both, ids.len());
    Ok(())
}
