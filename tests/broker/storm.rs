//! Rebalancing under fire: brokers of one group are stopped and started at random while messages come. Nobody works on them:
//! what was read stays as rows, so that it can be counted.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rdkafka::{
    ClientConfig,
    consumer::{CommitMode, Consumer, StreamConsumer},
    message::Message as _,
};
use taskbroker_support::{
    broker::{BrokerProcess, Setup, Task},
    kafka::{Kafka, Message},
};
use tokio::task::JoinSet;

use super::{scale, seed::Chance, setup};

/// A supervisor's patience with a broker that is to stop.
const STOPS_WITHIN: Duration = Duration::from_secs(10);
/// How long the group may take to read everything after the last change.
const READ_WITHIN: Duration = Duration::from_secs(180);

/// Room for all at any one broker.
fn roomy(setup: Setup, count: usize) -> Setup {
    let count = count + 1;
    setup
        .with("store.max_pending_count", count)
        .with("store.max_size", 4_000_000_000_u64)
        .with("log_filter", "info,librdkafka=warn,h2=off")
}

/// Produces so many, a hundredth of them at a time with a pause after each.
async fn produce(kafka: &Kafka, setup: &Setup, partitions: i32, count: usize, pause: Duration) -> Result<Vec<String>> {
    let mut ids = Vec::with_capacity(count);
    for (number, chunk) in (0..count).collect::<Vec<_>>().chunks(count.div_ceil(100)).enumerate() {
        let tasks: Vec<Task> = chunk.iter().map(|_| Task::new()).collect();
        ids.extend(tasks.iter().map(Task::id));
        let place = |index: usize| i32::try_from(number + index).unwrap_or_default() % partitions;
        let messages =
            tasks.iter().enumerate().map(|(index, task)| Message::new(task.encode()).partition(place(index)));
        kafka.produce(&setup.topic, messages).await?;
        tokio::time::sleep(pause).await;
    }
    Ok(ids)
}

/// A broker with a store of its own, which is stopped and started.
struct Member {
    broker: BrokerProcess,
    chance: Chance,
}

impl Member {
    /// Stops and starts until `end`; runs when it returns.
    async fn live(mut self, end: Instant) -> Result<Self> {
        while Instant::now() < end {
            tokio::time::sleep(self.chance.millis(500..5000)).await;
            let ended = self.broker.stop().await?;
            anyhow::ensure!(ended.status.code() == Some(0), "{ended:?}\n{}", self.broker.log().tail(30));
            anyhow::ensure!(ended.took < STOPS_WITHIN, "{ended:?}\n{}", self.broker.log().tail(30));
            tokio::time::sleep(self.chance.millis(50..2000)).await;
            self.broker.start_again().await?;
        }
        Ok(self)
    }
}

/// How often each of these ids is stored, over all files.
async fn stored(members: &[Member]) -> Result<BTreeMap<String, usize>> {
    let mut stored = BTreeMap::new();
    for member in members {
        for task in member.broker.stored().await? {
            *stored.entry(task.id).or_default() += 1;
        }
    }
    Ok(stored)
}

async fn storm(strategy: &str) -> Result<()> {
    let Some(kafka) = Kafka::shared() else { return Ok(()) };
    let (brokers, count, storm) = (scale::storm_brokers(), scale::storm_tasks(), scale::storm());
    let seed = scale::seed();
    eprintln!("storm {strategy}: {brokers} brokers, {count} messages, {storm:?}, TASKBROKER_TEST_SEED={seed}");
    let partitions = i32::try_from(4 * brokers)?;
    let setup = roomy(setup(&kafka, partitions).await?, count).with("kafka_assignment_strategy", strategy);
    let mut members = JoinSet::new();
    let end = Instant::now() + storm;
    for number in 0..brokers {
        let member = Member { broker: BrokerProcess::start(&setup).await?, chance: Chance::of(seed + number) };
        members.spawn(member.live(end));
    }
    let ids = produce(&kafka, &setup, partitions, count, storm / 110).await?;
    let mut survivors = Vec::new();
    while let Some(member) = members.join_next().await {
        survivors.push(member??);
    }
    kafka.await_no_lag(&setup.group, &setup.topic, READ_WITHIN).await?;
    for member in &mut survivors {
        let ended = member.broker.stop().await?;
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        assert!(ended.took < STOPS_WITHIN, "{ended:?}");
        assert_eq!(member.broker.log().errors(), Vec::<String>::new());
    }
    let stored = stored(&survivors).await?;
    let missing: Vec<&String> = ids.iter().filter(|id| !stored.contains_key(*id)).take(5).collect();
    let repeated: Vec<_> = stored.iter().filter(|(_, times)| **times > 1).take(5).collect();
    let repeats = stored.values().filter(|times| **times > 1).count();
    eprintln!("storm {strategy}: {} of {count} stored, {repeats} more than once", stored.len());
    assert_eq!((stored.len(), missing.len(), repeats), (count, 0, 0), "missing {missing:?}, repeated {repeated:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eager_brokers_that_come_and_go_store_every_message_exactly_once() -> Result<()> {
    storm("range").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cooperative_brokers_that_come_and_go_store_every_message_exactly_once() -> Result<()> {
    storm("cooperative-sticky").await
}

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
